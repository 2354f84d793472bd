"""Several runs by one command: each is checked before the first is launched, and each has a process of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omegaconf import DictConfig

from llmrl.config.compose import ConfigError, compose, expand_sweep
from llmrl.launch.commands import Watch, run_commands
from llmrl.run.folder import is_complete
from llmrl.run.identity import RunIdentity, identify_run
from llmrl.run.load import RunInfo, is_run
from llmrl.training.preflight import refuse_unready


class SweepWatch(Watch, Protocol):
    def say(self, text: str) -> None: ...

    def complete(self, i: int) -> None: ...


@dataclass(frozen=True)
class Cell:
    overrides: list[str]
    cfg: DictConfig
    identity: RunIdentity

    def folder(self) -> Path:
        """The folder of its run, whether it exists or not."""
        return self.identity.folder(Path(self.cfg.paths.runs))

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
    for cell in expand_sweep(overrides, config_dir):
        try:
            cfg = compose(cell, config_dir)
            identity = identify_run(cfg)
        except ConfigError as error:
            wrong.append(f"{' '.join(cell)}\n  {error}")
            continue
        planned.setdefault(identity.id, Cell(cell, cfg, identity))
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
    watch: SweepWatch,
    flags: Sequence[str] = (),
) -> list[int]:
    """Runs the cells that are not finished, `jobs` at a time, and returns exit codes. One that fails stops no other."""
    fresh = "--fresh" in flags
    waiting = [i for i, cell in enumerate(planned) if fresh or not cell.is_complete]
    for i in set(range(len(planned))) - set(waiting):
        watch.complete(i)
    if len(waiting) < len(planned):
        watch.say(f"{len(planned) - len(waiting)} of {len(planned)} runs are complete already")
    own = ["--config-dir", str(config_dir)] if config_dir else []
    commands = {i: ["train", *planned[i].overrides, *flags, *own] for i in waiting}
    codes = run_commands(commands, jobs, watch, {"LLMRL_SWEEP": str(os.getpid())})
    return [codes.get(i, 0) for i in range(len(planned))]
