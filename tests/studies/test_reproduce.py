"""Whole studies by one command: what is missing is run, what is there is not, and tables say what came of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from studies.test_study import SMALL

from llmrl.core.overrides import ConfigError
from llmrl.reproduce import find_work, make_tables, plan, read_results, reproduce, write_tables
from llmrl.studies.paper import SCALES, find_paper, paper_files
from llmrl.studies.study import Study, study_files
from scripts import control_models, docs_results

TABLES = {"two": "random", "": "random"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL | {"tables": TABLES}, sort_keys=False))
    return tmp_path


def run(*words: str, folder: Path, command: tuple[str, ...] = ("reproduce",)) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "llmrl", *command, *words], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_what_is_there_is_not_run_again(small: Path) -> None:
    assert run("small.yaml", "--list", folder=small).stdout == (
        "small: 0 of 5 runs are complete, 5 are left; no complete run tells how long\n"
    )
    first = run("small.yaml", "--seeds", "1", folder=small)
    assert first.returncode == 0, first.stderr
    assert "[3/3]" in first.stdout
    summaries = {p: p.stat().st_mtime_ns for p in small.glob("runs/small/*/summary.json")}
    assert len(summaries) == 3
    rest = run("small.yaml", "--jobs", "2", folder=small)
    assert "small: 3 of 5 runs are complete, 2 are left: about " in rest.stdout
    assert "[2/2]" in rest.stdout
    again = run("small.yaml", folder=small)
    assert "small: 5 of 5 runs are complete\n" in again.stdout
    assert "[1/" not in again.stdout
    assert {p: p.stat().st_mtime_ns for p in summaries} == summaries
    assert len(list(small.glob("runs/small/*/summary.json"))) == 5


@pytest.mark.slow
def test_what_fails_is_named_and_the_rest_is_run(small: Path) -> None:
    arms = {**SMALL["arms"], "absent": ["learner=dqn_prior", "lm=hf", "lm.model=runs/models/nosuch"]}  # type: ignore[dict-item]
    (small / "small.yaml").write_text(yaml.safe_dump(SMALL | {"arms": arms}, sort_keys=False))
    found = run("small.yaml", "--only", "absent", "--only", "two", folder=small)
    assert found.returncode == 1
    assert "small, absent: " in found.stderr
    assert "runs/models/nosuch" in found.stderr
    assert len(list(small.glob("runs/small/*/summary.json"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["salat"], "salat: no such paper or study; did you mean salad"),
        (["salad", "--only", "nobody"], "--only nobody: salad has no such table or arm; there are the tables salad"),
    ],
)
def test_mistakes_are_named(words: list[str], said: str, tmp_path: Path) -> None:
    found = run(*words, folder=tmp_path)
    assert found.returncode == 2
    assert said in found.stderr


def test_what_learns_from_data_has_its_own_table(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small)
    kitchen = ["env=overcooked_tomato", "env.max_decisions=12"]
    learned = ["data=data/a.parquet", "learner.gradient_steps=9", "learner.batch=4", "learner.hidden=[4]"]
    plain = {
        "seeds": 1,
        "sizes": [20, 90],
        "tables": {"": "cql"},
        "collect": [[*kitchen, "out=data/a.parquet", "size=90", "mix=expert"]],
        "common": [*kitchen, "evaluation.every=1000", "encoder.dim=8"],
        "arms": {name: [f"learner={name}", *learned] for name in ("cql", "bc")},
    }
    (small / "small.yaml").write_text(yaml.safe_dump(plain))
    study = Study.read(small / "small.yaml")
    work = find_work(study, small / "runs" / "small")
    assert (len(work.left), len(work.cells)) == (4, 4)
    monkeypatch.setattr("llmrl.run.provenance.git_state", lambda: {"commit": "a" * 40, "dirty": False})
    assert reproduce(find_paper("small.yaml"), [work], small / "runs", 1, print) == []
    assert find_work(study, small / "runs" / "small").left == []
    assert "| arm | seeds | sizes |" in (small / "runs" / "tables" / "small" / "tables.md").read_text()
    figures = [small / "runs" / "tables" / "small" / f"small{form}" for form in (".png", ".pdf", ".svg")]
    assert all(figure.stat().st_size > 1000 for figure in figures)
    assert 'width="486pt"' in figures[2].read_text()  # two columns


def test_a_table_that_cannot_be_made_is_told(small: Path) -> None:
    said: list[str] = []
    assert write_tables(find_paper(str(small / "small.yaml")), small / "runs", said.append) == []
    assert said[0].startswith("no table of two: no complete run of random")


PAPER = {
    "title": "A paper",
    "paper": "Somebody (2026)",
    "differs": ["It is small."],
    "published": [
        {"of": "success", "value": "42 %", "source": "its table 1", "kind": "paper"},
        {"of": "time", "source": "no source gives it", "kind": "paper"},
    ],
    "tables": {"one": {"study": "small.yaml", "arms": ["random", "two"], "against": "random"}},
    "scales": {"smoke": {"seeds": 1, "set": ["env_steps=8"]}},
}


@pytest.fixture
def paper(small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small)
    monkeypatch.setattr("llmrl.run.provenance.git_state", lambda: {"commit": "a" * 40, "dirty": False})
    file = small / "paper.yaml"
    file.write_text(yaml.safe_dump(PAPER, sort_keys=False))
    return file


def test_a_paper_runs_the_arms_of_its_tables_at_its_scale(paper: Path) -> None:
    found = find_paper("paper.yaml", "smoke", ["env.max_decisions=4"])
    (work,) = plan(found, Path("runs"))
    assert [cell.arm for cell in work.left] == ["random", "two"]
    assert reproduce(found, [work], Path("runs"), 1, print) == []
    (again,) = plan(found, Path("runs"))
    assert again.left == []
    steps = {row.overrides[-1]: row for row in again.cells}
    assert all({"env_steps=8", "env.max_decisions=4"} <= set(cell.overrides) for cell in steps.values())
    text = Path("runs/tables/paper-smoke/tables.md").read_text()
    for said in ("# A paper", "| success | 42 % |", "| time | not available |", "- It is small.", "| random | 1 |"):
        assert said in text
    (laptop,) = plan(find_paper("paper.yaml"), Path("runs"))
    assert len(laptop.left) == 3
    assert found.command == "llmrl reproduce paper.yaml env.max_decisions=4 --scale smoke"
    (only,) = plan(find_paper("paper.yaml"), Path("runs"), ["two"])
    assert {cell.arm for cell in only.left} == {"two"}


def test_a_page_of_results_has_the_rows_of_complete_runs(paper: Path) -> None:
    study = yaml.safe_load(Path("small.yaml").read_text())
    Path("small.yaml").write_text(yaml.safe_dump(study | {"seeds": 1}))
    page = paper.parent / "page.md"
    head = "| arm | seeds | times fewer than random, to 80 % |\n|---|--:|---|\n"
    page.write_text(f"# R\n\n## S\n\n{head}| two | 9 | old |\n\n*Provenance:* `llmrl reproduce small.yaml`.\n")
    before = page.read_text()
    assert list(docs_results.fill(page, Path("runs"))) == ["page.md, S: 2 runs of small are missing"]
    assert page.read_text() == before
    found = find_paper("small.yaml")
    assert reproduce(found, plan(found, Path("runs"), ["two", "random"]), Path("runs"), 1, print) == []
    assert list(docs_results.fill(page, Path("runs"))) == ["page.md, S: written"]
    (table,) = docs_results.sections(page)[1].tables
    assert docs_results.arms_of(table) == ["two"]
    assert table.splitlines()[2] in Path("runs/tables/small/tables.md").read_text()


def test_an_arm_whose_model_is_missing_costs_its_row_alone(paper: Path) -> None:
    arms = {**SMALL["arms"], "two": ["learner=dqn_prior", "lm=hf", "lm.model=nosuch"]}  # type: ignore[dict-item]
    Path("small.yaml").write_text(yaml.safe_dump(SMALL | {"arms": arms}))
    one = {"study": "small.yaml", "arms": ["random", "two", "four"], "against": "random"}
    paper.write_text(yaml.safe_dump(PAPER | {"tables": {"one": one}}))
    found = find_paper("paper.yaml", "smoke")
    (failed,) = reproduce(found, plan(found, Path("runs")), Path("runs"), 1, print)
    assert failed.startswith("small, two: ")
    (table,) = make_tables(found, read_results(found, Path("runs")), Path("runs"), print)
    assert sorted(row[0] for row in table.rows) == ["four", "random"]


def test_equal_cells_are_one_run(paper: Path) -> None:
    """A setting of every run may make arms alike."""
    (work,) = plan(find_paper("paper.yaml", "smoke", ["rollout.num_envs=1"]), Path("runs"))
    assert [cell.arm for cell in work.left] == ["random"]


def test_a_text_that_is_no_yaml_is_named(paper: Path) -> None:
    paper.write_text("tables: [")
    with pytest.raises(ConfigError, match=r"paper\.yaml: this is no YAML"):
        find_paper("paper.yaml")


@pytest.mark.parametrize("suffix", [".md", ".csv", ".tex"])
@pytest.mark.slow
def test_a_table_is_written_in_the_form_of_its_file(paper: Path, suffix: str) -> None:
    found = find_paper("paper.yaml", "smoke")
    reproduce(found, plan(found, Path("runs")), Path("runs"), 1, print)
    done = run("table", "paper.yaml", "--scale", "smoke", "--out", f"t{suffix}", command=(), folder=paper.parent)
    assert done.returncode == 0, done.stderr
    text = Path(f"t{suffix}").read_text()
    assert {".md": "| random | 1 |", ".csv": "one,random,1,", ".tex": "random & 1 & "}[suffix] in text
    (table,) = make_tables(found, read_results(found, Path("runs")), Path("runs"), print)
    assert table.columns[0] == "arm"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tablez": {}}, "unknown keys tablez"),
        ({"title": None}, "title is missing"),
        ({"tables": {"one": {}}}, "tables.one: study is missing"),
        ({"published": [{"of": "a"}]}, r"published\[0\]: source and kind are missing"),
        ({"tables": {"one": {"study": "small.yaml", "against": "nobody"}}}, "tables.one: nobody is none of random"),
        ({"tables": {"one": {"study": "small.yaml", "kind": "pie"}}}, "tables.one.kind: pie is none of curves"),
        ({"published": [{"of": "a", "source": "b", "kind": "hearsay"}]}, "hearsay is none of paper, code"),
        ({"scales": {"laptop": {"without": ["two"]}}}, "laptop.without: unknown keys two; there are one"),
    ],
)
def test_a_paper_with_a_mistake_says_where(paper: Path, changes: dict[str, object], said: str) -> None:
    paper.write_text(yaml.safe_dump(PAPER | changes))
    with pytest.raises(ConfigError, match=said):
        find_paper("paper.yaml")


@pytest.mark.parametrize("name", paper_files())
@pytest.mark.parametrize("scale", SCALES)
def test_ours_can_be_planned_at_their_scales(name: str, scale: str, tmp_path: Path) -> None:
    scales = {"laptop", *yaml.safe_load(paper_files()[name].read_text())["scales"]}
    assert "smoke" in scales
    if scale not in scales:
        with pytest.raises(ConfigError, match="has no such scale"):
            find_paper(name, scale)
        return
    found = find_paper(name, scale)
    assert found.tables
    assert all(table.arms for table in found.tables)


def test_every_model_that_a_study_names_is_built() -> None:
    built = {str(m.path).removesuffix("/card.json") for m in control_models.models()}
    named = {
        override.partition("=")[2]
        for file in study_files().values()
        for arm in Study.read(file).arms.values()
        for override in arm["set"]
        if override.partition("=")[2].startswith("runs/models")
    }
    assert named <= built
