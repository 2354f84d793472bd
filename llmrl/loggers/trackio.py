"""Trackio: on this machine, or in a Hugging Face Space.

Trackio has no summary: it becomes one more row, after the last. What fails is a warning of Trackio, and an error here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trackio

from llmrl.core.files import flatten
from llmrl.loggers.logger import LoggerError, Sent


class Trackio:
    def __init__(self, settings: Mapping[str, Any], run: Sent) -> None:
        self._warned = warnings.catch_warnings(record=True)
        self._warnings = self._warned.__enter__()
        warnings.simplefilter("always", UserWarning)
        project, space = settings["project"], settings["space_id"]
        self._run = trackio.init(
            project,
            name=run.name,
            space_id=space,
            config=flatten(run.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self.first = self._run._next_step  # which has no public name
        space = space or os.environ.get("TRACKIO_SPACE_ID")
        shown = f"https://huggingface.co/spaces/{space}" if space else f"`trackio show --project {project}`"
        self.where = f"{shown}, run {run.name}"

    @staticmethod
    def has(settings: Mapping[str, Any], run: Sent) -> bool:
        return True

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=step)

    def finish(self, summary: Mapping[str, Any], last: int, complete: bool) -> None:
        if complete and self._run._next_step == last + 1:
            self._run.log({f"summary/{key}": value for key, value in summary.items()})
        self._run.finish()
        self._warned.__exit__(None, None, None)
        assert self._warnings is not None
        if said := [str(w.message) for w in self._warnings if Path(w.filename).parent.name == "trackio"]:
            raise LoggerError(" ".join(said[0].split()))
