"""Runs that learn from data alone: what names them, what they ask, what they are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data.datasets import built, rows
from priors.table_model import CELLAR, HALL, MENU, Model, make
from report.test_tables import lines
from rich.console import Console

import llmrl
from llmrl.config.compose import ConfigError, compose
from llmrl.core.candidates import Proposal
from llmrl.data.files import convert, read, write
from llmrl.data.training_set import OfflineData, Supports
from llmrl.report import listing
from llmrl.report.compare import compare
from llmrl.report.progress import Silent
from llmrl.report.tables import run_table
from llmrl.run.identity import identify_run
from llmrl.run.load import RunInfo, load_runs

GOLDEN = Path(__file__).parent.parent / "golden"
HALL_ASKED, CELLAR_ASKED = "Leave. A hall.", "Leave. A cellar."
FILE = GOLDEN / "tomato.parquet"
TOMATO = ["env=overcooked_tomato", "env.max_decisions=12"]
SMALL = [
    *TOMATO, "learner.gradient_steps=120", "learner.batch=4", "learner.hidden=[4]", "encoder.dim=8",
    "evaluation.every=1000", "evaluation.exact_up_to=0", "evaluation.episodes=2",
]  # fmt: skip
MODEL = ["lm=hf", f"lm.model={GOLDEN / 'lm'}", "lm.device=cpu"]


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.under_way: dict[str, list[tuple[int, int]]] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    def doing(self, what: str, done: int, total: int) -> None:
        self.under_way.setdefault(what, []).append((done, total))


def trained(root: Path, *overrides: str, data: Path = FILE) -> tuple[RunInfo, list[str]]:
    heard = Heard()
    given = {o.partition("=")[0]: o for o in (*SMALL, *overrides)}  # the last word counts
    cfg = compose([*given.values(), f"data={data}", f"paths.runs={root}", f"paths.cache={root / 'kept.sqlite3'}"])
    llmrl.train(cfg, heard)
    (run,) = [run for run in load_runs(root) if run.summary["run_id"] == identify_run(cfg).id]
    return run, heard.notes


def test_a_run_counts_gradient_steps_and_no_decisions(tmp_path: Path) -> None:
    run, notes = trained(tmp_path, "learner=cql", "data.size=100", "evaluation.every=50")
    assert [row["gradient_steps"] for row in run.metrics] == [50, 100, 120]
    assert {(row["env_steps"], row["transitions"]) for row in run.metrics} == {(0, 100)}
    assert run.summary["gradient_steps"] == 120
    assert run.summary["env_steps"] == 0
    assert (run.path / "curve.png").exists()
    assert not trained(tmp_path, "learner=cql", "env.max_decisions=31", "learner.gradient_steps=1")[1]
    assert all("max_decisions=31" in note for note in notes)  # the world of the file is otherwise the same


def test_the_content_names_the_run_and_not_the_path(tmp_path: Path) -> None:
    base = ["learner=cql", *SMALL]
    there = shutil.copy(FILE, tmp_path / "elsewhere.parquet")
    convert(FILE, tmp_path / "a.jsonl")
    convert(tmp_path / "a.jsonl", tmp_path / "again.parquet")
    ids = {identify_run(compose([*base, f"data={f}"])).id for f in (FILE, there, tmp_path / "again.parquet")}
    assert len(ids) == 1
    write(tmp_path / "other.parquet", built(rows(2, 3)))
    more = [[f"data={tmp_path / 'other.parquet'}"], [f"data={FILE}", "data.size=9"], [f"data={FILE}", "data.draw=1"]]
    assert len(ids | {identify_run(compose([*base, *own])).id for own in more}) == 4
    assert identify_run(compose([*base, f"data={FILE}", "env_steps=9", "rollout.num_envs=3"])).id in ids  # nobody acts


def test_a_person_hears_how_many_states_have_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.training.offline.STATES_AT_ONCE", 5)
    cfg = compose([*SMALL, "learner=cql", f"data={FILE}", "data.size=60", f"paths.runs={tmp_path}"])
    heard = Heard()
    llmrl.train(cfg, heard)
    (begun, total), *_, (done, of) = heard.under_way["states given candidates"]
    assert (begun, done) == (0, of)
    assert total == of > 5


def test_a_subset_asks_for_nothing_new(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path, "learner=cql_prior", *MODEL)
    assert whole.cost["lm/computed"] > 0
    part, _ = trained(tmp_path, "learner=cql_prior", "data.size=50", "evaluation.episodes=1", *MODEL)
    assert part.metrics[-1]["lm/queries"] < whole.metrics[-1]["lm/queries"]
    states, _ = read(FILE).states(read(FILE).draw_rows(None, 0), 0)
    assert whole.metrics[-1]["lm/queries"] >= len(set(states))
    data_only, _ = trained(tmp_path, "learner=cql_prior", "data.size=50", "prior.evaluation.uniform=true", *MODEL)
    assert data_only.cost["lm/computed"] == 0


def test_a_file_that_was_changed_is_not_learned_from(tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    data = FILE.read_bytes()
    bad.write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=r"bad\.parquet cannot be read as Parquet"):
        trained(tmp_path, "learner=cql", data=bad)
    with pytest.raises(ValueError, match=r"data\.size=999: .*tomato.parquet holds 240 transitions"):
        trained(tmp_path, "learner=cql", "data.size=999")


def test_data_of_another_world_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", built(rows(2, 3)))
    _, notes = trained(tmp_path, "learner=cql", data=tmp_path / "a.parquet")
    assert any("does not say which world" in note for note in notes)
    _, notes = trained(tmp_path, "learner=cql", "env=frozen_lake")
    assert any("is of the world overcooked_tomato, and the run is evaluated in frozen_lake" in note for note in notes)
    _, notes = trained(tmp_path, "learner=cql", "env.max_decisions=9", "env.reward=original")
    assert any(
        "is of overcooked_tomato with max_decisions=31, reward=once, and the run is evaluated with max_decisions=9, "
        "reward=original" in note
        for note in notes
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["learner=cql"], "cql learns from data alone: add data=FILE"),
        (["learner=bc"], "learner=bc needs a trained network: add learner.weights=FILE"),
        (["learner=bc_filtered"], "add data=FILE"),
        (["learner=dqn", f"data={FILE}"], "learner=dqn learns by acting and takes no data"),
        (["learner=dqn", "data.size=9"], "data.size=9: of which data?"),
        (["learner=cql", "data=nowhere.parquet"], "nowhere.parquet: there is no such file"),
        (["learner=cql", "data=a.jsonl"], "expected a file that ends in .parquet; `llmrl data convert` makes one"),
        (["learner=bc", f"data={FILE}", "learner.weights=a"], "leave one of the two out"),
        (["learner=cql_prior", f"data={FILE}", "prior.mix=auto"], "prior.mix=auto: it learns from the run's episodes"),
        (["learner=bc", "learner.weights=a", "learner.batch=3"], "nothing is learned in the run"),
        (["learner=cql_prior", f"data={FILE}", "prior.target.redraw=union"], "use prior.target.redraw=never, or visit"),
        (["learner=bc_prior", f"data={FILE}", "prior.target.k=3"], "the prior's weight of every action"),
        (["learner=bc_prior", f"data={FILE}", "prior.evaluation.k=3"], "the prior's weight of every action"),
        (["learner=iql", "prior=scored", f"data={FILE}", "prior.target.k=3"], "the prior's weight of every action"),
        (["learner=iql", f"data={FILE}", "prior.evaluation.k=3"], "the prior's weight of every action"),
        (["learner=iql", "prior=scored", f"data={FILE}", "prior.mix=0"], "with prior.mix above 0"),
        (["learner=iql", "prior=uniform_k", f"data={FILE}"], "iql takes prior=uniform or scored"),
        (["learner=bc", f"data={FILE}", "learner.learned_weight=0.5"], "of a product of experts"),
        (["learner=bc", f"data={FILE}", "prior.target.k=3"], "the prior's weight of every action"),
        (["learner=cql", f"data={FILE}", "learner.c=-1"], "learner.c=-1"),
    ],
)  # fmt: skip
def test_what_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        identify_run(compose(overrides))
    assert said in str(error.value)


def test_an_episode_that_the_draw_cuts_is_not_known_to_have_succeeded(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", built(rows(10, 10, 10)))
    filtered = ["learner=bc_filtered", "env=frozen_lake"]
    with pytest.raises(ValueError, match="none of the 9 transitions is of an episode that is known to have succeeded"):
        trained(tmp_path, *filtered, "data.size=9", data=tmp_path / "a.parquet")
    run, _ = trained(tmp_path, *filtered, "data.size=10", data=tmp_path / "a.parquet")
    assert run.status == "complete"


def test_runs_of_several_sizes_are_compared_over_transitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.run.provenance.git_state", lambda: {"commit": "a" * 40, "dirty": False})
    few = ["learner.gradient_steps=10"]
    sides = {
        learner: [
            trained(tmp_path, f"learner={learner}", f"data.size={size}", f"seed={seed}", *few)[0]
            for seed in (0, 1)
            for size in (30, 200)
        ]
        for learner in ("cql", "bc")
    }
    found = compare(sides["cql"], sides["bc"], x="transitions")
    assert [group.seeds for group in (*found.groups, found.against)] == [[0, 1], [0, 1]]
    assert all(curve.x_T.tolist() == [30, 200] for curve in found.groups[0].curves)
    with pytest.raises(ValueError, match="runs that learn from data are compared with --x transitions"):
        compare(sides["cql"][:1], sides["bc"][:1])


def test_an_offline_run_is_listed_by_what_it_counts(tmp_path: Path) -> None:
    run, _ = trained(tmp_path, "learner=cql", "data.size=100")
    head, rest, *shown = lines(listing.render(listing.rows([run]), Console(width=80, color_system=None)))
    assert head.split() == ["gradient"]
    assert rest.split() == ["run", "seed", "status", "steps", "transitions", "success", "age"]
    assert shown[0].split()[2:5] == ["complete", "120", "100"]
    told = "\n".join(lines(run_table(run, None)))
    assert "complete, 120 gradient steps, last written" in told
    assert "100 transitions of" in told
    assert "decisions" not in told


class Numbered(Model):
    """Says of each prompt one action after the other, and remembers how often it was asked."""

    def __init__(self) -> None:
        super().__init__(say=lambda prompt, number: MENU[number % 3])


def test_each_row_of_data_reads_answers_of_its_own_where_they_are_drawn_at_each_visit() -> None:
    model = Numbered()
    prior = make("generated", model=model, k=2, limit=0, redraw="visit")
    states = [HALL, CELLAR, HALL, HALL]
    assert prior.proposals(states, use="target") is None
    for count in (True, False):  # a run that goes on asks anew, and hears the same
        prior.start_data()
        found = prior.proposals(states[:2], use="target", count=count, visits=True)
        found = [*(found or ()), *(prior.proposals(states[2:], use="target", count=count, visits=True) or ())]
        assert [np.flatnonzero(p.weights).tolist() for p in found] == [[0, 1], [0, 1], [0, 2], [1, 2]]
        assert prior.counts.queries == 4
    assert sorted(model.asked) == sorted([*((HALL_ASKED, i) for i in range(6)), *((CELLAR_ASKED, i) for i in range(2))])


def test_rows_keep_their_own_candidates_and_what_the_data_do_in_a_state_is_known_at_each_visit(tmp_path: Path) -> None:
    drawn = ["learner=cql_prior", "prior=generated", *MODEL, "data.size=40", "learner.join=true"]
    before = trained(tmp_path / "never", *drawn, "prior.target.redraw=never")[0].summary["lm"]
    after = trained(tmp_path / "visit", *drawn, "prior.target.redraw=visit")[0].summary["lm"]
    assert after["distinct_prompts"] == before["distinct_prompts"]
    assert after["queries"] > before["queries"]
    data = OfflineData(
        [HALL, CELLAR, HALL], Supports([Proposal(np.full(3, 1 / 3), None)] * 3), np.array([0, 1, 2]),
        np.array([0, 1, 2]), np.zeros(3), np.ones(3, dtype=np.int64), np.array([-1, -1, -1]), np.ones(3, dtype=bool),
        np.ones(3, dtype=bool), np.ones(3, dtype=bool),
    )  # fmt: skip
    assert data.find_taken().tolist() == [[True, False, True], [False, True, False], [True, False, True]]
