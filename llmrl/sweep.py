"""Several runs by one command: each is checked before the first is launched, and each has a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from llmrl.config import ConfigError, cells, compose, run_id
from llmrl.run.load import RunInfo, load_runs


@dataclass(frozen=True)
class Cell:
    overrides: list[str]
    cfg: DictConfig
    run_id: str

    def run(self) -> RunInfo | None:
        """The cell's folder, if there is one."""
        return next((r for r in load_runs(Path(self.cfg.paths.runs)) if r.summary["run_id"] == self.run_id), None)


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
    if wrong:
        raise ConfigError("nothing was launched; these cells cannot run:\n" + "\n".join(wrong))
    return list(planned.values())


def launch(planned: Sequence[Cell], config_dir: Path | None, jobs: int, say: Callable[[str], None]) -> list[int]:
    """Runs the cells, `jobs` at a time, and returns their exit codes. One that fails does not stop the others."""
    total = len(planned)

    def run(i: int) -> int:
        command = [sys.executable, "-m", "llmrl", "train", *planned[i].overrides]
        command += ["--config-dir", str(config_dir)] if config_dir else []
        if jobs == 1:
            say(f"[{i + 1}/{total}] {' '.join(planned[i].overrides)}")
            return _wait(subprocess.Popen(command))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        _, errors = process.communicate()
        ended = "done" if process.returncode == 0 else f"failed\n{errors.strip()}"
        say(f"[{i + 1}/{total}] {' '.join(planned[i].overrides)}: {ended}")
        return process.returncode

    if jobs == 1:
        return [run(i) for i in range(total)]
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, i) for i in range(total)]
        try:
            return [future.result() for future in running]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)  # those under way got the signal too, and end by themselves
            raise


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # it got the signal too: let it write what it has
        raise
