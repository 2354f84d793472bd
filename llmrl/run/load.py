"""Reading runs back: for tables, plots and whoever compares."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llmrl.run.files import read_lines
from llmrl.run.folder import ASIDE, in_use, read_object, read_summary


@dataclass(frozen=True)
class RunInfo:
    """One run, as its folder tells it; files are read when asked for."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config; {} where it was not written yet."""
        try:
            value = OmegaConf.to_container(OmegaConf.load(self.path / "config.yaml"))
        except Exception:  # absent, or not YAML: whatever a foreign folder holds
            return {}
        return {str(key): v for key, v in value.items()} if isinstance(value, dict) else {}

    @cached_property
    def summary(self) -> dict[str, Any]:
        return read_summary(self.path)

    @cached_property
    def cost(self) -> dict[str, Any]:
        return read_object(self.path / "cost.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return read_object(self.path / "provenance.json")

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per evaluation: metric name -> value or None."""
        return list(read_lines(self.path / "metrics.jsonl"))

    @cached_property
    def status(self) -> str:
        """complete, failed, running, or stopped: unfinished, and nobody works on it."""
        status = str(self.summary.get("status", "unknown"))
        return "stopped" if status == "running" and not in_use(self.path) else status

    @property
    def age(self) -> float:
        """Seconds since the run last wrote a summary."""
        return max(0.0, time.time() - (self.path / "summary.json").stat().st_mtime)


def load_runs(root: Path) -> list[RunInfo]:
    """The runs in a folder, by name; other folders, and runs that were set aside, are left out."""
    if not root.is_dir():
        return []
    return [RunInfo(p) for p in sorted(root.iterdir()) if is_run(p) and not ASIDE.search(p.name)]


def is_run(path: Path) -> bool:
    return "run_id" in read_summary(path)


def find_run(text: str, root: Path) -> RunInfo:
    """The run a person means: a folder, or a part of one name under `root`.

    Raises ValueError with the candidates when it is none or several.
    """
    if is_run(Path(text)):
        return RunInfo(Path(text))
    runs = load_runs(root)
    found = [run for run in runs if run.name == text] or [run for run in runs if text in run.name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{text}: {len(found)} runs have this in their name; type more of one:\n{_listed(found)}")
    if not runs:
        raise ValueError(f"{text}: no such run, and there is none in {root}/; `llmrl train` makes one")
    near = get_close_matches(text, [run.name for run in runs], n=5, cutoff=0.5)
    raise ValueError(
        f"{text}: no such run in {root}/; there are\n{_listed([r for r in runs if r.name in near] or runs)}"
    )


def _listed(runs: Sequence[RunInfo], most: int = 10) -> str:
    names = [f"  {run.name}" for run in runs[:most]]
    return "\n".join(names + ([f"  and {len(runs) - most} more"] if len(runs) > most else []))
