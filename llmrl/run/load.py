"""Reading runs back: for tables, plots and whoever compares."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llmrl.config.compose import ConfigError
from llmrl.core.files import read_lines
from llmrl.core.suggestions import nearest
from llmrl.run.folder import ASIDE, METRICS, in_use, read_object, read_summary


@dataclass(frozen=True)
class RunInfo:
    """One run, as its folder tells it; files are read when asked for."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config; {} where it was not written yet. Raises ValueError for one that cannot be read."""
        file = self.path / "config.yaml"
        try:
            value = OmegaConf.to_container(OmegaConf.load(file))
        except FileNotFoundError:
            return {}
        except Exception as error:  # no YAML, no text, no permission: whatever may have become of a file
            raise ValueError(_unreadable(file, " ".join(str(error).split()))) from None
        if not isinstance(value, dict) or not value:
            raise ValueError(_unreadable(file, "it holds no settings"))
        return {str(key): v for key, v in value.items()}

    @cached_property
    def summary(self) -> dict[str, Any]:
        return read_summary(self.path)

    @cached_property
    def cost(self) -> dict[str, Any]:
        return read_object(self.path / "cost.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return read_object(self.path / "provenance.json")

    @property
    def models(self) -> list[dict[str, Any]]:
        """The identities of the language model and of the encoder's, as far as the run names them."""
        return [self.provenance[part] for part in ("model", "encoder") if self.provenance.get(part)]

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per evaluation: metric name -> value or None."""
        return list(read_lines(self.path / METRICS))

    @cached_property
    def status(self) -> str:
        """complete, failed, running, or stopped: unfinished, and nobody works on it."""
        status = str(self.summary.get("status", "unknown"))
        return "stopped" if status == "running" and not in_use(self.path) else status

    @property
    def age(self) -> float:
        """Seconds since the run last wrote a summary."""
        return max(0.0, time.time() - (self.path / "summary.json").stat().st_mtime)


def load_runs(root: Path | str = "runs", aside: bool = False) -> list[RunInfo]:
    """The runs in a folder, or those that a glob pattern or the path of one means, by name.

    Other folders are left out, and without `aside` runs that were set aside; there may be none.
    """
    holds_runs = Path(root).is_dir() and not is_run(Path(root))
    paths = sorted(Path(root).iterdir()) if holds_runs else [Path(path) for path in sorted(glob(str(root)))]
    runs = [path for path in paths if is_run(path) and not path.name.startswith(".")]  # one that is being removed
    return [RunInfo(path) for path in runs if aside or not ASIDE.search(path.name)]


def is_run(path: Path) -> bool:
    return "run_id" in read_summary(path)


def is_damaged(path: Path) -> bool:
    """Whether a folder is a run's, and its summary.json, by which a run is known, is missing or cannot be read."""
    own = any((path / name).is_file() for name in ("config.yaml", "provenance.json", METRICS))
    return own and not is_run(path) and not path.name.startswith(".") and not ASIDE.search(path.name)


def find_run(text: str, root: Path) -> RunInfo:
    """The run a person means: a folder, or a part of one name under `root`.

    Raises ConfigError with the candidates when it is none or several.
    """
    if is_run(Path(text)):
        return RunInfo(Path(text))
    runs = load_runs(root)
    found = [run for run in runs if run.name == text] or [run for run in runs if text in run.name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{text}: {len(found)} runs have this in their name; type more of one:\n{_list_names(found)}")
    if not runs:
        raise ConfigError(f"{text}: no such run, and there is none in {root}/; `llmrl train` makes one")
    near = nearest(text, [run.name for run in runs], n=5, cutoff=0.5)
    raise ConfigError(
        f"{text}: no such run in {root}/; there are\n{_list_names([r for r in runs if r.name in near] or runs)}"
    )


def _unreadable(file: Path, reason: str) -> str:
    return (
        f"{file} cannot be read ({reason}), so its settings are unknown: put it back, or move the folder away; the "
        "command of an unfinished run writes it anew"
    )


def models_of(texts: Sequence[str], root: Path) -> list[dict[str, Any]]:
    """The identities of all models that these runs name. Raises ValueError where one names none, and as `find_run`."""
    found = []
    for text in texts:
        run = find_run(text, root)
        if not run.models:
            raise ValueError(f"{run.name}: its provenance names no model, so nothing that is kept belongs to it")
        found += run.models
    return found


def _list_names(runs: Sequence[RunInfo], most: int = 10) -> str:
    names = [f"  {run.name}" for run in runs[:most]]
    return "\n".join(names + ([f"  and {len(runs) - most} more"] if len(runs) > most else []))
