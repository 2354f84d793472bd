"""Several runs by one command: each is checked before the first is launched, and each has a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from llmrl.config import ConfigError, cells, compose, run_id, run_name
from llmrl.ready import refuse_unready
from llmrl.run.folder import Paused, is_complete, own_folder
from llmrl.run.load import RunInfo, is_run


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
    say: Callable[[str], None],
    flags: Sequence[str] = (),
    more_environment: Mapping[str, str] | None = None,
) -> list[int]:
    """Runs the cells that are not finished, `jobs` at a time, and returns exit codes. One that fails stops no other."""
    total, codes = len(planned), [0] * len(planned)
    fresh = "--fresh" in flags
    waiting = [i for i, cell in enumerate(planned) if fresh or not cell.is_complete]
    if len(waiting) < total:
        say(f"{total - len(waiting)} of {total} runs are complete already")
    environment = {**os.environ, **(more_environment or {}), "LLMRL_SWEEP": str(os.getpid())}
    under_way: set[subprocess.Popen[Any]] = set()
    stopping, starting = threading.Event(), threading.Lock()

    def run(i: int) -> int:
        command = [sys.executable, "-m", "llmrl", "train", *planned[i].overrides, *flags]
        command += ["--config-dir", str(config_dir)] if config_dir else []
        said, quiet = " ".join(planned[i].overrides), jobs > 1
        if not quiet:
            say(f"[{i + 1}/{total}] {said}")
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} if quiet else {}
        with starting:  # a cell is known to whoever stops the sweep, or not begun any more
            if stopping.is_set():
                return 128 + signal.SIGTERM
            process = subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload]
            under_way.add(process)
        with process:
            _, errors = process.communicate()
            under_way.discard(process)
        if quiet:
            stopped = process.returncode < 0 or process.returncode in (130, 143)
            paused = process.returncode == Paused.exit_code
            ended = "done" if process.returncode == 0 else "stopped" if stopped else "paused" if paused else "failed"
            ended += f"\n{errors.strip()}" if ended in ("paused", "failed") else ""
            say(f"[{i + 1}/{total}] {said}: {ended}")
        return int(process.returncode)

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
