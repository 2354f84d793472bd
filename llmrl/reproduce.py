"""Repeats a paper: the data, runs and evaluations of its studies, and its tables beside the published figures.

Everything lies under `runs/`: a folder of runs for each study, tables and figures in `runs/tables/NAME`. A run that is
complete is not run again, and a run that was cut short goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.filesize import decimal

from llmrl.collect import parse_order
from llmrl.core.overrides import ConfigError
from llmrl.report import markdown
from llmrl.report.html import Figure, Report
from llmrl.report.result import ResultTable, write_results
from llmrl.run.load import RunInfo, load_runs
from llmrl.studies.judge import Judgement, judge_all
from llmrl.studies.paper import Paper, TableSpec
from llmrl.studies.runner import collect_missing, run_study, unfinished
from llmrl.studies.study import Cell, Study, finished
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

    def lines(self, jobs: int) -> Iterator[str]:
        """The plan, for a person."""
        done = len(self.cells) - len(self.left) - sum(cell.arm in self.missing for cell in self.cells)
        text = f"{self.study.name}: {done} of {len(self.cells)} runs are complete"
        if self.left:
            text += f", {len(self.left)} are left"
            text += (
                "; no complete run tells how long" if self.seconds is None else f": {_duration(self.seconds / jobs)}"
            )
        yield text
        for arm, why in self.missing.items():
            yield f"  {arm} cannot run: {why.partition(';')[0]}"


def find_work(study: Study, runs: Path, arms: list[str] | None = None, seeds: int | None = None) -> Work:
    """Raises ConfigError for an arm that the study lacks. Data sets that are not there yet make all of it left."""
    cells = list(study.cells(arms, seeds))
    missing: dict[str, str] = {}
    left: list[Cell] = []
    seen: set[str] = set()  # arms may be the same run, where settings are changed for all
    if all(parse_order(words)[0].out.exists() for words in study.collect):
        for arm in dict.fromkeys(cell.arm for cell in cells):
            try:
                left += unfinished([cell for cell in cells if cell.arm == arm], runs, seen)
            except ConfigError as error:
                missing[arm] = str(error)
        left = [cell for cell in cells if cell in left]
    else:
        left = cells
    return Work(study, runs, cells, left, missing, _estimate(study, runs, left))


def plan(paper: Paper, runs: Path, only: Sequence[str] | None = None, seeds: int | None = None) -> list[Work]:
    """What is left of each study. `only`: names of tables and arms. Raises ConfigError for one that there is not."""
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
        wanted = paper.arms(name) if not only else paper.arms(name, [n for n in only if n in tables])
        wanted += [arm for arm in paper.arms(name) if only and arm in only and arm not in wanted]
        if wanted:
            work.append(find_work(study, runs / name, wanted, seeds))
    return work


def reproduce(paper: Paper, work: Sequence[Work], runs: Path, jobs: int, tell: Tell) -> list[str]:
    """Does what is left, and writes the tables. Returns what failed, a line each."""
    failed = []
    for each in work:
        study = each.study
        for words in study.collect:
            tell(collect_missing(words, each.runs, tell))
        arms = list(dict.fromkeys(cell.arm for cell in each.cells))
        found = find_work(study, each.runs, arms, max(cell.seed for cell in each.cells) + 1)
        failed += [f"{study.name}, {arm}: {why}" for arm, why in found.missing.items()]
        for cell, error in run_study(study, found.left, each.runs, jobs, tell):
            failed.append(f"{study.name}, {cell.arm} seed {cell.seed}: {error}")
        if any(t.study == study.name and t.kind in ("games", "matrix") for t in paper.tables):
            for planned, wrong in judge_all(Judgement(study, each.runs, tell), jobs, tell):
                failed.append(f"{study.name}, {planned.run.name}: {wrong}")
    for path in write_tables(paper, runs, tell):
        tell(str(path))
    return failed


def make_tables(paper: Paper, runs: Path, tell: Tell) -> list[ResultTable]:
    """The tables that finished runs allow. `tell` hears which cannot be made, and why."""
    tables = []
    for spec in paper.tables:
        try:
            table = _table(paper.studies[spec.study], spec, runs / spec.study, tell)
        except ValueError as error:  # too few runs, or made by uncommitted code
            tell(f"no table of {spec.name}: {error}")
            continue
        if table.rows:
            tables.append(table)
        else:
            tell(f"no table of {spec.name}: nothing of it is complete")
    return tables


def write_tables(paper: Paper, runs: Path, tell: Tell) -> list[Path]:
    """Writes tables and figures into `runs`/tables/NAME."""
    out = runs / "tables" / paper.name
    tables = make_tables(paper, runs, tell)
    if not tables:
        return []
    return [write_results(tables, out / "tables.md", head(paper)), *draw_figures(paper, runs, out)]


def draw_figures(paper: Paper, runs: Path, out: Path, suffix: str = ".png") -> list[Path]:
    """The figures that finished runs allow, in `out`, named by their tables."""
    from llmrl.report.plots import curve
    from llmrl.studies import transitions
    from llmrl.studies.quality import draw_quality

    drawn = []
    for spec in paper.tables:
        study, folder = paper.studies[spec.study], runs / spec.study
        with suppress(ValueError):  # `make_tables` has said why
            if spec.kind == "transitions" and (arms := transitions.found(study, folder, spec.arms)):
                drawn.append(transitions.draw({study.title: arms}, out / f"{spec.name}{suffix}"))
            elif spec.kind == "curves":
                done = [run for own in finished(study, folder, spec.arms, known_alone=True).values() for run in own]
                drawn += [curve(done, out / f"{spec.name}{suffix}", "eval/success", "env_steps")] if done else []
            if spec.kind == "curves" and study.figure == "quality":
                figure = draw_quality(study, spec.arms, folder, out / f"{spec.name}_quality{suffix}")
                drawn += [figure] if figure is not None else []
    return drawn


def report_on_paper(paper: Paper, runs: Path, command: str, tell: Tell) -> Report:
    """A page of what is complete; `command` makes it. Raises ConfigError where nothing is."""
    tables = make_tables(paper, runs, tell)
    if not tables:
        raise ConfigError(f"{paper.name} has no table yet: `{command}` makes its runs")
    titles = {spec.name: spec.title for spec in paper.tables}
    with TemporaryDirectory() as folder:
        drawn = draw_figures(paper, runs, Path(folder), ".svg")
        figures = [
            Figure(titles.get(path.stem, "Sample efficiency against the quality of the prior"), path.read_text())
            for path in drawn
        ]
    shown: dict[str, list[RunInfo]] = {}
    for name, study in paper.studies.items():
        for arm, done in finished(study, runs / name, paper.arms(name), known_alone=True).items():
            shown[arm if len(paper.studies) == 1 else f"{name}: {arm}"] = done
    published = [(p.of, p.value or "not available", f"{p.source} ({p.kind})") for p in paper.published]
    changed = f"Every run has also {' '.join(paper.changes)}." if paper.changes else ""
    about = " ".join(filter(None, [paper.about.strip(), f"Paper: {paper.paper}." if paper.paper else "", changed]))
    return Report(paper.title, about, tables, figures, shown, command, paper.differs, published)


def export_paper(paper: Paper, scale: str, runs: Path, out: Path, tell: Tell) -> str:
    """Packs what is complete into `out`, and says what it is. Raises ConfigError where nothing is."""
    from llmrl.studies.parcel import pack

    command = " ".join(["llmrl", "reproduce", paper.name, *([] if scale == "laptop" else ["--scale", scale])])
    page = report_on_paper(paper, runs, command, tell)
    done: dict[str, Sequence[RunInfo]] = {}
    for name, study in paper.studies.items():
        done[name] = [
            run for own in finished(study, runs / name, paper.arms(name), known_alone=True).values() for run in own
        ]
    about = {"paper": paper.name, "scale": scale, "settings": paper.changes}
    count = pack(about, done, page.html(), None, out)
    return f"{out}: {count} runs, {decimal(out.stat().st_size)}; `llmrl reproduce --from {out} --verify` repeats them"


def report_on_runs(found: Sequence[RunInfo], command: str) -> Report:
    """A page of runs; those that differ only in their seed are a group. Raises ConfigError where none is complete."""
    from llmrl.report.groups import grouped
    from llmrl.report.plots import curve
    from llmrl.report.sweeps import COLUMNS, arms, figures_of

    done = [run for run in found if run.status == "complete"]
    if not done:
        raise ConfigError("none of these runs is complete: there is nothing to report")
    table = ResultTable("groups", "Groups of runs", COLUMNS, [figures_of(arm) for arm in arms(done)])
    figures = []
    with TemporaryDirectory() as folder, suppress(ValueError):  # a single evaluation is no curve
        figures.append(Figure("Success", curve(done, Path(folder) / "curve.svg").read_text()))
    about = f"{len(done)} of {len(found)} runs are complete. Intervals are over seeds."
    return Report("Runs", about, [table], figures, grouped(done), command)


def _table(study: Study, spec: TableSpec, folder: Path, tell: Tell) -> ResultTable:
    if spec.kind == "curves":
        against = spec.against or next(iter(finished(study, folder, spec.arms, known_alone=True)), "")
        return curve_table(spec.name, spec.title, study, folder, against, spec.arms)
    if spec.kind == "transitions":
        from llmrl.studies import transitions

        arms = transitions.found(study, folder, spec.arms)
        return transitions.transition_table(spec.name, spec.title, arms, spec.against or spec.arms[0])
    judgement = Judgement(study, folder, tell)
    make = judgement.table if spec.kind == "games" else judgement.matrix_table
    return make(spec.name, spec.title)


def head(paper: Paper) -> str:
    """What is repeated, what differs from the paper, and its published figures, in Markdown."""
    return "\n".join(_head(paper))


def _head(paper: Paper) -> Iterator[str]:
    """The paper, what differs from it, and its published figures."""
    yield f"# {paper.title}"
    yield ""
    if paper.about:
        yield from (paper.about.strip(), "")
    if paper.changes:
        yield from (f"Every run has also: `{' '.join(paper.changes)}`.", "")
    if paper.differs:
        yield from (f"Differences from {paper.paper}:", "", *(f"- {line}" for line in paper.differs), "")
    if paper.published:
        rows = [(p.of, p.value or "not available", f"{p.source} ({p.kind})") for p in paper.published]
        yield from (*markdown.table(["published", "figure", "source"], rows), "")


def _estimate(study: Study, runs: Path, left: Sequence[Cell]) -> float | None:
    """Seconds of `left`, from the complete runs of the same arm, or of any arm."""
    took: dict[str, list[float]] = {}
    known = {run.summary["run_id"] for run in load_runs(runs) if run.status == "complete"} if runs.is_dir() else set()
    if not known or not left:
        return None
    for arm, done in finished(study, runs, list({cell.arm for cell in left}), known_alone=True).items():
        took[arm] = [run.cost["seconds"] for run in done if "seconds" in run.cost]
    every = [seconds for all_of_one in took.values() for seconds in all_of_one]
    if not every:
        return None
    return sum(median(took.get(cell.arm) or every) for cell in left)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
