"""The output of a sweep for a person: its cells while they run, and at the end a table over seeds, which is kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from llmrl.core.files import publish, to_json
from llmrl.report import markdown, statistics
from llmrl.report.alfworld import Played, check_played
from llmrl.report.compare_tables import as_plain
from llmrl.report.groups import group_runs
from llmrl.report.numbers import evaluation_line, percent, time_left
from llmrl.report.progress import Pace
from llmrl.report.statistics import Estimate
from llmrl.report.tables import COLOURS
from llmrl.run.load import RunInfo

FOLDER = "sweeps"  # in the folder of runs
PER_SECOND = 4  # redraws


@dataclass
class _Cell:
    name: str
    state: str = "waiting"
    at: int = 0
    total: int = 0
    rate: float = 0.0
    success: float | None = None
    doing: str = ""  # what takes long
    told: bool = False  # whether it was said

    @property
    def left(self) -> str:
        return time_left(self.total - self.at, self.rate) if self.state == "running" else ""


@dataclass
class Screen:
    """A context manager. On a terminal it shows a table that moves, else a line for each event.

    A cell that was silent for long gets a line on its position.
    """

    names: Sequence[str]  # of the cells
    console: Console = field(default_factory=Console)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._cells = [_Cell(name) for name in self.names]
        self._paces: dict[int, Pace] = {}  # of the cells that were started
        self._live: Live | None = None
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=self.table, refresh_per_second=PER_SECOND, transient=True
            )

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def complete(self, i: int) -> None:
        self._cells[i].state = "done"

    def note_start(self, i: int) -> None:
        self._cells[i].state = "running"
        self._paces[i] = Pace(self.clock)
        if not self._live:
            self.say(f"{self._number(i)} {self.names[i]}")

    def hear(self, i: int, event: Mapping[str, Any]) -> None:
        """Takes an event of cell `i`'s reporter (`llmrl.report.progress.Events`)."""
        cell = self._cells[i]
        for name in ("at", "total", "rate", "success", "doing"):
            if event.get(name) is not None:
                setattr(cell, name, event[name])
        if "row" in event:
            cell.success = event["row"].get("eval/success")
            if not self._live:
                self._paces[i].restart()
                self.say(f"{self._number(i)} {evaluation_line(event['row']).strip()}")
        if "note" in event:
            self.say(f"{self._number(i)} {event['note']}")
        if not self._live and self._paces[i].due(new=bool(cell.doing) and not cell.told):
            self._paces[i].restart()
            cell.told = True
            share = f"{percent(cell.at / cell.total)} done" if cell.total else ""
            self.say(f"{self._number(i)} {', '.join(filter(None, (share, cell.left, cell.doing)))}")

    def note_end(self, i: int, state: str, errors: str) -> None:
        self._cells[i].state, self._cells[i].doing = state, ""
        if errors or not self._live:
            self.say(f"{self._number(i)} {self.names[i]}: {state}" + (f"\n{errors}" if errors else ""))

    def table(self) -> RenderableType:
        """As many cells as the terminal is high, those under way first; below them the slow work of some."""
        count = {state: sum(cell.state == state for cell in self._cells) for state in ("done", "running", "waiting")}
        head = Text(f"{len(self._cells)} runs: " + ", ".join(f"{n} {state}" for state, n in count.items()))
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("cell", overflow="fold")
        for column in ("state", "done", "success", "left"):
            table.add_column(column, justify="right", no_wrap=True)
        order = sorted(self._cells, key=lambda cell: ("running", "failed", "paused", "waiting").index(cell.state)
                       if cell.state in ("running", "failed", "paused", "waiting") else 9)  # fmt: skip
        slow = [Text(f"{cell.name}: {cell.doing}", style="dim") for cell in order if cell.doing]
        lines = len(self.console.render_lines(Group(*slow))) if slow else 0
        shown = order[: max(1, self.console.height - 4 - lines)]
        for cell in shown:
            share = 1.0 if cell.state == "done" else cell.at / cell.total if cell.total else None
            state = Text(cell.state, style=COLOURS.get(cell.state, ""))
            table.add_row(
                Text(cell.name), state, percent(share), percent(cell.success), cell.left.removesuffix(" left")
            )
        rest = [Text(f"and {len(order) - len(shown)} more", style="dim")] if len(order) > len(shown) else []
        return Group(head, table, *rest, *slow)

    def _number(self, i: int) -> str:
        return f"[{i + 1}/{len(self.names)}]"


COLUMNS = ["group", "seeds", "success", "95 % interval", "greedy"]  # of a table of groups


@dataclass(frozen=True)
class Arm:
    """Runs that differ only in their seed, at their last evaluation."""

    label: str
    seeds: list[int]
    success: Estimate
    greedy: Estimate | None


def arms(runs: Sequence[RunInfo]) -> list[Arm]:
    """The arms of the runs that are complete and were evaluated. Raises MixedCells."""
    complete = sorted((run for run in runs if run.status == "complete" and run.metrics), key=lambda run: run.name)
    check_played(map(Played.of, complete), same_games=False)
    found = []
    for label, group in group_runs(complete).items():
        success, greedy = (_mean(group, block) for block in ("eval", "eval_greedy"))
        if success is not None:
            found.append(Arm(label, [int(run.config.get("seed", 0)) for run in group], success, greedy))
    return found


def _mean(group: Sequence[RunInfo], block: str) -> Estimate | None:
    found = [run.metrics[-1].get(f"{block}/success") for run in group]
    return None if None in found else statistics.mean(np.array(found, dtype=float))


def arms_table(found: Sequence[Arm]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("over seeds", overflow="fold")
    for column in ("seeds", "success", "95 % interval", "greedy"):
        table.add_column(column, justify="right")
    for arm in found:
        table.add_row(*map(Text, figures_of(arm)))
    return table


def keep(found: Sequence[Arm], runs: Sequence[RunInfo], root: Path) -> list[Path]:
    """Writes the table as Markdown and JSON, named by the runs it is of: the same sweep writes the same files."""
    ids = sorted(str(run.summary["run_id"]) for run in runs)
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]
    parts = [
        dict.fromkeys(str((run.config.get(part) or {}).get("name")) for run in runs) for part in ("env", "learner")
    ]
    stem = "-".join("+".join(sorted(part)) if len(part) <= 3 else f"{len(part)}_kinds" for part in parts)
    missing = sorted(f"{run.name} ({run.status})" for run in runs if run.status != "complete")
    lines = markdown.table(COLUMNS, map(figures_of, found))
    notes = [
        f"Success at the last evaluation, over seeds; intervals from {statistics.RESAMPLES:,} resamples.",
        *check_played((Played.of(run) for run in runs if run.status == "complete"), same_games=False),
        *([f"Not complete, and left out: {', '.join(missing)}."] if missing else []),
        f"Runs: {', '.join(sorted(run.name for run in runs))}.",
    ]
    data = {
        "groups": [as_plain(asdict(arm)) for arm in found],
        "not_complete": missing,
        "runs": sorted(r.name for r in runs),
    }
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    files = {".md": "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n", ".json": to_json(data) + "\n"}
    paths = [folder / f"{stem}-{digest}{end}" for end in files]
    for path, text in zip(paths, files.values(), strict=True):
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            publish(path, text)
    return paths


def figures_of(arm: Arm) -> list[str]:
    low, high = (percent(value) for value in (arm.success.interval_low, arm.success.interval_high))
    interval = f"{low} to {high}" if arm.success.known else f"none from fewer than {statistics.MIN_SEEDS} seeds"
    greedy = percent(arm.greedy.low if arm.greedy else None)
    return [arm.label, str(len(arm.seeds)), percent(arm.success.low), interval, greedy]
