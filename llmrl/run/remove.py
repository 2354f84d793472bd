"""Removing runs: only whole ones, only inside the folder of runs, and none that a process works on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from llmrl.config.compose import ConfigError
from llmrl.run.folder import in_use, opening
from llmrl.run.load import RunInfo


def check_removable(runs: Sequence[RunInfo], root: Path) -> None:
    """Raises ConfigError, before anything is removed, for a run elsewhere and for one that is in use."""
    for run in runs:
        if run.path.is_symlink() or run.path.resolve().parent != root.resolve():
            raise ConfigError(f"{run.path} is not in {root}/; --runs FOLDER says where runs are removed")
    busy = [run.name for run in runs if in_use(run.path)]
    if busy:
        raise ConfigError(f"{busy[0]} is in use, and nothing was removed: stop it first, or name the others alone")


def remove(runs: Sequence[RunInfo], root: Path) -> None:
    """Removes the folders. Raises ConfigError, as `check_removable`."""
    with opening(root):  # no process opens a run meanwhile
        check_removable(runs, root)
        doomed = [run.path.with_name(f".{run.name}.{os.getpid()}.old") for run in runs]
        for run, path in zip(runs, doomed, strict=True):
            os.rename(run.path, path)  # at once: what is removed by half is no run
    for path in doomed:
        shutil.rmtree(path)


def size(path: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
