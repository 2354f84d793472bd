"""Several runs by one command: each is checked before the first is launched, and each has a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig

from llmrl.config.compose import ConfigError, cells, compose, run_id, run_name
from llmrl.run.folder import Paused, is_complete, own_folder
from llmrl.run.load import RunInfo, is_run
from llmrl.training.ready import refuse_unready


class Watch(Protocol):
    """Who is told what becomes of the cells, by their number."""

    def say(self, text: str) -> None: ...

    def complete(self, i: int) -> None: ...

    def started(self, i: int) -> None: ...

    def heard(self, i: int, event: Mapping[str, Any]) -> None: ...

    def ended(self, i: int, state: str, errors: str) -> None: ...


@dataclass(frozen=True)
class Cell:
    overrides: list[str]
    cfg: DictConfig
    run_id: str

    def folder(self) -> Path:
        """Where its run is, or would be."""
        return own_folder(Path(self.cfg.paths.runs), run_name(self.cfg), self.run_id)

    @property
    def is_complete(self) -> bool:
        return is_complete(self.folder())

    def run(self) -> RunInfo | None:
        return RunInfo(self.folder()) if is_run(self.folder()) else None


def plan(overrides: Sequence[str], config_dir: Path | None = None) -> list[Cell]:
    """The cells of a sweep, each composed and checked; one that is the same run as an earlier one is left out.

    Raises ConfigError naming every cell that cannot run.
    """
    planned: dict[str, Cell] = {}
    wrong = []
    for cell in cells(overrides, config_dir):
        try:
            cfg = compose(cell, config_dir)
            name = run_id(cfg)
        except ConfigError as error:
            wrong.append(f"{' '.join(cell)}\n  {error}")
            continue
        planned.setdefault(name, Cell(cell, cfg, name))
    _refuse(wrong)
    return list(planned.values())


def refuse_unready_cells(planned: Sequence[Cell], fresh: bool = False) -> None:
    """Raises ConfigError naming every cell that is still to be run and for which something is missing."""
    wrong = []
    for cell in planned:
        try:
            if fresh or not cell.is_complete:
                refuse_unready(cell.cfg)
        except ConfigError as error:
            wrong.append(f"{' '.join(cell.overrides)}\n  {error}")
    _refuse(wrong)


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        raise ConfigError("nothing was launched; these cells cannot run:\n" + "\n".join(wrong))


def launch(
    planned: Sequence[Cell],
    config_dir: Path | None,
    jobs: int,
    watch: Watch,
    flags: Sequence[str] = (),
) -> list[int]:
    """Runs the cells that are not finished, `jobs` at a time, and returns exit codes. One that fails stops no other."""
    total, codes = len(planned), [0] * len(planned)
    fresh = "--fresh" in flags
    waiting = [i for i, cell in enumerate(planned) if fresh or not cell.is_complete]
    for i in set(range(total)) - set(waiting):
        watch.complete(i)
    if len(waiting) < total:
        watch.say(f"{total - len(waiting)} of {total} runs are complete already")
    environment = {**os.environ, "LLMRL_SWEEP": str(os.getpid())}
    under_way: set[subprocess.Popen[str]] = set()
    stopping, starting = threading.Event(), threading.Lock()

    def run(i: int) -> int:
        command = [sys.executable, "-m", "llmrl", "train", *planned[i].overrides, *flags]
        command += ["--config-dir", str(config_dir)] if config_dir else []
        with starting:  # a cell is known to whoever stops the sweep, or not begun any more
            if stopping.is_set():
                return 128 + signal.SIGTERM
            process = subprocess.Popen(
                command, env=environment, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            under_way.add(process)
        watch.started(i)
        errors: list[str] = []
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            aside = threading.Thread(target=errors.extend, args=(process.stderr,))
            aside.start()
            for line in process.stdout:
                watch.heard(i, _event(line))
            aside.join()
        under_way.discard(process)
        code = int(process.returncode)
        stopped = code < 0 or code in (130, 143)
        ended = "done" if code == 0 else "stopped" if stopped else "paused" if code == Paused.exit_code else "failed"
        watch.ended(i, ended, "".join(errors).strip() if ended in ("paused", "failed") else "")
        return code

    with ThreadPoolExecutor(jobs) as pool:
        try:
            running = {i: pool.submit(run, i) for i in waiting}
            for i, future in running.items():
                codes[i] = future.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            stopping.set()
            with starting:
                for process in list(under_way):
                    process.terminate()  # Ctrl-C reached them too, but SIGTERM reaches the sweep alone
            raise
    return codes


def _event(line: str) -> dict[str, Any]:
    """What a cell said; something that is no event is a note."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"note": line.rstrip()}
