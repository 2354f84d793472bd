"""Runs studies as a whole: their data, their runs, their evaluations in other games, and their tables.

Everything lies under `runs/`: a folder of runs for each study, tables and figures in `runs/tables`. A run that is
complete is not run again, and a run that was cut short goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmrl.collect import parse_order
from llmrl.core.files import publish
from llmrl.core.overrides import ConfigError
from llmrl.studies.judge import Judgement, judge_all
from llmrl.studies.runner import collect_missing, run_study, unfinished
from llmrl.studies.study import Cell, Study
from llmrl.studies.table import table

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """The cells of a study that are wanted, and what is left of them."""

    study: Study
    runs: Path
    cells: list[Cell]
    left: list[Cell]
    missing: dict[str, str]  # arm -> what it needs and is not there, such as a model that is still to be made

    @property
    def title(self) -> str:
        return f"{self.study.name}: {len(self.cells) - len(self.left)} of {len(self.cells)} runs are complete"


def find_work(study: Study, runs: Path, arms: list[str] | None = None, seeds: int | None = None) -> Work:
    """Raises ConfigError for an arm that the study lacks. Data sets that are not there yet make all of it left."""
    cells = list(study.cells(arms, seeds))
    if not all(parse_order(words)[0].out.exists() for words in study.collect):
        return Work(study, runs, cells, cells, {})
    missing: dict[str, str] = {}
    left: list[Cell] = []
    for arm in dict.fromkeys(cell.arm for cell in cells):
        try:
            left += unfinished([cell for cell in cells if cell.arm == arm], runs)
        except ConfigError as error:
            missing[arm] = str(error)
    return Work(study, runs, cells, [cell for cell in cells if cell in left], missing)


def reproduce(work: Sequence[Work], runs: Path, jobs: int, tell: Tell) -> list[str]:
    """Does what is left, and writes the tables. Returns what failed, a line each."""
    failed = []
    for each in work:
        study = each.study
        for words in study.collect:
            tell(collect_missing(words, each.runs, tell))
        wanted = find_work(study, each.runs, list(dict.fromkeys(c.arm for c in each.cells)), _seeds(each.cells))
        failed += [f"{study.name}, {arm}: {why}" for arm, why in wanted.missing.items()]
        for cell, error in run_study(study, wanted.left, each.runs, jobs, tell):
            failed.append(f"{study.name}, {cell.arm} seed {cell.seed}: {error}")
        if study.judged["judge"]:
            judgement = Judgement(study, each.runs, tell)
            for planned, wrong in judge_all(judgement, jobs, tell):
                failed.append(f"{study.name}, {planned.run.name}: {wrong}")
        for path in write_tables(study, each.runs, runs / "tables", tell):
            tell(str(path))
    return failed


def write_tables(study: Study, runs: Path, out: Path, tell: Tell) -> list[Path]:
    """Writes the tables and figures that the finished runs of a study allow. `tell` hears which cannot be made."""
    from llmrl.studies.quality import draw_quality
    from llmrl.studies.transitions import draw, found
    from llmrl.studies.transitions import table as offline_table

    parts, written = [], []
    for prefix, against in study.tables.items():
        own = [arm for arm in study.arms if arm.startswith(prefix)]
        try:
            if study.sizes:
                arms = found(study, runs)
                lines = list(offline_table(arms, against))
                written.append(draw({study.name: arms}, _made(out) / f"{study.name}.png"))
            else:
                lines = list(table(study, runs, against, own))
        except ValueError as error:  # too few runs, or made by uncommitted code
            tell(f"no table of {prefix or study.name} against {against}: {error}")
            continue
        parts.append("\n".join(lines) + "\n")
    if study.judged["judge"]:
        judgement = Judgement(study, runs, tell)
        parts.append(
            "\n".join([*judgement.table(), *(("", *judgement.matrix_table()) if judgement.matrix else ())]) + "\n"
        )
    if study.figure == "quality" and parts:
        written.append(draw_quality(study, runs, _made(out) / f"{study.name}_quality.png"))
    if parts:
        file = _made(out) / f"{study.name}.md"
        publish(file, "\n".join(parts))
        written.insert(0, file)
    return written


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _seeds(cells: Sequence[Cell]) -> int:
    return max(cell.seed for cell in cells) + 1
