"""Sends the rows of one run's folder to one dashboard, while the run grows or when it is over.

    python -m llmrl.loggers.send FOLDER LOGGER SETTINGS SECONDS

A process of its own: a library that fails, hangs, prints or draws random numbers touches no run. It reads what the
run has written, until its standard input ends, and has SECONDS from then on (0: as many as it needs). Its standard
output is one line of JSON: `rows` that are there now, `new` ones among them, and `where`; or an `error`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrl.core.files import flatten, publish
from llmrl.core.locks import holding
from llmrl.core.secrets import without_secrets
from llmrl.loggers.logger import LoggerError, Sent, logger_class
from llmrl.run.folder import ASIDE, METRICS, read_object, read_summary
from llmrl.run.load import RunInfo

LOOK = 1.0  # seconds between two looks at a run that grows
NICE = 10  # the run comes first
NOT_OF_THE_RUN = ("logger", "paths")  # of its config


def send(
    folder: Path, name: str, settings: Mapping[str, Any], grows: Callable[[], bool], may_wait: bool
) -> dict[str, Any]:
    """Sends what the dashboard lacks. `grows` returns after a moment, and says whether more rows may come.

    `sent/<logger>.json` in the run's folder says what is there. Without it all is sent again, and a dashboard that has
    a step keeps it once. `may_wait`: for another process that sends the run there. Returns what the module's text says.
    """
    records = folder / "sent"
    try:
        records.mkdir(exist_ok=True)
    except OSError as error:
        raise LoggerError(f"{records} cannot be written ({error.strerror})") from None
    with holding(records / f"{name}.lock", lambda: None if may_wait else _refuse_busy(folder, name)):
        record, run = records / f"{name}.json", _facts_of(RunInfo(folder))
        more, before = grows(), read_object(record)
        sent = not more and before == _state(folder, settings, _lines(folder), before.get("where"))
        if sent and logger_class(name).has(settings, run):
            return {"rows": before["rows"], "new": 0, "where": before["where"]}
        there = logger_class(name)(settings, run)
        lines: list[bytes] = []
        new, last, looks = 0, -1, True
        while looks:
            looks, done = more, len(lines)  # what was written before the end is read after it
            lines = _lines(folder)
            for row in map(json.loads, lines[done:]):
                last = _step(row)
                if last >= there.first:
                    there.write(last, _numbers(row))
                    new += 1
            more = looks and grows()
        state = _state(folder, settings, lines, there.where)
        there.finish(_summary(folder), last, state["complete"])
        publish(record, json.dumps(state, indent=2) + "\n")
        return {"rows": len(lines), "new": new, "where": there.where}


def _refuse_busy(folder: Path, name: str) -> None:
    raise LoggerError(f"another process sends {folder.name} to {name} now: type this again when it has ended")


def _lines(folder: Path) -> list[bytes]:
    """Reads the whole lines of metrics.jsonl."""
    try:
        data = (folder / METRICS).read_bytes()
    except FileNotFoundError:
        return []
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)


def _facts_of(run: RunInfo) -> Sent:
    aside = ASIDE.search(run.name)
    config = {key: value for key, value in run.config.items() if key not in NOT_OF_THE_RUN}
    run_id = f"{run.summary['run_id'][:16]}{aside[0].replace('.', '-') if aside else ''}"
    return Sent(run.name, run_id, config)


def _state(folder: Path, settings: Mapping[str, Any], lines: Sequence[bytes], where: str | None) -> dict[str, Any]:
    """The record of a dashboard that has all of this."""
    return {
        "settings": dict(settings),
        "rows": len(lines),
        "sha256": hashlib.sha256(b"".join(lines)).hexdigest(),
        "complete": read_summary(folder).get("status") == "complete",
        "where": where,
    }


def _step(row: Mapping[str, Any]) -> int:
    """Decisions; gradient steps of a run that learns from data, which decides nothing."""
    return int(row["env_steps"] or row.get("gradient_steps", 0))


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value) if isinstance(value, bool) else value
        for name, value in row.items()
        if isinstance(value, int | float)
    }


def _summary(folder: Path) -> dict[str, Any]:
    """Keys as those of a row: eval/success, cost/seconds."""
    summary = read_summary(folder) | {"cost": read_object(folder / "cost.json")}
    return {
        key.replace(".", "/"): value for key, value in flatten(summary).items() if isinstance(value, str | int | float)
    }


def _follow(pipe: int, seconds: int) -> Callable[[], bool]:
    """Whether `pipe` is still open, after a moment; once it is not, this process has `seconds` left."""
    over = threading.Event()

    def listen() -> None:
        while os.read(pipe, 1):
            pass
        if seconds:
            signal.alarm(seconds)  # whatever a library is doing then
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    return lambda: not over.wait(LOOK)


def main() -> None:
    folder, name, settings, seconds = sys.argv[1:]
    os.nice(NICE)
    pipe, report, null = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # whatever a library asks or prints, and the processes it starts
        os.dup2(null, stream)
    try:
        said = send(Path(folder), name, json.loads(settings), _follow(pipe, int(seconds)), int(seconds) > 0)
    except BaseException as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        said = {
            "error": without_secrets(reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}")
        }
    os.write(report, json.dumps(said).encode() + b"\n")
    os._exit(0)  # a library that waits for its server at the exit has had its time


if __name__ == "__main__":
    main()
