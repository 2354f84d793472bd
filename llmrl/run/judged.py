"""Reading back what trained agents did in other games (`llmrl evaluate`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.run.files import read_lines
from llmrl.run.folder import read_object
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


def evaluations(run: RunInfo) -> list[Judged]:
    """What a run was evaluated in so far."""
    found = [Judged(run, path, read_object(path / "summary.json")) for path in sorted((run.path / FOLDER).glob("*-*"))]
    return [judged for judged in found if "evaluation_id" in judged.summary]
