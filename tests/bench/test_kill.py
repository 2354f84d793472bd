"""scripts/bench/kill.py in short: few kills, two processes, a small world."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llmrl.answers.answers import AnswerCache, canonical
from scripts.bench import kill

SMALL = [
    "env=overcooked_tomato", "env.max_decisions=8", "env_steps=96", "rollout.num_envs=4", "evaluation.every=48",
    "evaluation.episodes=2", "evaluation.exact_up_to=0", "learner.learning_starts=16", "learner.batch=8",
    "learner.hidden=[16]", "encoder.dim=16", "checkpoint_every=16", "progress=false",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_killed_at_random_moments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill, "SIGNALS", (signal.SIGKILL,))  # tests/cli/test_resume.py sends the others
    assert kill.kill_one_run(tmp_path, SMALL, 2, random.Random(1)) == []
    said = capsys.readouterr().out
    assert "2 kills of " in said
    assert "the same bytes" in said


@pytest.mark.slow
def test_processes_that_share_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "SEEDS", (0, 1))
    assert kill.share_one_cache(tmp_path, SMALL, 1, random.Random(0)) == []
    assert kill.kept(tmp_path / "shared.sqlite3")


def test_an_answer_that_is_kept_twice_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "kept.sqlite3"
    fields = {
        "engine": "e", "mode": "score", "parameters": None, "text": "Next:",
        "model": {"model": "m", "revision": "0", "dtype": "float32", "tokenizer": "0"},
    }  # fmt: skip
    cache = AnswerCache(file)
    cache.add({canonical(fields): {"wait": [-1.0, 1]}}, {})
    cache.close()
    ((key, answers),) = kill.kept(file).items()
    assert answers == {"wait": [-1.0, 1]}
    with closing(sqlite3.connect(file)) as db:
        db.execute("INSERT INTO answers VALUES (?, 1, ?, 1, '2026-01-01')", (key, json.dumps({"wait": [-2.0, 1]})))
        db.commit()
    with pytest.raises(SystemExit, match="kept"):
        kill.kept(file)
