"""Weights & Biases: online, or offline for `wandb sync`.

A run has one id there, and goes on under it. An offline folder of wandb holds the whole run, since `wandb sync` puts
what a folder holds in the place of the run's first rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from llmrl.loggers.logger import LoggerError, Sent


class Wandb:
    def __init__(self, settings: Mapping[str, Any], run: Sent) -> None:
        if settings["dir"] is not None:
            Path(settings["dir"]).mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=settings["project"],
            entity=settings["entity"],
            mode=settings["mode"],
            dir=settings["dir"],
            id=run.id,
            name=run.name,
            resume="allow",
            config=run.config,
            settings=wandb.Settings(  # what this process prints and uses is not the run's
                silent=True, console="off", save_code=False, disable_git=True, x_disable_stats=True, x_disable_meta=True
            ),
        )
        if self._run.disabled:
            raise LoggerError("wandb is disabled by $WANDB_MODE: unset it, or say logger.wandb.mode=offline")
        self.first = self._run.step
        self.where = self._run.url or f"offline; `wandb sync {Path(self._run.dir).parent}` sends it"

    @staticmethod
    def has(settings: Mapping[str, Any], run: Sent) -> bool:
        return True

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=step)

    def finish(self, summary: Mapping[str, Any], last: int, complete: bool) -> None:
        if complete:
            self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if complete else 1)
