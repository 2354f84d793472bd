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

from llmrl.launch.commands import _event
from llmrl.report.progress import Events
from llmrl.report.sweeps import Screen, arms, keep


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
    screen.note_start(0)
    screen.hear(0, {"total": 1000})
    screen.hear(0, {"at": 250, "rate": 5.0, "success": 0.5})
    screen.note_start(1)
    screen.note_end(1, "failed", "no")
    shown = lines(screen, width)
    assert max(map(len, shown)) <= width
    assert shown[0] == "4 runs: 1 done, 1 running, 1 waiting"
    assert "running  25%     50% 2:30" in shown[2]
    assert [line.split()[1] for line in shown[-3:]] == ["failed", "waiting", "done"]


def test_a_sweep_of_many_cells_fits_its_terminal() -> None:
    screen = Screen([f"seed={i}" for i in range(100)], Console(width=80, height=24, quiet=True))
    screen.note_start(70)
    shown = lines(screen, 80)
    assert len(shown) <= 24
    assert shown[2].startswith("seed=70")
    assert shown[-1].split() == ["and", "80", "more"]


def test_what_is_no_terminal_gets_a_line_each() -> None:
    console = Console(width=40, file=io.StringIO(), color_system=None)
    with Screen(["seed=0", "seed=1"], console) as screen:
        screen.note_start(1)
        screen.hear(1, _event('{"row": {"env_steps": 400, "eval/success": 0.25}}'))
        screen.hear(1, _event("a library says hello\n"))
        screen.note_end(1, "failed", "error: why")
    assert isinstance(console.file, io.StringIO)
    first, second, *rest = console.file.getvalue().splitlines()
    assert (first, second.split()[1:5]) == ("[2/2] seed=1", ["400", "decisions", "success", "25%"])
    assert rest == ["[2/2] a library says hello", "[2/2] seed=1: failed", "error: why"]


def test_what_takes_long_in_a_cell_is_below_the_table() -> None:
    screen = Screen([f"seed={i}" for i in range(30)], Console(width=80, height=24, quiet=True))
    screen.note_start(7)
    slow = "128 of 869 prompts asked of slow in 0:02, 0:12 left"
    screen.hear(7, {"total": 1000, "doing": slow})
    shown = lines(screen, 80)
    assert len(shown) <= 24
    assert shown[-1] == f"seed=7: {slow}"
    screen.hear(7, {"at": 8})
    assert lines(screen, 80)[-1] == f"seed=7: {slow}"
    screen.hear(7, {"doing": ""})
    assert lines(screen, 80)[-1].split() == ["and", "10", "more"]
    screen.hear(7, {"doing": slow})
    screen.note_end(7, "stopped", "")
    assert slow not in "\n".join(lines(screen, 80))


def test_without_a_terminal_a_cell_that_takes_long_has_a_line_after_two_seconds_and_every_ten() -> None:
    console, clock = Console(width=80, file=io.StringIO(), color_system=None), [0.0]
    with Screen(["seed=0", "seed=1"], console, lambda: clock[0]) as screen:
        for i in (0, 1):
            screen.note_start(i)
            screen.hear(i, {"total": 1000})
        for second in range(1, 26):
            clock[0] = float(second)
            screen.hear(0, {"doing": f"{second} of 869 prompts asked of slow"})
            screen.hear(1, {"at": 10 * second, "rate": 10.0})
            if second % 8 == 0:
                screen.hear(1, {"row": {"env_steps": 10 * second}})
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue().splitlines()
    assert [line for line in said if line.startswith("[1/2]")] == [
        "[1/2] seed=0",
        "[1/2] 0% done, 2 of 869 prompts asked of slow",
        "[1/2] 0% done, 12 of 869 prompts asked of slow",
        "[1/2] 0% done, 22 of 869 prompts asked of slow",
    ]
    assert not any("done" in line for line in said if line.startswith("[2/2]"))  # its evaluations say enough


def test_a_cell_sends_what_takes_long_while_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    cell = Events(lambda: clock[0])
    for quarter in range(13):
        clock[0] = quarter / 4
        cell.doing("prompts asked of slow", 8 * min(quarter, 8), 869)  # then one of them takes long
        cell.speak_up()
    cell.doing("prompts asked of slow", 869, 869)
    sent = [json.loads(line)["doing"] for line in capsys.readouterr().out.splitlines()]
    assert sent == [
        "32 of 869 prompts asked of slow in 0:01, 0:26 left",
        "40 of 869 prompts asked of slow in 0:01, 0:26 left",
        "48 of 869 prompts asked of slow in 0:02, 0:26 left",
        "56 of 869 prompts asked of slow in 0:02, 0:25 left",
        "64 of 869 prompts asked of slow in 0:02, 0:25 left",
        "64 of 869 prompts asked of slow in 0:02, 0:28 left",
        "64 of 869 prompts asked of slow in 0:02, 0:31 left",
        "64 of 869 prompts asked of slow in 0:03, 0:35 left",
        "64 of 869 prompts asked of slow in 0:03, 0:38 left",
        "",
    ]


def test_a_table_over_seeds_is_kept_and_stays(tmp_path: Path) -> None:
    runs = []
    for learner in ("dqn", "random"):
        overrides = [f"learner={learner}", "env=overcooked_tomato"]
        late = 0.2 if learner == "dqn" else 0.1
        runs += make_runs(tmp_path, overrides, range(5), partial(_flat, late), 1000, 250)
    runs += make_runs(tmp_path, ["learner=random"], [0], lambda seed: lambda t: 0.1, 1000, 250, status="failed")
    found = arms(runs)
    assert [(arm.label, len(arm.seeds), round(arm.success.low, 3)) for arm in found] == [
        ("dqn", 5, 0.4), ("random", 5, 0.2)
    ]  # fmt: skip
    assert 0 <= found[0].success.interval_low < 0.4 < found[0].success.interval_high < 1
    assert not arms(runs[:4])[0].success.known
    files = keep(found, runs, tmp_path)
    before = [file.read_bytes() for file in files]
    assert keep(arms(runs[::-1]), runs[::-1], tmp_path) == files
    data = json.loads(files[1].read_text())
    assert {group["label"]: len(group["seeds"]) for group in data["groups"]} == {"dqn": 5, "random": 5}
    assert data["not_complete"] == [f"{runs[-1].name} (failed)"]
    assert "| dqn | 5 | 40% | " in files[0].read_text()
    assert [file.read_bytes() for file in files] == before


def test_a_table_of_few_seeds_says_that_it_has_no_interval(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, ["learner=dqn"], range(3), partial(_flat, 0.2), 1000, 250)
    text, data = (file.read_text() for file in keep(arms(runs), runs, tmp_path))
    assert "none from fewer than 5 seeds" in text
    assert json.loads(data)["groups"][0]["success"]["interval_low"] is None
