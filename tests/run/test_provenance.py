from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

import llmrl
from llmrl.config.compose import compose
from llmrl.run.identity import identify_run
from llmrl.run.provenance import machine, provenance
from llmrl.run.versions import git_state


def test_provenance_is_json_and_says_where_from() -> None:
    cfg = compose(["learner=dqn", "threads=2"])
    made = json.loads(json.dumps(provenance(cfg, identify_run(cfg))))
    machine = made["machine_type"]
    assert (machine["device"], machine["threads"], machine["torch"]) == ("cpu", 2, torch.__version__)
    assert machine["cpu_capability"]
    assert made["packages"]["numpy"]
    assert made["model"] is None
    assert made["started"].endswith("+00:00")


def test_a_resumed_run_is_held_to_what_its_world_is_made_of() -> None:
    """Worlds that are all in their config say nothing, and runs of theirs are what they were."""
    cfg = compose(["learner=random"])
    a, b, none = (machine(provenance(cfg, identify_run(cfg), world)) for world in ({"data": "a"}, {"data": "b"}, None))
    assert {key for key in a if a[key] != b[key]} == {"world"}
    assert set(a) - set(none) == {"world"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(llmrl, "__file__", str(tmp_path / "llmrl" / "__init__.py"))
    return tmp_path


def _git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_and_whether_it_is_clean(checkout: Path) -> None:
    assert git_state() is None  # no checkout
    _git(checkout, "init", "--quiet")
    assert git_state() is None  # no commit yet
    (checkout / "a").write_text("1")
    _git(checkout, "add", "a")
    _git(checkout, "commit", "--quiet", "-m", "a")
    assert git_state() == {"commit": _git(checkout, "rev-parse", "HEAD"), "dirty": False}
    (checkout / "b").write_text("not tracked")
    (checkout / "a").write_text("2")
    assert git_state() == {"commit": _git(checkout, "rev-parse", "HEAD"), "dirty": True}
