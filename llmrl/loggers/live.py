"""The processes that send a run's rows: beside a run that grows, and for one that is over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmrl.loggers.logger import LoggerError, absolute

WAIT = 20  # seconds that a dashboard has after the end of a run
LATE = "it took too long"


class Sender:
    """A process that sends a run's folder to one logger, from now until `close`."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any], seconds: int) -> None:
        self.name = name
        said = json.dumps(absolute(name, settings))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llmrl.loggers.send", str(folder), name, said, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the run's
        )

    def close(self) -> None:
        """No row will follow. The process ends by itself, within the seconds that it was given."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def result(self) -> dict[str, Any]:
        """Waits for its end. Raises LoggerError for what went wrong."""
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            said = stdout.read()
        code = self._process.wait()
        if not said:
            raise LoggerError(LATE if code == -signal.SIGALRM else f"its process ended with exit code {code}")
        found: dict[str, Any] = json.loads(said)
        if "error" in found:
            raise LoggerError(found["error"])
        return found

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def push(folder: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sends what a dashboard lacks of a run: `rows` that it has now, `new` ones among them, and `where`.

    Raises LoggerError.
    """
    sender = Sender(folder, name, settings, seconds=0)
    try:
        sender.close()
        return sender.result()
    except BaseException:
        sender.kill()
        raise


@contextmanager
def sent_live(
    loggers: Mapping[str, Mapping[str, Any]],
    folder: Path,
    note: Callable[[str], None],
    doing: Callable[[str, int, int], None],
) -> Iterator[None]:
    """Sends the loggers all that this block adds to a run's folder. No error of theirs leaves it.

    They have WAIT seconds when the block is left. A block that ends by an error does not wait for them.
    """
    if not loggers:
        yield
        return
    watched = [_Watched(folder, name, settings, note) for name, settings in loggers.items()]
    try:
        yield
    except BaseException:
        for each in watched:
            each.let_go()
        raise
    for each in watched:
        each.close()
    until = time.monotonic() + WAIT
    for i, each in enumerate(watched):
        doing("loggers have all rows", i, len(watched))
        each.wait(until)
    doing("loggers have all rows", len(watched), len(watched))


class _Watched:
    """A sender, and a thread that tells of its end."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self._name, self._run, self._note = name, folder.name, note
        self._sender: Sender | None = None
        self._told = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        try:
            self._sender = Sender(folder, name, settings, WAIT)
        except OSError as error:
            self._tell_failure(str(error))
        else:
            self._thread.start()

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()

    def let_go(self) -> None:
        """It goes on for its seconds, and is not heard any more."""
        self._told.acquire(blocking=False)
        self.close()

    def wait(self, until: float) -> None:
        if self._sender is None:
            return
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self._tell_failure(LATE)
            self._sender.kill()
            self._thread.join(1.0)

    def _watch(self) -> None:
        assert self._sender is not None
        try:
            found = self._sender.result()
        except LoggerError as error:
            self._tell_failure(str(error))
        else:
            self._tell(f"{self._name} has all {found['rows']:,} rows: {found['where']}")

    def _tell_failure(self, reason: str) -> None:
        self._tell(
            f"{self._name} does not have all rows ({reason}). The run is not touched by this; "
            f"`llmrl runs push {self._run} --to {self._name}` sends them later"
        )

    def _tell(self, text: str) -> None:
        if self._told.acquire(blocking=False):  # once
            with suppress(Exception):
                self._note(text)
