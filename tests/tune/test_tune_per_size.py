"""Searches per size: what they learn from, and what a study is told of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from llmrl.config.compose import ConfigError
from llmrl.core.files import read_lines
from llmrl.run.load import load_runs
from llmrl.studies.study import Study
from llmrl.tune import per_size
from llmrl.tune.log import rank
from llmrl.tune.search import CONFIRMED
from llmrl.tune.space import Space

KITCHEN = "env=overcooked_random env.ingredients=1 env.max_decisions=8 data.file=data/dev.parquet"
SPACE = {
    "description": "as small as it gets",
    "overrides": [
        "learner=cql", "learner.batch=4", "learner.hidden=[4]", "encoder.dim=8", "encoder.history_turns=0",
        "evaluation.every=1000", "evaluation.exact_up_to=0", "evaluation.episodes=2", "data.size=20",
    ],
    "tasks": [KITCHEN],
    "seeds": [100],
    "trials": 3,
    "parameters": {"learner.gradient_steps": {"choices": [2, 4]}, "learner.backup": {"choices": ["max", "soft"]}},
}  # fmt: skip


Called = Callable[..., None]


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Called:
    """The script in an empty folder, with SPACE but for what is changed in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(per_size, "DATA", ["size=60", "mix=expert,random"])

    def call(changes: dict[str, object], *arguments: str) -> None:
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(SPACE | changes))
        monkeypatch.setattr(sys, "argv", ["per_size", "small.yaml", *arguments])
        per_size.main()

    return call


@pytest.mark.slow
def test_a_size_is_searched_once_and_told_as_a_study_takes_it(
    tmp_path: Path, called: Called, capsys: pytest.CaptureFixture[str]
) -> None:
    few = SPACE["overrides"] + ["learner.gradient_steps=3"]  # type: ignore[operator]
    parameters = {"learner.backup": {"choices": ["max", "soft"]}, "learner.c": {"low": 0.1, "high": 1.0}}
    space = {"overrides": few, "parameters": parameters}
    called(space, "--sizes", "40", "20", "--trials", "2")
    first = capsys.readouterr().out
    assert "data/dev.parquet: 60 transitions" in first
    logs = {size: (tmp_path / "tune" / f"small_{size}" / "trials.jsonl").read_bytes() for size in (20, 40)}
    assert all(log.count(b"\n") == 2 for log in logs.values())
    arm = yaml.safe_load(first.partition("# small\n")[2])
    assert list(arm["at"]) == [20, 40]
    assert all(isinstance(settings, list) for settings in arm["at"].values())

    shutil.rmtree(tmp_path / "data")  # nothing of it is needed any more
    called(space, "--sizes", "40", "20", "--trials", "2", "--print")
    assert capsys.readouterr().out == "# small\n" + first.partition("# small\n")[2]

    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({"seeds": 1, "sizes": [20, 40], "arms": {"cql": {"set": ["learner=cql"], **arm}}}))
    cells = list(Study.read(study).cells())
    assert all(set(arm["at"][cell.size]) <= set(cell.overrides) for cell in cells)


@pytest.mark.slow
def test_the_best_trials_are_run_with_more_seeds(
    tmp_path: Path, called: Called, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["learner=bc", *SPACE["overrides"][1:], "learner.gradient_steps=3"]  # type: ignore[index]
    space = {"overrides": few, "parameters": {"learner.alpha": {"low": 0.1, "high": 1.0}}}
    called(space, "--sizes", "20", "--confirm", "2", "--more-seeds", "3")
    trials = list(read_lines(tmp_path / "tune" / "small_20" / "trials.jsonl"))
    confirmed = list(read_lines(tmp_path / "tune" / "small_20" / CONFIRMED))
    assert [len(row["runs"]) for row in trials] == [1, 1, 1]
    assert {row["number"] for row in confirmed} == {row["number"] for row in rank(trials)[:2]}
    assert all([run["seed"] for run in row["runs"]] == [100, 101, 102, 103] for row in confirmed)
    assert confirmed[0]["value"] == max(np.mean([run["value"] for run in row["runs"]]) for row in confirmed)
    told = f"# trial {confirmed[0]['number']}: {100 * confirmed[0]['value']:.1f} % over 4 runs"
    assert told in capsys.readouterr().out


@pytest.mark.slow
def test_a_size_between_takes_the_better_of_its_neighbours(
    tmp_path: Path, called: Called, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["learner=bc", *SPACE["overrides"][1:], "learner.gradient_steps=3"]  # type: ignore[index]
    space = {"overrides": few, "parameters": {"learner.alpha": {"low": 0.1, "high": 1.0}}, "trials": 2}
    more = ["--between", "20", "--confirm", "1", "--more-seeds", "1"]
    called(space, "--sizes", "40", "10", *more)
    rows = {size: list(read_lines(tmp_path / "tune" / f"small_{size}" / CONFIRMED)) for size in (10, 20, 40)}
    assert not (tmp_path / "tune" / "small_20" / "trials.jsonl").exists()
    assert {row["of"]: row["parameters"] for row in rows[20]} == {s: rows[s][0]["parameters"] for s in (10, 40)}
    assert all([run["seed"] for run in row["runs"]] == [100, 101] for row in rows[20])
    best = max(rows[20], key=lambda row: row["value"])
    assert best["value"] == np.mean([run["value"] for run in best["runs"]])
    said = capsys.readouterr().out
    assert f"# as of {best['of']}: {100 * best['value']:.1f} % over 2 runs" in said
    assert list(yaml.safe_load(said.partition("# small\n")[2])["at"]) == [10, 20, 40]


def test_other_tasks_and_settings_take_the_place_of_the_spaces(
    tmp_path: Path, called: Called, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"trials": 1, "parameters": {"learner.c": {"low": 0.1, "high": 1.0}}}
    task = KITCHEN.replace("dev.parquet", "other.parquet")
    called(space, "--sizes", "20", "--task", task, "--set", "learner.gradient_steps=3", "learner.lr=0.01")
    assert "data/other.parquet: 60 transitions" in capsys.readouterr().out
    assert not Path("data/dev.parquet").exists()
    run = load_runs(tmp_path / "tune" / "small_20" / "runs")[0]
    assert run.config["learner"]["lr"] == 0.01
    assert run.config["data"]["file"] == "data/other.parquet"


def test_the_best_trial_of_each_size_is_told(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SPACE))
    space = Space.read(file)
    rows = [
        {"number": 0, "state": "complete", "value": 0.5, "parameters": {}, "runs": [0]},
        {"number": 1, "state": "complete", "value": 0.75, "parameters": {"learner.gradient_steps": 4}, "runs": [0, 1]},
        {"number": 2, "state": "failed", "value": None, "parameters": {"learner.gradient_steps": 2}},
    ]
    assert list(per_size.describe_best(space, {10: rows[:1], 20: rows, 30: []})) == [
        "# small",
        "at:",
        "  10: [] # trial 0: 50.0 % over 1 run",
        "  20: [learner.gradient_steps=4] # trial 1: 75.0 % over 2 runs",
        "  # 30: no trial is complete",
    ]


def test_what_tasks_learn_from_is_collected_as_they_say() -> None:
    assert list(per_size.orders([KITCHEN], per_size.DATA)) == [
        ["env=overcooked_random", "env.ingredients=1", "env.max_decisions=8", "out=data/dev.parquet",
         *per_size.DATA]
    ]  # fmt: skip
    (few,) = per_size.orders([KITCHEN], ["size=10", "success=25"])
    assert few[-3:] == ["out=data/dev.parquet", "size=10", "success=25"]
    with pytest.raises(ConfigError, match="names no data"):
        list(per_size.orders(["env=overcooked_random"], per_size.DATA))
