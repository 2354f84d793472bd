"""The output of a search for a person: a line for each trial, a bar of runs in a terminal, and a table at the end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from llmrl.core.overrides import format_value
from llmrl.report.numbers import duration, percent
from llmrl.report.progress import Speaker
from llmrl.tune.log import rank
from llmrl.tune.plan import Plan
from llmrl.tune.preset import PRESET, option

TOP = 5


class Screen:
    """A context manager: the bar is gone when it ends, however it ends."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet)
        self._speaker = Speaker(self._print_line)
        self._bar = Progress(
            TextColumn("runs"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            console=self.console, transient=True, disable=quiet or not self.console.is_terminal,
        )  # fmt: skip

    def begin(self, plan: Plan, out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        self.plan, self.out = plan, out
        self._value = "area" if plan.env_steps else "success"
        self.note(
            f"{plan.space.name}: {plan.trials} trials x {len(plan.tasks)} tasks x {len(plan.seeds)} seeds "
            + (f"x {plan.env_steps:,} decisions = {plan.decisions:,} decisions" if plan.env_steps else "from data")
        )
        for name, why in plan.reads.never().items():
            self.note(f"{name} is not searched, since no trial reads it: {why}")
        if rows:
            left = plan.trials - len(rows)
            self.note(f"{out} has {len(rows)} trials" + (f": {left} to go" if left else ": nothing to compute"))
        self._total, self._runs_done = plan.trials * plan.runs, len(rows) * plan.runs
        self._task = self._bar.add_task("runs", total=self._total, completed=self._runs_done)
        self._bar.start()
        self._speaker.doing("runs", self._runs_done, self._total)
        if not self.console.is_terminal:
            self._speaker.listen()

    def run_done(self) -> None:
        self._bar.advance(self._task)
        self._runs_done += 1
        self._speaker.doing("runs", self._runs_done, self._total)

    def show_trial(self, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        text = f"trial {row['number']:>3}  "
        if row["state"] == "failed":
            self.note(f"{text}failed: {row['error']}")
            return
        first = rank(rows)[0]
        best = "the best so far" if first["number"] == row["number"] else f"best {first['value']:.3f}"
        text += (
            f"{self._value} {row['value']:.3f}  final {percent(row['final']):>4}  {duration(row['seconds']):>7}  {best}"
        )
        self.note(text)

    def end(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._close()
        top = rank(rows)[:TOP]  # never empty: where trial 0 fails there is no search
        self.console.print()
        self.console.print(top_table(top, self.plan))
        self.console.print()
        failed = sum(row["state"] == "failed" for row in rows)
        self.note(
            f"{len(rows)} trials, {failed} failed; {sum(row['decisions'] for row in rows):,} decisions, "
            f"{duration(sum(row['seconds'] for row in rows))} of runs"
        )
        self.note(f"{self._value} {rows[0]['value']:.3f} in trial 0, where nothing is changed")
        self.note(
            f"{self._value} {top[0]['value']:.3f} in trial {top[0]['number']}, the best, on the tasks that chose it"
        )
        self.note("log: " + ", ".join(str(self.out / name) for name in ("trials.jsonl", "study.json", "best.yaml")))
        command = ["llmrl", "train", *self.plan.agent(top[0]["parameters"])]
        command += ["--config-dir", str(self.plan.config_dir)] if self.plan.config_dir else []
        self.note(shlex.join(command))
        if (name := option(self.plan, top[0])) is not None:
            words = ["llmrl", "train", "--config-dir", str(self.out / PRESET), f"lm={name}"]
            self.note(f"the model as this search recommends it, for any learner: {shlex.join(words)}")

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        self._speaker.close()
        self._bar.stop()

    def note(self, text: str) -> None:
        self._speaker.note(text)

    def _print_line(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def top_table(top: Sequence[Mapping[str, Any]], plan: Plan) -> Table:
    """A column for each trial, best first; a row for each parameter that one of them has."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("trial", no_wrap=True)
    for row in top:
        table.add_column(str(row["number"]), justify="right", overflow="fold")
    table.add_row("area", *(Text(f"{row['value']:.3f}", "bold") for row in top))
    table.add_row("final success", *(percent(row["final"]) for row in top))
    for parameter in plan.space.parameters:
        values = [row["parameters"].get(parameter.name, ...) for row in top]
        if any(value is not ... for value in values):
            table.add_row(_short(parameter.name), *("-" if v is ... else format_value(v) for v in values))
    return table


def _short(key: str) -> str:
    return key.removeprefix("learner.")
