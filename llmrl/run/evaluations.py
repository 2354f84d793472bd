"""Reading back what trained agents did in other games (`llmrl evaluate`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.core.files import read_lines
from llmrl.run.load import RunInfo

FOLDER = "evaluations"  # in a run's folder


@dataclass(frozen=True)
class Judged:
    """One evaluation, as its folder tells it."""

    run: RunInfo
    path: Path
    summary: dict[str, Any]

    def success(self) -> dict[str, list[float]]:
        """Task -> of each of its episodes, whether it succeeded; where success was computed, that alone."""
        if self.exact:
            return {task: [success] for task, success in self.summary["exact"].items()}
        found: dict[str, list[float]] = {}
        for row in read_lines(self.path / "episodes.jsonl"):
            found.setdefault(row["task"], []).append(float(row["success"]))
        return found

    @property
    def exact(self) -> bool:
        return "exact" in self.summary
