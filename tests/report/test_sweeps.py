"""What is shown of a sweep, and kept of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from report.runs_on_disk import make_runs
from rich.console import Console

from llmrl.report.sweeps import Screen, arms, keep
from llmrl.sweep import _event


def _flat(late: float, seed: int) -> Callable[[int], float]:
    return lambda step: late * seed


def lines(screen: Screen, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(screen.table())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80])
def test_each_cell_is_a_row(width: int) -> None:
    screen = Screen(["learner=dqn_prior seed=0", "seed=1", "seed=2", "seed=3"], Console(quiet=True))
    screen.complete(3)
    screen.started(0)
    screen.heard(0, {"total": 1000})
    screen.heard(0, {"at": 250, "rate": 5.0, "success": 0.5})
    screen.started(1)
    screen.ended(1, "failed", "no")
    shown = lines(screen, width)
    assert max(map(len, shown)) <= width
    assert shown[0] == "4 runs: 1 done, 1 running, 1 waiting"
    assert "running  25%     50% 2:30" in shown[2]
    assert [line.split()[1] for line in shown[-3:]] == ["failed", "waiting", "done"]


def test_a_sweep_of_many_cells_fits_its_terminal() -> None:
    screen = Screen([f"seed={i}" for i in range(100)], Console(width=80, height=24, quiet=True))
    screen.started(70)
    shown = lines(screen, 80)
    assert len(shown) <= 24
    assert shown[2].startswith("seed=70")
    assert shown[-1].split() == ["and", "80", "more"]


def test_what_is_no_terminal_gets_a_line_each() -> None:
    console = Console(width=40, file=io.StringIO(), color_system=None)
    with Screen(["seed=0", "seed=1"], console) as screen:
        screen.started(1)
        screen.heard(1, _event('{"row": {"env_steps": 400, "eval/success": 0.25}}'))
        screen.heard(1, _event("a library says hello\n"))
        screen.ended(1, "failed", "error: why")
    assert isinstance(console.file, io.StringIO)
    first, second, *rest = console.file.getvalue().splitlines()
    assert (first, second.split()[1:5]) == ("[2/2] seed=1", ["400", "decisions", "success", "25%"])
    assert rest == ["[2/2] a library says hello", "[2/2] seed=1: failed", "error: why"]


def test_a_table_over_seeds_is_kept_and_stays(tmp_path: Path) -> None:
    runs = []
    for learner in ("dqn", "random"):
        overrides = [f"learner={learner}", "env=overcooked_tomato"]
        late = 0.2 if learner == "dqn" else 0.1
        runs += make_runs(tmp_path, overrides, range(4), partial(_flat, late), 1000, 250)
    runs += make_runs(tmp_path, ["learner=random"], [0], lambda seed: lambda t: 0.1, 1000, 250, status="failed")
    found = arms(runs)
    assert [(arm.label, len(arm.seeds), round(arm.success.low, 3)) for arm in found] == [
        ("dqn", 4, 0.3), ("random", 4, 0.15)
    ]  # fmt: skip
    assert 0 <= found[0].success.interval_low < 0.3 < found[0].success.interval_high <= 0.6
    files = keep(found, runs, tmp_path)
    before = [file.read_bytes() for file in files]
    assert keep(arms(runs[::-1]), runs[::-1], tmp_path) == files
    data = json.loads(files[1].read_text())
    assert {group["label"]: len(group["seeds"]) for group in data["groups"]} == {"dqn": 4, "random": 4}
    assert data["not_complete"] == [f"{runs[-1].name} (failed)"]
    assert "| dqn | 4 | 30% | " in files[0].read_text()
    assert [file.read_bytes() for file in files] == before
