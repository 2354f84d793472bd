"""Recorded episodes of the original kitchen, replayed in ours: an excerpt always, all of them where they are found."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXCERPT = ROOT / "tests" / "conformance" / "overcooked.jsonl"
RECORDED = Path(os.environ.get("LLMRL_CONFORMANCE", ROOT.parent / "shared" / "conformance"), "overcooked/traces.jsonl")

_spec = importlib.util.spec_from_file_location("check_conformance", ROOT / "scripts" / "check_conformance.py")
checker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checker)


def run(path: Path) -> int:
    return checker.main(["overcooked", str(path)])


@pytest.fixture
def episodes():
    return [json.loads(line) for line in EXCERPT.read_text().splitlines()]


@pytest.fixture
def write(tmp_path):
    def write(episodes) -> Path:
        path = tmp_path / "episodes.jsonl"
        path.write_text("".join(json.dumps(episode) + "\n" for episode in episodes))
        return path

    return write


def test_excerpt(capsys):
    assert run(EXCERPT) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[-10] for row in rows] == ["12", "12"]  # episodes of each task
    assert all(int(row[-9]) > 200 for row in rows)  # steps


@pytest.mark.skipif(
    not RECORDED.exists() and "LLMRL_CONFORMANCE" not in os.environ,
    reason=f"no recorded episodes at {RECORDED}; LLMRL_CONFORMANCE names the folder that holds them",
)
def test_all_recorded_episodes():
    assert run(RECORDED) == 0


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("vector", lambda e: e["obs"][1].__setitem__(0, 9)),
        ("vector", lambda e: e["obs0"].__setitem__(-1, 9)),
        ("reward", lambda e: e["reward"].__setitem__(0, e["reward"][0] + 2e-9)),
        ("reward", lambda e: e["reward"].__setitem__(0, float("nan"))),
        ("steps", lambda e: e["primitive_steps"].__setitem__(0, e["primitive_steps"][0] + 1)),
        ("done", lambda e: e["done"].__setitem__(-1, not e["done"][-1])),
        ("text+", lambda e: e["text"].__setitem__(0, e["text"][1])),
        ("text-", lambda e: e["text"].__setitem__(0, 10_000)),
        ("menu+", lambda e: e["menu"].__setitem__(0, 3 if e["menu"][0] != 3 else 4)),
        ("menu-", lambda e: e["menu"].__setitem__(0, 10_000)),
    ],
)
@pytest.mark.parametrize("task", ["tomato salad", "lettuce-tomato salad"])
def test_every_kind_of_difference_is_found(kind, change, task, episodes, write, capsys):
    change([e for e in episodes if e["task"] == task and len(set(e["text"][:2])) > 1][-1])
    assert run(write(episodes)) == 1
    assert f"mismatches of {kind}:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("reward"), "lacks reward"),
        (lambda e: e["obs"].pop(), "one obs for each"),
        (lambda e: e.update(task="fruit salad"), "'fruit salad'"),
        (lambda e: e.update(task=["tomato salad"]), "is of task"),
        (lambda e: e.update(map="B"), "map 'B'"),
        (lambda e: e.update(actions=[]), "no actions"),
        (lambda e: e.update(text0=None), "None"),
        (lambda e: e["actions"].__setitem__(0, 99), "action 99"),
        (lambda e: e["reward"].__setitem__(0, "much"), "'much' among its reward"),
        (lambda e: e["done"].__setitem__(0, True), "goes on after it is done"),
    ],
)
def test_a_malformed_episode_is_named(change, message, episodes, write, capsys):
    change(episodes[2])
    assert run(write(episodes)) == 2
    error = capsys.readouterr().err
    assert "line 3" in error
    assert message in error


def test_files_that_are_none(tmp_path, capsys):
    cut = tmp_path / "cut.jsonl"
    cut.write_text(EXCERPT.read_text()[:10_000])
    assert run(cut) == 2
    assert "cut off" in capsys.readouterr().err
    for content in (b"", b"[1]\n", b"\xff\xfe"):
        other = tmp_path / "other"
        other.write_bytes(content)
        assert run(other) == 2
    assert run(tmp_path / "absent") == 2
