"""What a person sees while a run trains, and when it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

REFRESH = 0.1  # seconds between two redraws


@dataclass
class Progress:
    """Where a run stands."""

    env_steps: int  # decisions so far; gradient steps of a run that learns from data
    episodes: int
    train_success: float | None  # 0 to 1, of the latest training episodes
    eval_success: float | None  # 0 to 1, of the last evaluation
    queries: int  # states the prior was asked about; the model computed some of the answers, and had kept the others
    computed: int
    kept: int
    steps_per_second: float


class Reporter(Protocol):
    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        """Before anything is loaded; a command may have said it already."""
        ...

    def progress(self, p: Progress) -> None:
        """Called at every tick; cheap."""
        ...

    def evaluated(self, row: dict[str, Any]) -> None:
        """One evaluation: metric name -> value, or None where there is none."""
        ...

    def note(self, text: str) -> None: ...

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None: ...


class Silent:
    """Says nothing: for use from Python."""

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        return

    def progress(self, p: Progress) -> None:
        return

    def evaluated(self, row: dict[str, Any]) -> None:
        return

    def note(self, text: str) -> None:
        return

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        return


class Plain:
    """A line for each evaluation: for a file or a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _console()
        self._begun: str | None = None

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        if name != self._begun:
            self._print(f"{name}: {total_steps:,} {unit}")
        self._begun = name

    def progress(self, p: Progress) -> None:
        return

    def evaluated(self, row: dict[str, Any]) -> None:
        self._print(evaluation_line(row))

    def note(self, text: str) -> None:
        self._print(text)

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        self.console.print(end_table(summary, cost))
        for path in paths:
            self._print(str(path))

    def close(self) -> None:
        """Leaves the screen as it should be; also for a run that stops early."""

    def _print(self, text: str) -> None:
        """As it is, on one line: a path that is broken or coloured cannot be copied."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Live(Plain):
    """A bar that moves, above it a line for each evaluation: for a terminal of 80 columns or more."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.live import Live as RichLive

        super().__init__(console)
        self._total, self._unit = 1, "decisions"
        self._shown_at = float("-inf")
        self._live = RichLive(console=self.console, auto_refresh=False, transient=True)

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        super().begin(name, folder, total_steps, unit)
        self._total, self._unit = max(total_steps, 1), unit
        self._live.start()

    def progress(self, p: Progress) -> None:
        now = time.monotonic()
        if now - self._shown_at < REFRESH and p.env_steps < self._total:
            return
        self._shown_at = now
        self._live.update(self._bar(p), refresh=True)

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        self.close()
        super().done(summary, cost, paths)

    def close(self) -> None:
        self._live.stop()

    def _bar(self, p: Progress) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            f"{p.env_steps:,}/{self._total:,} {self._unit}",
            ProgressBar(total=self._total, completed=min(p.env_steps, self._total), width=22),
            f"{p.env_steps / self._total:.0%}",
            f"{p.steps_per_second:,.0f}/s",
            time_left(self._total - p.env_steps, p.steps_per_second),
        )
        parts = [f"success {percent(p.train_success)} in training, {percent(p.eval_success)} evaluated"]
        if p.queries:
            parts.append(f"asked {_count(p.queries)}: {_count(p.computed)} computed, {_count(p.kept)} kept")
        return Group(bar, Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis"))


def reporter(show_bar: bool) -> Plain:
    """The reporter for standard output: a bar where it is a terminal and one is wanted."""
    return Live() if show_bar and sys.stdout.isatty() else Plain()


def evaluation_line(row: dict[str, Any]) -> str:
    text = f"{_done(row):>17}  success {percent(row.get('eval/success')):>4}"
    if row.get("eval_greedy/success") is not None:
        text += f" (greedy {percent(row['eval_greedy/success']):>4})"
    return text + f"  return {number(row.get('eval/return')):>6}  length {number(row.get('eval/length'), 1):>5}"


def end_table(summary: dict[str, Any], cost: dict[str, Any]) -> Table:
    """What a run came to, in a few rows: its last evaluation, what was asked, what it took."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_row("status", f"{summary.get('status')} after {_done(summary)}")
    if "transitions" in summary:
        table.add_row("data", f"{summary['transitions']:,} transitions")
    for block, title in (("eval", "success"), ("eval_greedy", "greedy")):
        if values := summary.get(block):
            values = {key.rpartition("/")[2]: value for key, value in values.items()}
            text = f"{percent(values.get('success'))}, return {number(values.get('return'))}"
            table.add_row(title, f"{text}, {number(values.get('length'), 1)} decisions an episode")
    if alone := _alone(summary.get("fit") or {}):
        table.add_row("prior alone", alone)
    lm = {key.rpartition("/")[2]: value for key, value in (summary.get("lm") or {}).items()}
    if lm.get("queries"):
        text = f"asked about {_count(lm['queries'])} states, {_count(lm.get('distinct_prompts', 0))} distinct prompts"
        if lm.get("parse_failures"):
            text += f", {_count(lm['parse_failures'])} not understood"
            text += f" ({_count(lm['ambiguous'])} ambiguous)" if lm.get("ambiguous") else ""
        table.add_row("model", text)
        kept, computed = cost.get("lm/cache_hits"), cost.get("lm/computed")
        if kept is not None and computed is not None:
            table.add_row("answers", f"{_count(computed)} computed, {_count(kept)} kept from before")
    if cost.get("seconds") is not None:
        table.add_row("time", duration(cost["seconds"]))
    return table


def _alone(fit: dict[str, Any]) -> str | None:
    """The worth of the prior before anything is learned, beside uniform actions."""
    if "success" in fit:
        return f"success {percent(fit['success'])}; uniform actions {percent(fit['uniform_success'])}"
    if "expert" in fit:
        told = f"an expert's action with chance {percent(fit['expert'])}"
        return f"{told}; uniform actions {percent(fit['uniform_expert'])}"
    return None


def _done(row: dict[str, Any]) -> str:
    if "gradient_steps" in row:
        return f"{row['gradient_steps']:,} gradient steps"
    return f"{row.get('env_steps', 0):,} decisions"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def time_left(steps: int, steps_per_second: float) -> str:
    return f"{duration(steps / steps_per_second)} left" if steps_per_second > 0 else ""


def duration(seconds: float) -> str:
    """1:05, or 2:01:05."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def _count(n: int) -> str:
    """At most five characters for what is shown in a moving line."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if n >= size:
            scale = size if unit != "k" else 1000
            return f"{n / scale:.1f}{unit}" if n / scale < 100 else f"{n / scale:.0f}{unit}"
    return f"{n:,}"


def _console() -> Console:
    from rich.console import Console

    return Console()
