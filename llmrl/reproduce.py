"""Repeats a paper: the data, runs and evaluations of its studies, and its tables beside the published figures.

Everything lies under `runs/`: a folder of runs for each study, tables and figures in `runs/tables`. A run that is
complete is not run again, and a run that was cut short goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.filesize import decimal

from llmrl.collect import parse_order
from llmrl.core.overrides import ConfigError
from llmrl.report import markdown
from llmrl.report.alfworld import MixedCells, Played, check_played
from llmrl.report.html import Figure, Report
from llmrl.report.result import ResultTable, write_results
from llmrl.run.load import RunInfo
from llmrl.studies.judge import Judgement, judge_all
from llmrl.studies.paper import Paper, TableSpec
from llmrl.studies.runner import collect_missing, find_unfinished, run_study
from llmrl.studies.study import Cell, Results, Study, find_results
from llmrl.studies.table import curve_table

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """The cells of a study that are wanted, and what is left of them."""

    study: Study
    runs: Path
    cells: list[Cell]
    left: list[Cell]
    missing: dict[str, str]  # arm -> what it needs and is not there, such as a model that is still to be made
    seconds: float | None  # that the cells left will take, one at a time; None where no run is there to tell
    is_judged: bool = False  # trained agents are evaluated in other games, too

    def lines(self, jobs: int) -> Iterator[str]:
        """The plan, for a person."""
        done = len(self.cells) - len(self.left) - sum(cell.arm in self.missing for cell in self.cells)
        text = f"{self.study.name}: {done} of {len(self.cells)} runs are complete"
        if self.left:
            took = "; no complete run tells how long" if self.seconds is None else f": {_duration(self.seconds / jobs)}"
            text += f", {len(self.left)} are left{took}"
        yield text
        for arm, why in self.missing.items():
            yield f"  {arm} cannot run: {why.partition(';')[0]}"


def find_work(
    study: Study, runs: Path, arms: list[str] | None = None, seeds: int | None = None, is_judged: bool = False
) -> Work:
    """Raises ConfigError for an arm that the study lacks. Data sets that are not there yet make all of it left."""
    cells = list(study.cells(arms, seeds))
    if not _has_data(study):
        return Work(study, runs, cells, cells, {}, None, is_judged)
    missing: dict[str, str] = {}
    left: set[int] = set()
    seen: set[str] = set()  # arms may be the same run, where settings are changed for all
    for arm in dict.fromkeys(cell.arm for cell in cells):
        try:
            left |= set(map(id, find_unfinished([cell for cell in cells if cell.arm == arm], runs, seen)))
        except ConfigError as error:
            missing[arm] = str(error)
    in_order = [cell for cell in cells if id(cell) in left]
    return Work(study, runs, cells, in_order, missing, _estimate(study, runs, in_order), is_judged)


def plan(paper: Paper, runs: Path, only: Sequence[str] | None = None, seeds: int | None = None) -> list[Work]:
    """The work left of each study. `only`: names of tables and arms. Raises ConfigError for one that does not exist."""
    tables = [t.name for t in paper.tables]
    arms = {arm for name in paper.studies for arm in paper.arms(name)}
    for name in only or []:
        if name not in tables and name not in arms:
            raise ConfigError(
                f"--only {name}: {paper.name} has no such table or arm; there are the tables {', '.join(tables)}, and "
                f"the arms {', '.join(sorted(arms))}"
            )
    work = []
    for name, study in paper.studies.items():
        named = [t for t in paper.tables if t.study == name and (not only or t.name in only)]
        shown = {arm for table in named for arm in table.arms} | set(only or [])
        if wanted := [arm for arm in paper.arms(name) if arm in shown]:
            is_judged = any(table.kind in ("games", "matrix") for table in named)
            work.append(find_work(study, runs / name, wanted, seeds, is_judged))
    return work


def reproduce(paper: Paper, work: Sequence[Work], runs: Path, jobs: int, tell: Tell) -> list[str]:
    """Does what is left, and writes the tables. Returns what failed, a line each; it stops nothing else."""
    failed: list[str] = []
    for each in work:
        try:
            failed += _do(each, jobs, tell)
        except ValueError as error:
            failed.append(f"{each.study.name}: {error}")
    for path in write_tables(paper, runs, tell):
        tell(str(path))
    return failed


def _do(work: Work, jobs: int, tell: Tell) -> Iterator[str]:
    study = work.study
    if not _has_data(study):
        for words in study.collect:
            tell(collect_missing(words, work.runs, tell))
        arms = list(dict.fromkeys(cell.arm for cell in work.cells))
        work = find_work(study, work.runs, arms, max(cell.seed for cell in work.cells) + 1, work.is_judged)
    yield from (f"{study.name}, {arm}: {why}" for arm, why in work.missing.items())
    for cell, error in run_study(study, work.left, work.runs, jobs, tell):
        yield f"{study.name}, {cell.arm} seed {cell.seed}: {error}"
    if work.is_judged:
        for planned, wrong in judge_all(Judgement(study, work.runs, tell), jobs, tell):
            yield f"{study.name}, {planned.run.name}: {wrong}"


def _has_data(study: Study) -> bool:
    return all(parse_order(words)[0].out.exists() for words in study.collect)


def read_results(paper: Paper, runs: Path) -> dict[str, Results]:
    """The complete runs of each study of the paper, of the arms that its tables show."""
    found = {}
    for name, study in paper.studies.items():
        arms = paper.arms(name)
        alone = [arm["alone"] for arm in study.arms.values() if "alone" in arm]  # said beside an arm, not a row
        found[name] = find_results(study, runs / name, list(dict.fromkeys([*arms, *alone])))
    return found


def make_tables(paper: Paper, results: Mapping[str, Results], runs: Path, tell: Tell) -> list[ResultTable]:
    """The tables that finished runs allow. `tell` hears which cannot be made, and why. Raises MixedCells."""
    tables = []
    for spec in paper.tables:
        try:
            table = _table(spec, results[spec.study], runs / spec.study, tell)
        except MixedCells as error:
            raise MixedCells(f"no table of {spec.name}: {error}") from None
        except ValueError as error:  # too few runs, or made by uncommitted code
            tell(f"no table of {spec.name}: {error}")
            continue
        if table.rows:
            tables.append(table)
        else:
            tell(f"no table of {spec.name}: nothing of it is complete")
    return tables


def write_tables(paper: Paper, runs: Path, tell: Tell) -> list[Path]:
    """Writes tables and figures into `runs`/tables, in a folder of the paper and its scale."""
    out = runs / "tables" / paper.folder
    results = read_results(paper, runs)
    tables = make_tables(paper, results, runs, tell)
    if not tables:
        return []
    forms: list[tuple[str, int | None]] = [(".png", None), (".pdf", 2), (".svg", 2)]
    figures = [path for suffix, columns in forms for _, path in _draw(paper, results, out, suffix, columns)]
    return [write_results(tables, out / "tables.md", head(paper)), *figures]


def _draw(
    paper: Paper, results: Mapping[str, Results], out: Path, suffix: str, columns: int | None = None
) -> Iterator[tuple[str, Path]]:
    """Draws the figures that finished runs allow, named by their tables. Each with its title.

    `columns`: of a paper, as in `llmrl plot`; None: for a screen.
    """
    from llmrl.report.plots import curve
    from llmrl.studies import transitions
    from llmrl.studies.quality import draw_quality

    for spec in paper.tables:
        own, file = results[spec.study], out / f"{spec.name}{suffix}"
        with suppress(ValueError):  # `make_tables` has said why
            if spec.kind == "transitions" and (arms := transitions.find_arms(own, spec.arms)):
                yield spec.title, transitions.draw({own.study.title: arms}, file, columns)
            elif spec.kind == "curves":
                if done := [run for group in own.arms(spec.arms).values() for run in group]:
                    yield spec.title, curve(done, file, "eval/success", "env_steps", columns)
                if own.study.figure == "quality":
                    figure = draw_quality(own, spec.arms, out / f"{spec.name}_quality{suffix}", columns=columns)
                    if figure is not None:
                        yield "Sample efficiency against the quality of the prior", figure


def report_on_paper(paper: Paper, runs: Path, tell: Tell) -> Report:
    """A page of what is complete. Raises ConfigError where nothing is."""
    results = read_results(paper, runs)
    tables = make_tables(paper, results, runs, tell)
    if not tables:
        raise ConfigError(f"{paper.name} has no table yet: `{paper.command}` makes its runs")
    with TemporaryDirectory() as folder:
        figures = [Figure(title, path.read_text()) for title, path in _draw(paper, results, Path(folder), ".svg")]
    several = len(paper.studies) > 1
    shown = {
        f"{name}: {arm}" if several else arm: done
        for name, own in results.items()
        for arm, done in own.arms(paper.arms(name)).items()
    }
    published = [figure.cells() for figure in paper.published]
    changed = f"Every run has also {' '.join(paper.changes)}." if paper.changes else ""
    about = " ".join(filter(None, [paper.about.strip(), f"Paper: {paper.paper}." if paper.paper else "", changed]))
    return Report(paper.title, about, tables, figures, shown, paper.command, paper.differs, published)


def export_paper(paper: Paper, runs: Path, out: Path, tell: Tell) -> str:
    """Packs what is complete into `out`, and says what it is. Raises ConfigError where nothing is."""
    from llmrl.studies.parcel import pack

    if own := [name for name, study in paper.studies.items() if study.empty_caches]:
        raise ConfigError(f"--export {out}: the runs of {own[0]} have answers of their own, which it would not hold")
    page = report_on_paper(paper, runs, tell)
    done = {
        name: [run for group in own.arms(paper.arms(name)).values() for run in group]
        for name, own in read_results(paper, runs).items()
    }
    about = {"paper": paper.name, "scale": paper.scale, "settings": paper.changes}
    count = pack(about, done, page.html(), out)
    return f"{out}: {count} runs, {decimal(out.stat().st_size)}; `llmrl reproduce --from {out} --verify` repeats them"


def report_on_runs(found: Sequence[RunInfo], command: str) -> Report:
    """A page of runs; those that differ only in their seed are a group. Raises ConfigError where none is complete."""
    from llmrl.report.groups import group_runs
    from llmrl.report.plots import curve
    from llmrl.report.sweeps import COLUMNS, arms, figures_of

    done = [run for run in found if run.status == "complete"]
    if not done:
        raise ConfigError("none of these runs is complete: there is nothing to report")
    notes = check_played(map(Played.of, done), same_games=False)
    table = ResultTable("groups", "Groups of runs", COLUMNS, [figures_of(arm) for arm in arms(done)], notes=notes)
    figures = []
    with TemporaryDirectory() as folder, suppress(ValueError):  # a single evaluation is no curve
        figures.append(Figure("Success", curve(done, Path(folder) / "curve.svg").read_text()))
    about = f"{len(done)} of {len(found)} runs are complete. Intervals are over seeds."
    return Report("Runs", about, [table], figures, group_runs(done), command)


def _table(spec: TableSpec, results: Results, folder: Path, tell: Tell) -> ResultTable:
    alone = [results.study.arms[arm].get("alone") for arm in spec.arms]  # said beside an arm
    shown = {*spec.arms, spec.against, *alone}
    cells = [Played.of(run, f"{cell.arm} seed {cell.seed}") for cell, run in results.cells if cell.arm in shown]
    judgement = Judgement(results.study, folder, tell) if spec.kind in ("games", "matrix") else None
    if judgement is not None:
        cells += judgement.find_played()
    notes = check_played(cells, same_games=judgement is None)
    table = _fill(spec, results, judgement)
    return replace(table, notes=list(dict.fromkeys([*table.notes, *notes])))


def _fill(spec: TableSpec, results: Results, judgement: Judgement | None) -> ResultTable:
    if judgement is not None:
        make = judgement.table if spec.kind == "games" else judgement.matrix_table
        return make(spec.name, spec.title)
    if spec.kind == "curves":
        return curve_table(
            spec.name, spec.title, results, spec.against or next(iter(results.arms(spec.arms)), ""), spec.arms
        )
    from llmrl.studies import transitions

    arms = transitions.find_arms(results, spec.arms)
    return transitions.transition_table(spec.name, spec.title, arms, spec.against or spec.arms[0])


def head(paper: Paper) -> str:
    """The paper's reference, the differences from it, and its published figures, in Markdown."""
    parts = [f"# {paper.title}", paper.about.strip()]
    if paper.changes:
        parts.append(f"Every run has also: `{' '.join(paper.changes)}`.")
    if paper.differs:
        parts += [f"Differences from {paper.paper}:", "\n".join(f"- {line}" for line in paper.differs)]
    if paper.published:
        rows = [figure.cells() for figure in paper.published]
        parts.append("\n".join(markdown.table(["published", "figure", "source"], rows)))
    return "\n\n".join(filter(None, parts)) + "\n"


def _estimate(study: Study, runs: Path, left: Sequence[Cell]) -> float | None:
    """Seconds of `left`, from the complete runs of the same arm, or of any of these arms."""
    done = find_results(study, runs, list({cell.arm for cell in left})).arms() if left and runs.is_dir() else {}
    took = {arm: [run.cost["seconds"] for run in own if "seconds" in run.cost] for arm, own in done.items()}
    every = [seconds for all_of_one in took.values() for seconds in all_of_one]
    return sum(median(took.get(cell.arm) or every) for cell in left) if every else None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
