"""`llmrl compare` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from report.runs_on_disk import make_runs

REPOSITORY = Path(__file__).parent.parent.parent
Compare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    environ = {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80", "OMP_NUM_THREADS": "1", "NO_COLOR": "1",
        "TERM": "dumb",
    }  # fmt: skip
    for learner, at in (("dqn_prior", 100), ("dqn", 700)):
        overrides = [f"learner={learner}", "env=overcooked_salad", "env_steps=1000", "evaluation.every=100"]
        make_runs(
            tmp_path / "runs", overrides, range(3), lambda seed, at=at: lambda step: step >= at, 1000, 100, exact=False
        )

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llmrl", "compare", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return run


def test_two_groups_in_tables_files_and_a_picture(compare: Compare, tmp_path: Path) -> None:
    files = ["c.md", "c.json", "c.png"]
    outs = [word for file in files for word in ("--out", file)]
    shown = compare("dqn_prior", "--against", "learner=dqn", "--at", "80", *outs).stdout.splitlines()
    assert shown[0] == "overcooked_salad: success over decisions, 11 evaluations"
    assert max(map(len, shown)) <= 80
    assert shown[-3:] == files
    assert "  to 80 %: no claim (dqn_prior has 3 seeds, not 10; dqn has 3 seeds, not 10)" in shown
    assert json.loads((tmp_path / "c.json").read_text())["pairs"][0]["ratios"][0]["low"] == 7
    assert "| dqn_prior | 100<br>100<br>3 of 3 seeds |" in (tmp_path / "c.md").read_text()
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_folders_as_a_shell_lists_them(compare: Compare, tmp_path: Path) -> None:
    priors, plain = (sorted(map(str, (tmp_path / "runs").glob(f"*-{name}-*"))) for name in ("dqn_prior", "dqn"))
    assert "7" in compare(*priors, "--against", *plain, "--x", "training_seconds").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["dqn"], 2, "two sides are needed"),
        (["dqn", "--against", "dqm"], 2, "did you mean dqn?"),
        (["dqn", "--against", "dqn_prior", "--att", "3"], 2, "no such option: --att"),
        (["dqn", "--against", "dqn_prior", "--at", "3,x"], 2, "expected percentages"),
        (["dqn", "--against", "dqn_prior", "--out", "c.txt"], 2, "what is written is .md"),
        (["dqn", "--against", "overcooked_salad"], 2, "3 runs are on both sides"),
    ],
)
def test_what_was_typed_wrongly_is_told_in_a_line(
    compare: Compare, arguments: list[str], code: int, message: str
) -> None:
    done = compare(*arguments, code=code)
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stdout == ""
