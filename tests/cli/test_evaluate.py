"""`llmrl evaluate` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "COLUMNS": "80",
        "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip


@pytest.mark.slow
def test_a_trained_agent_in_other_games(tmp_path: Path, environ: dict[str, str]) -> None:
    def llmrl(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llmrl", *words]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)

    training = ["learner=dqn", "env=household/pick", "env_steps=24", "env.max_decisions=6", "evaluation.episodes=1"]
    assert llmrl("train", *training).returncode == 0
    first = llmrl("evaluate", "dqn", "env.split=valid_unseen", "env.count=4", "--episodes", "2")
    assert first.returncode == 0, first.stderr
    heading, row, *rest = first.stdout.splitlines()
    assert heading.split() == ["run", "success", "95", "%", "interval", "length", "games", "episodes"]
    assert row.split()[-2:] == ["4", "8"]
    assert max(map(len, first.stdout.splitlines()[:-1])) <= 80
    assert (tmp_path / rest[-1] / "episodes.jsonl").is_file()
    assert llmrl("evaluate", "dqn", "env.split=valid_unseen", "env.count=4", "--episodes", "2").stdout == first.stdout
    for words, said in (
        (["dqn", "env.splt=dev"], "did you mean env.split=dev?"),
        (["nosuch"], "no run in runs/ has this in its name"),
        (["env.split=dev"], "which run?"),
        (["dqn", "learner.lr=1"], "it is too late to change this"),
    ):
        wrong = llmrl("evaluate", *words)
        assert wrong.returncode == 2
        assert said in wrong.stderr
        assert "Traceback" not in wrong.stderr
