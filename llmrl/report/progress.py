"""The output of a run for a person, while it trains and when it ends."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from llmrl.report.numbers import count, duration, end_table, evaluation_line, percent, time_left

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH = 0.1  # seconds between two redraws
EVENT = 0.25  # seconds between two lines on where a cell of a sweep stands
FIRST, AGAIN = 2.0, 10.0  # seconds of silence before something that takes long is told of, and told of again
STANDS = 1.0  # seconds after which it is seen on a terminal what takes long
LOOK = 0.25  # seconds between two looks at what takes long


@dataclass
class Progress:
    """The position of a run."""

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
        """Before anything is loaded."""
        ...

    def progress(self, p: Progress) -> None:
        """Called at every tick; cheap."""
        ...

    def doing(self, what: str, done: int, total: int) -> None:
        """The position of slow work, such as "prompts asked"; the work is over with `done` = `total`."""
        ...

    def show_evaluation(self, row: dict[str, Any]) -> None:
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

    def show_evaluation(self, row: dict[str, Any]) -> None:
        return

    def note(self, text: str) -> None:
        return

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        return


class UnderWay:
    """The slow work under way: the position of each, and its start."""

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

    def each(self, least: float) -> dict[str, str]:
        """A line on each work that began at least this many seconds ago."""
        with self._lock:
            now, things = self._clock(), dict(self._things)
        said = {}
        for what, (done, total, first, began) in things.items():
            if (seconds := now - began) >= least:
                left = f", {time_left(total - done, (done - first) / seconds)}" if done > first and seconds > 0 else ""
                said[what] = f"{done:,} of {total:,} {what} in {duration(seconds)}{left}"
        return said

    def text(self, least: float = 0.0) -> str:
        """All of them; "" where there is none."""
        return "; ".join(self.each(least).values())


class Pace:
    """The times at which slow work is told of."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._said_at = clock, clock()

    def due(self, new: bool) -> bool:
        """Whether the run was silent long enough; `new`: the line to print is about other work than the last."""
        return self._clock() - self._said_at >= (FIRST if new else AGAIN)

    def restart(self) -> None:
        self._said_at = self._clock()


class Speaker:
    """Passes on what is noted, and says what takes long.

    A thread of its own says that, from `listen` to `close`, since whoever works is busy meanwhile.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say_to, self._clock = say, clock
        self._under_way, self._pace = UnderWay(clock), Pace(clock)
        self._told: set[str] = set()  # what was told of before
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, text: str) -> None:
        self._pace.restart()
        self._say_to(text)

    def doing(self, what: str, done: int, total: int) -> None:
        self._under_way.update(what, done, total)

    def speak_up(self) -> None:
        """Says what takes long, where it was silent for FIRST seconds, or for AGAIN where it was said before."""
        slow = self._under_way.each(FIRST)
        if slow and self._pace.due(new=not slow.keys() <= self._told):
            self._told.update(slow)
            self._speak("; ".join(slow.values()))

    def forget(self) -> None:
        """A person waits anew: everything is told of as for the first time."""
        self._told.clear()
        self._pace.restart()

    def listen(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _speak(self, text: str) -> None:
        self.note(text)

    def _look(self) -> None:
        while not self._closed.wait(LOOK):
            self.speak_up()


class Plain(Speaker):
    """A line for each evaluation: for a file or a pipe. Where there is none for long, one on what takes so long."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(self._print, clock)
        self.console = console or _console()
        self._total, self._unit = 1, "decisions"

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        self.note(f"{name}: {total_steps:,} {unit}")
        self._total, self._unit = total_steps, unit
        self.listen()

    def progress(self, p: Progress) -> None:
        self.doing(self._unit, p.env_steps, self._total)

    def show_evaluation(self, row: dict[str, Any]) -> None:
        self.note(evaluation_line(row))

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        self.close()
        self.console.print(end_table(summary, cost))
        for path in paths:
            self.note(str(path))

    def _speak(self, text: str) -> None:
        self.note(f"{'':>17}  {text}")

    def _print(self, text: str) -> None:
        """Prints a line as it is: a path that is broken or coloured cannot be copied."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Live(Plain):
    """A bar that moves, above it a line for each evaluation: for a terminal of 80 columns or more."""

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
        if self._live.is_started and self._clock() - self._shown_at >= STANDS:
            self._live.update(self._bar(self._shown), refresh=True)

    def close(self) -> None:
        """Leaves the screen as it should be; also for a run that stops early."""
        super().close()
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
            parts.append(f"asked {count(p.queries)}: {count(p.computed)} computed, {count(p.kept)} kept")
        asked = Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
        slow = self._under_way.text(least=STANDS)
        return Group(bar, asked, *([Text(slow, style="dim")] if slow else []))


class Events(Plain):
    """A line of JSON for each thing that happens: for the sweep that this run is a cell of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self._progress_at = self._doing_at = float("-inf")
        self._doing = ""  # as it was sent last

    def begin(self, name: str, folder: Path, total_steps: int, unit: str = "decisions") -> None:
        self._send(total=total_steps)
        self.listen()

    def progress(self, p: Progress) -> None:
        now = self._clock()
        if now - self._progress_at >= EVENT:
            self._progress_at = now
            success = p.eval_success if p.eval_success is not None else p.train_success
            self._send(at=p.env_steps, rate=p.steps_per_second, success=success)

    def doing(self, what: str, done: int, total: int) -> None:
        super().doing(what, done, total)
        self.speak_up()

    def speak_up(self) -> None:
        """Sends what takes long where it is another than before, or for longer; "" where nothing does any more."""
        text, now = self._under_way.text(least=STANDS), self._clock()
        if text != self._doing and (not text or now - self._doing_at >= EVENT):
            self._doing, self._doing_at = text, now
            self._send(doing=text)

    def show_evaluation(self, row: dict[str, Any]) -> None:
        self._send(row=row)

    def note(self, text: str) -> None:
        self._send(note=text)

    def done(self, summary: dict[str, Any], cost: dict[str, Any], paths: Sequence[Path]) -> None:
        return

    def _send(self, **event: Any) -> None:
        print(json.dumps(event) + "\n", end="", flush=True)  # in one piece, since there are two threads


def reporter(show_bar: bool) -> Plain:
    """The reporter for standard output: a bar where it is a terminal and one is wanted."""
    return Live() if show_bar and sys.stdout.isatty() else Plain()


def _console() -> Console:
    from rich.console import Console

    return Console()
