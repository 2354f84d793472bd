"""What a person sees while a run trains, and when it ends."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

REFRESH = 0.1  # seconds between two redraws
EVENT = 0.25  # seconds between two lines on where a cell of a sweep stands


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

    def doing(self, what: str, done: int, total: int) -> None:
        """How far something is that may take long, such as "prompts asked"; it is over with `done` = `total`."""
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

    def doing(self, what: str, done: int, total: int) -> None:
        return

    def evaluated(self, row: dict[str, Any]) -> None:
        return

    def note(self, text: str) -> None:
        return

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        return


class UnderWay:
    """What takes its time just now: of each thing, how far it is and since when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._things: dict[str, tuple[int, int, int, float]] = {}  # done, total; how much was done when it began, when
        self._lock = threading.Lock()

    def update(self, what: str, done: int, total: int) -> None:
        with self._lock:
            if done >= total:
                self._things.pop(what, None)
            else:
                first, began = self._things[what][2:] if what in self._things else (done, self._clock())
                self._things[what] = (done, total, first, began)

    def text(self, least: float = 0.0) -> str:
        """Those that began at least so many seconds ago; "" where there is none."""
        with self._lock:
            now, things = self._clock(), dict(self._things)
        said = []
        for what, (done, total, first, began) in things.items():
            if (seconds := now - began) >= least:
                left = f", {time_left(total - done, (done - first) / seconds)}" if done > first and seconds > 0 else ""
                said.append(f"{done:,} of {total:,} {what} in {duration(seconds)}{left}")
        return "; ".join(said)


class Plain:
    """A line for each evaluation: for a file or a pipe. Where there is none for long, one on what takes so long.

    A thread of its own says that, from `begin` to `close`, since the run is busy meanwhile.
    """

    say_every = 10.0  # seconds

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or _console()
        self._clock = clock
        self._under_way = UnderWay(clock)
        self._said_at = clock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._total, self._unit = 1, "decisions"
        self._begun: str | None = None

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        if name != self._begun:
            self._print(f"{name}: {total_steps:,} {unit}")
        self._begun = name
        self._total, self._unit = total_steps, unit
        if self._thread is None:
            self._thread = threading.Thread(target=self._speak, daemon=True)
            self._thread.start()

    def progress(self, p: Progress) -> None:
        self.doing(self._unit, p.env_steps, self._total)

    def doing(self, what: str, done: int, total: int) -> None:
        self._under_way.update(what, done, total)

    def evaluated(self, row: dict[str, Any]) -> None:
        self._print(evaluation_line(row))

    def note(self, text: str) -> None:
        self._print(text)

    def speak_up(self) -> None:
        """Says what takes so long, where nothing was said for `say_every` seconds."""
        if self._clock() - self._said_at >= self.say_every and (text := self._under_way.text(least=1.0)):
            self._print(f"{'':>17}  {text}")

    def _speak(self) -> None:
        while not self._closed.wait(self.say_every / 4):
            self.speak_up()

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        self._hush()
        self.console.print(end_table(summary, cost))
        for path in paths:
            self._print(str(path))

    def close(self) -> None:
        """Leaves the screen as it should be; also for a run that stops early."""
        self._hush()

    def _hush(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _print(self, text: str) -> None:
        """As it is, on one line: a path that is broken or coloured cannot be copied."""
        self._said_at = self._clock()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Live(Plain):
    """A bar that moves, above it a line for each evaluation: for a terminal of 80 columns or more."""

    say_every = 1.0

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.live import Live as RichLive

        super().__init__(console, clock)
        self._shown = Progress(0, 0, None, None, 0, 0, 0, 0.0)
        self._shown_at = float("-inf")
        self._live = RichLive(console=self.console, auto_refresh=False, transient=True)

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        super().begin(name, folder, total_steps, unit)
        self._total, self._unit = max(total_steps, 1), unit
        self._live.start()

    def progress(self, p: Progress) -> None:
        now = self._clock()
        self._shown = p
        if now - self._shown_at < REFRESH and p.env_steps < self._total:
            return
        self._shown_at = now
        self._live.update(self._bar(p), refresh=True)

    def speak_up(self) -> None:
        """The bar stands still while something takes long: below it is what, and it is drawn anew."""
        if self._live.is_started and self._clock() - self._shown_at >= self.say_every:
            self._live.update(self._bar(self._shown), refresh=True)

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        self.close()
        super().done(summary, cost, paths)

    def close(self) -> None:
        self._hush()
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
        asked = Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
        slow = self._under_way.text(least=self.say_every)
        return Group(bar, asked, *([Text(slow, style="dim")] if slow else []))


class Events(Plain):
    """A line of JSON for each thing that happens: for the sweep that this run is a cell of."""

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        self._say(total=total_steps)

    def progress(self, p: Progress) -> None:
        now = time.monotonic()
        if now - self._said_at >= EVENT:
            self._said_at = now
            success = p.eval_success if p.eval_success is not None else p.train_success
            self._say(at=p.env_steps, rate=p.steps_per_second, success=success)

    def evaluated(self, row: dict[str, Any]) -> None:
        self._say(row=row)

    def note(self, text: str) -> None:
        self._say(note=text)

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        return

    _said_at = float("-inf")

    def _say(self, **event: Any) -> None:
        print(json.dumps(event), flush=True)


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
