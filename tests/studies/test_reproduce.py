"""Whole studies by one command: what is missing is run, what is there is not, and tables say what came of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from studies.test_study import SMALL

from llmrl.reproduce import find_work, reproduce, write_tables
from llmrl.studies.study import Study, study_files
from scripts import control_models

TABLES = {"two": "random", "": "random"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL | {"tables": TABLES}, sort_keys=False))
    return tmp_path


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmrl", "reproduce", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_what_is_there_is_not_run_again(small: Path) -> None:
    assert run("small.yaml", "--list", folder=small).stdout == "small: 0 of 5 runs are complete\n"
    first = run("small.yaml", "--seeds", "1", folder=small)
    assert first.returncode == 0, first.stderr
    assert "[3/3]" in first.stdout
    summaries = {p: p.stat().st_mtime_ns for p in small.glob("runs/small/*/summary.json")}
    assert len(summaries) == 3
    rest = run("small.yaml", "--jobs", "2", folder=small)
    assert "small: 3 of 5 runs are complete" in rest.stdout
    assert "[2/2]" in rest.stdout
    again = run("small.yaml", folder=small)
    assert "small: 5 of 5 runs are complete" in again.stdout
    assert "[1/" not in again.stdout
    assert {p: p.stat().st_mtime_ns for p in summaries} == summaries
    assert len(list(small.glob("runs/small/*/summary.json"))) == 5


@pytest.mark.slow
def test_what_fails_is_named_and_the_rest_is_run(small: Path) -> None:
    arms = {**SMALL["arms"], "absent": ["learner=dqn_prior", "lm=hf", "lm.model=runs/models/nosuch"]}  # type: ignore[dict-item]
    (small / "small.yaml").write_text(yaml.safe_dump(SMALL | {"arms": arms}, sort_keys=False))
    found = run("small.yaml", "--only", "absent", "--only", "two", folder=small)
    assert found.returncode == 1
    assert "small, absent: " in found.stderr
    assert "runs/models/nosuch" in found.stderr
    assert len(list(small.glob("runs/small/*/summary.json"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["salat"], "salat: no such study; did you mean salad"),
        (["salad", "--only", "nobody"], "salad has no arm nobody; there are dqn"),
    ],
)
def test_mistakes_are_named(words: list[str], said: str, tmp_path: Path) -> None:
    found = run(*words, folder=tmp_path)
    assert found.returncode == 2
    assert said in found.stderr


def test_what_learns_from_data_has_its_own_table(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small)
    kitchen = ["env=overcooked_tomato", "env.max_decisions=12"]
    learned = ["data=data/a.parquet", "learner.gradient_steps=9", "learner.batch=4", "learner.hidden=[4]"]
    plain = {
        "seeds": 1,
        "sizes": [20, 90],
        "tables": {"": "cql"},
        "collect": [[*kitchen, "out=data/a.parquet", "size=90", "mix=expert"]],
        "common": [*kitchen, "evaluation.every=1000", "encoder.dim=8"],
        "arms": {name: [f"learner={name}", *learned] for name in ("cql", "bc")},
    }
    (small / "small.yaml").write_text(yaml.safe_dump(plain))
    study = Study.read(small / "small.yaml")
    work = find_work(study, small / "runs" / "small")
    assert (len(work.left), len(work.cells)) == (4, 4)
    monkeypatch.setattr("llmrl.run.provenance.git_state", lambda: {"commit": "a" * 40, "dirty": False})
    assert reproduce([work], small / "runs", 1, print) == []
    assert find_work(study, small / "runs" / "small").left == []
    assert (small / "runs" / "tables" / "small.md").read_text().startswith("| arm | seeds | sizes |")
    assert (small / "runs" / "tables" / "small.png").stat().st_size > 1000


def test_a_table_that_cannot_be_made_is_told(small: Path) -> None:
    said: list[str] = []
    assert write_tables(Study.read(small / "small.yaml"), small / "runs", small / "tables", said.append) == []
    assert said[0].startswith("no table of two against random: no complete run of random")


def test_every_model_that_a_study_names_is_built() -> None:
    built = {str(m.path).removesuffix("/card.json") for m in control_models.models()}
    named = {
        override.partition("=")[2]
        for file in study_files().values()
        for arm in Study.read(file).arms.values()
        for override in arm["set"]
        if override.partition("=")[2].startswith("runs/models")
    }
    assert named <= built
