from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from report.runs_on_disk import make_run
from rich.console import Console, RenderableType

from llmrl.config.compose import compose
from llmrl.doctor import Finding, findings_table
from llmrl.report import listing
from llmrl.report.tables import age, run_table, sweep_table
from llmrl.run.folder import RunFolder
from llmrl.run.identity import identify_run
from llmrl.run.load import RunInfo, load_runs


def lines(table: RenderableType) -> list[str]:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def listed(runs: Sequence[RunInfo]) -> list[str]:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    return lines(listing.render(listing.rows(runs), console))


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    return make_run(tmp_path, ["learner=dqn", "seed=2", "learner.alpha=0.3"], lambda step: step / 2000)


def test_runs_are_a_line_each(tmp_path: Path, run: RunInfo) -> None:
    name = "overcooked_tomato-dqn_prior-sampled-s0-" + "c" * 8
    with RunFolder.open(tmp_path, name, "c" * 64) as folder:
        folder.start_at(None, {})
        folder.append("metrics.jsonl", {"env_steps": 12_345, "eval/success": None})
        shown = listed(load_runs(tmp_path))
    assert shown[0].split() == ["run", "learner", "env", "seed", "status", "decisions", "success", "age"]
    assert shown[1].split()[:5] == [run.name[-8:], "dqn", "overcooked_salad", "2", "complete"]
    assert shown[2].split()[:7] == ["c" * 8, "-", "-", "-", "running", "12,345", "-"]
    assert len(shown) == 3
    assert listed(load_runs(tmp_path))[2].split()[4] == "stopped"


def test_a_run_is_told(run: RunInfo) -> None:
    shown = "\n".join(lines(run_table(run, "b" * 40)))
    for part in (
        run.name,
        "success 50%, length 31.2, return 0.1235",
        "success 100%",
        "queries 4,321",
        "calls 3",
        "made by commit aaaaaaaaaa, with changes; today's is bbbbbbbbbb",
        str(run.path)[:20],
    ):
        assert part in shown
    assert "today" not in "\n".join(lines(run_table(run, "a" * 40)))


def test_a_run_that_has_only_begun_can_be_shown(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "x-" + "c" * 8, "c" * 64) as folder:
        assert "running, 0 decisions" in "\n".join(lines(run_table(RunInfo(folder.path), None)))


def test_a_sweep_shows_what_its_cells_differ_in(run: RunInfo) -> None:
    shown = lines(
        sweep_table(
            [
                (["learner=dqn", "seed=2", "env_steps=9"], run, "complete"),
                (["learner=dqn", "seed=3", "env_steps=9"], None, "failed"),
            ]
        )
    )
    assert shown[1].split() == ["seed=2", "complete", "1,000", "50%", "100%"]
    assert shown[2].split() == ["seed=3", "failed", "-", "-", "-"]


def test_findings_fit_into_80_columns() -> None:
    shown = lines(findings_table([Finding("packages", "ok", "x " * 100), Finding("cache", "broken", "mend it")]))
    assert all(len(line) <= 80 for line in shown)
    assert shown[-1].split() == ["cache", "broken", "mend", "it"]


@pytest.mark.parametrize(("seconds", "shown"), [(3, "3s"), (61, "1m"), (7300, "2h"), (200_000, "2d")])
def test_ages(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_the_summary_keeps_the_full_run_id(run: RunInfo) -> None:
    assert run.summary["run_id"] == identify_run(compose(["learner=dqn", "seed=2", "learner.alpha=0.3"])).id
