"""`llmrl compare` as a process."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from report.runs_on_disk import make_run, make_runs

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
    assert "  to 80 %: no claim (dqn_prior has 3 of 10 seeds; dqn has 3 of 10 seeds)" in shown
    assert json.loads((tmp_path / "c.json").read_text())["pairs"][0]["ratios"][0]["low"] == 7
    assert "| dqn_prior | 100 (no interval; 3 of 3 seeds) |" in (tmp_path / "c.md").read_text()
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
        (["dqn", "--against", "dqn_prior", "--out", "c.txt"], 2, "the name has to end with .md"),
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


def worlds(root: Path) -> None:
    """Two learners in two worlds, one of them with two budgets."""
    for learner in ("dqn_prior", "dqn"):
        for world in (["env=overcooked_tomato", "env_steps=400"], ["env=overcooked_tomato"], ["env=frozen_lake"]):
            seeds = range(2 if world[-1] == "env_steps=400" else 3)
            make_runs(root, [f"learner={learner}", *world], seeds, lambda seed: lambda step: 0.5, 1000, 250)


def suggested(done: subprocess.CompletedProcess[str]) -> list[str]:
    said, command = done.stderr.strip().rsplit("\n", 1)
    assert said.endswith("this works:")
    words = shlex.split(command)
    assert words[:2] == ["llmrl", "compare"]
    return words[2:]


def test_key_and_value_narrow_both_sides_wherever_they_stand(compare: Compare, tmp_path: Path) -> None:
    worlds(tmp_path / "w")
    narrow, here = ["env=overcooked_tomato", "env_steps=4000"], ["--runs", "w"]
    first = compare("dqn_prior", "--against", "dqn", *narrow, *here).stdout
    assert first.startswith("overcooked_tomato: ")
    assert compare("dqn_prior", *narrow, "--against", "dqn", *here).stdout == first
    assert compare(*narrow, "learner=dqn_prior", "--against", "learner=dqn", *here).stdout == first
    alone = compare("dqn_prior", "--against", "learner=dqn", *narrow, *here).stdout
    note = "learner=dqn narrows its own side alone: no run of the other side has it"
    assert " ".join(alone.split()).replace(f"{note} ", "") == " ".join(first.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["dqn_prior", "--against", "dqn"],
        ["dqn_prior", "--against", "dqn", "env=overcooked_tomato"],
        ["learner=dqn_prior", "--against", "learner=dqn", "--at", "40", "--x", "lm/distinct_prompts"],
        ["dqn_prior", "env_steps=400", "--against", "frozen_lake"],
        ["dqn", "--against", "overcooked_tomato"],
    ],
)
def test_a_refusal_names_a_command_that_works(compare: Compare, tmp_path: Path, words: list[str]) -> None:
    worlds(tmp_path / "with a blank")
    refused = compare(*words, "--runs", "with a blank", code=2)
    command = suggested(refused)
    assert compare(*command).stdout
    for option in ("--at", "--x"):
        if option in words:
            assert command[command.index(option) + 1] == words[words.index(option) + 1]


def test_what_tells_runs_apart_is_quoted(compare: Compare, tmp_path: Path) -> None:
    make_run(tmp_path / "q", ["env=overcooked_tomato", "learner=dqn"], lambda step: 0.5)
    for template in (r"It\'s {{ observation }}, $HOME", "{{ observation }} = a, b"):
        overrides = ["env=overcooked_tomato", f"prompt.template='{template}'"]
        make_run(tmp_path / "q", overrides, lambda step: 0.5)
    for learning_rate in (0.1, 0.2):
        make_run(tmp_path / "q", ["env=overcooked_tomato", f"learner.lr={learning_rate}"], lambda step: 0.5)
    command = suggested(compare("dqn", "--against", "dqn_prior", "--runs", "q", code=2))
    assert any(word.startswith(("prompt.template=", "learner.lr=")) for word in command)
    assert "--allow-dirty" in command
    assert compare(*command).stdout


def test_runs_that_no_setting_tells_apart_are_named_by_their_folders(compare: Compare, tmp_path: Path) -> None:
    overrides = ["learner=dqn", "env=overcooked_tomato"]
    for folder in ("one", "two"):
        make_runs(tmp_path / folder, overrides, range(2), lambda seed: lambda step: 0.5, 1000, 250)
    command = suggested(compare("one", "two", "--against", "two", code=2))
    assert {word.partition("/")[0] for word in command} == {"one", "two", "--against"}
    assert compare(*command).stdout
