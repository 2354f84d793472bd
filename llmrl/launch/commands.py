"""Jobs that are commands: each is a process of its own, so that one that crashes takes no other with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from llmrl.core.processes import PAUSED

STOPPED = (130, 143)


class Watch(Protocol):
    """Is told what becomes of the commands, by their number."""

    def note_start(self, i: int) -> None: ...

    def hear(self, i: int, event: Mapping[str, Any]) -> None: ...

    def note_end(self, i: int, state: str, errors: str) -> None: ...


def run_commands(
    commands: Mapping[int, Sequence[str]], at_once: int, watch: Watch, environment: Mapping[str, str]
) -> dict[int, int]:
    """Runs `llmrl WORDS` for each number, `at_once` at a time. Returns exit codes; one that fails stops no other.

    A command prints events, one JSON object a line. When this process is stopped, so are all commands under way.
    """
    under_way: set[subprocess.Popen[str]] = set()
    stopping, starting = threading.Event(), threading.Lock()

    def run(i: int) -> int:
        command = [sys.executable, "-m", "llmrl", *commands[i]]
        with starting:  # a command is known to the thread that stops them, or not begun any more
            if stopping.is_set():
                return 128 + signal.SIGTERM
            process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                text=True,
                errors="replace",
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            under_way.add(process)
        watch.note_start(i)
        errors: list[str] = []
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            aside = threading.Thread(target=errors.extend, args=(process.stderr,))
            aside.start()
            for line in process.stdout:
                watch.hear(i, _event(line))
            aside.join()
        under_way.discard(process)
        code = int(process.returncode)
        stopped = code < 0 or code in STOPPED
        ended = "done" if code == 0 else "stopped" if stopped else "paused" if code == PAUSED else "failed"
        watch.note_end(i, ended, "".join(errors).strip() if ended in ("paused", "failed") else "")
        return code

    with ThreadPoolExecutor(at_once) as pool:
        try:
            running = {i: pool.submit(run, i) for i in commands}
            return {i: future.result() for i, future in running.items()}
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            stopping.set()
            with starting:
                for process in list(under_way):
                    process.terminate()  # Ctrl-C reached them too, but SIGTERM reaches the parent alone
            raise


def _event(line: str) -> dict[str, Any]:
    """The event on a line that a command printed; a line that is no event is a note."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"note": line.rstrip()}
