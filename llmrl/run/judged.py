"""Reading back what trained agents did in other games (`llmrl evaluate`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.run.files import read_lines
from llmrl.run.load import RunInfo

FOLDER = "evaluations"  # in a run's folder


@dataclass(frozen=True)
class Judged:
    """One evaluation, as its folder tells it."""

    run: RunInfo
    path: Path
    summary: dict[str, Any]

    def success(self) -> dict[str, list[bool]]:
        """Task -> of each of its episodes, whether it succeeded."""
        found: dict[str, list[bool]] = {}
        for row in read_lines(self.path / "episodes.jsonl"):
            found.setdefault(row["task"], []).append(bool(row["success"]))
        return found
