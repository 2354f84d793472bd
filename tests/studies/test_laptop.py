"""The whole comparison in small: what is missing is run, what is there is not, and tables say what came of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from studies.test_study import SMALL

from scripts import laptop, study
from scripts.study import Study


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False))
    monkeypatch.setattr(laptop, "STUDIES", tmp_path)
    monkeypatch.setattr(laptop, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(laptop, "MODELS", tmp_path / "runs" / "models")
    monkeypatch.setattr(laptop, "TABLES", tmp_path / "runs" / "tables")
    monkeypatch.setattr(laptop, "ORDER", {"small": {"tw": "two", "": "random"}})
    monkeypatch.setattr(laptop, "models", lambda: iter(()))
    return tmp_path


def called(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["laptop", *arguments])
    laptop.main()


@pytest.mark.slow
def test_what_is_there_is_not_run_again(
    small: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(laptop, "table", lambda found, runs, against, only: [f"{against}: {' '.join(only)}"])
    called("--list", monkeypatch=monkeypatch)
    assert capfd.readouterr().out == "study small: 0 of 5 runs\n"
    called("--seeds", "1", "--jobs", "1", monkeypatch=monkeypatch)
    assert "[3/3]" in capfd.readouterr().out
    summaries = {p: p.stat().st_mtime_ns for p in small.glob("runs/small/*/summary.json")}
    assert len(summaries) == 3
    assert (small / "runs" / "tables" / "small.md").read_text() == "two: two\n\nrandom: random two four\n"

    called("--jobs", "1", monkeypatch=monkeypatch)
    assert "study small: 3 of 5 runs are there" in capfd.readouterr().out
    called("--jobs", "1", monkeypatch=monkeypatch)
    said = capfd.readouterr().out
    assert "study small: 5 of 5 runs are there" in said
    assert "scripts.study" not in said
    assert {p: p.stat().st_mtime_ns for p in summaries} == summaries


def test_what_learns_from_data_has_its_own_table(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small)
    kitchen = ["env=overcooked_tomato", "env.max_decisions=12"]
    learned = ["data=data/a.parquet", "learner.gradient_steps=9", "learner.batch=4", "learner.hidden=[4]"]
    plain = {
        "seeds": 1,
        "sizes": [20, 90],
        "collect": [[*kitchen, "out=data/a.parquet", "size=90", "mix=expert"]],
        "common": [*kitchen, "evaluation.every=1000", "encoder.dim=8"],
        "arms": {name: [f"learner={name}", *learned] for name in ("cql", "bc")},
    }
    (small / "small.yaml").write_text(yaml.safe_dump(plain))
    monkeypatch.setattr(laptop, "ORDER", {"small": {"": "cql"}})
    step = laptop.study("small", None, 1)
    assert (step.done, step.total) == (0, 4)
    monkeypatch.setattr("llmrl.run.provenance.git_state", lambda: {"commit": "a" * 40, "dirty": False})
    found = Study.read(small / "small.yaml")
    for words in found.collect:
        study.collected(words, small / "runs")
    assert [study.run(cell, small / "runs" / "small", False) for cell in found.cells()] == [""] * 4
    assert laptop.study("small", None, 1).done == 4
    out = laptop.write_tables("small")
    assert out is not None
    assert out.read_text().startswith("| arm | seeds | sizes |")
    assert out.with_suffix(".png").stat().st_size > 1000


def test_a_table_that_cannot_be_made_is_told(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert laptop.write_tables("small") is None
    assert "no table of tw against two: no complete run of two" in capfd.readouterr().out


def test_ours_name_arms_that_there_are() -> None:
    for name, tables in laptop.ORDER.items():
        arms = Study.read(laptop.STUDIES / f"{name}.yaml").arms
        for prefix, against in tables.items():
            assert against in arms
            assert sum(arm.startswith(prefix) for arm in arms) > 1
    assert {p.stem for p in laptop.STUDIES.glob("*.yaml")} == set(laptop.ORDER)


def test_every_model_that_a_study_names_is_built() -> None:
    built = {step.command[-1] if step.name.startswith("weights") else f"{laptop.MODELS}/{step.name[6:]}"
             for step in laptop.models()}  # fmt: skip
    named = {
        override.partition("=")[2]
        for name in laptop.ORDER
        for arm in Study.read(laptop.STUDIES / f"{name}.yaml").arms.values()
        for override in arm["set"]
        if override.partition("=")[2].startswith("runs/models")
    }
    assert named <= built
