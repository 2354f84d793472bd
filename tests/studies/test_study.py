"""Studies: what a file of arms means, that ours can all run, and the table that comes of finished runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from llmrl.core.overrides import ConfigError
from llmrl.studies import transitions
from llmrl.studies.quality import quality
from llmrl.studies.runner import collect_missing, run_cell, run_study
from llmrl.studies.study import Cell, Study, find_results, find_study, study_files
from llmrl.studies.table import curve_table

FILES = [*study_files().values()]
SMALL = {
    "seeds": 2,
    "common": ["env=overcooked_tomato", "env_steps=16", "evaluation.every=8", "env.max_decisions=6"],
    "sets": {"none": ["learner=random"], "mixed": ["+none", "rollout.num_envs=2"]},
    "arms": {
        "random": ["+none"],
        "two": {"seeds": 1, "set": ["+mixed"]},
        "four": ["+mixed", "rollout.num_envs=4"],
    },
}


def written(folder: Path, **changes: object) -> Path:
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))
    return file


def test_seeds_are_the_outer_loop_and_sets_are_unfolded(tmp_path: Path) -> None:
    cells = list(Study.read(written(tmp_path)).cells())
    assert [(c.arm, c.seed) for c in cells] == [("random", 0), ("two", 0), ("four", 0), ("random", 1), ("four", 1)]
    assert cells[0].overrides == [*SMALL["common"], "learner=random", "seed=0"]  # type: ignore[misc]


def test_what_comes_later_replaces_what_came_before(tmp_path: Path) -> None:
    four = [c for c in Study.read(written(tmp_path)).cells() if c.arm == "four"]
    assert [o for o in four[0].overrides if o.startswith("rollout")] == ["rollout.num_envs=4"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"a": ["+nothing"]}}, "there is no set nothing; there are none, mixed"),
        ({"armz": {}}, "unknown keys"),
        ({"arms": None}, "arms is missing"),
        ({"arms": {"a": {"seeds": 1}}}, "arms.a: set is missing"),
        ({"arms": {"a": 3}}, "arms.a: expected keys and values"),
    ],
)
def test_a_study_that_cannot_be_read_says_why(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        Study.read(written(tmp_path, **changes))


def test_an_arm_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="small has no arm three; there are random, two, four"):
        list(Study.read(written(tmp_path)).cells(["three"]))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_arm_of_ours_can_run(file: Path) -> None:
    plan = Study.read(file)
    for cell in plan.cells(seeds=1):
        if cell.size in (
            None,
            *plan.sizes[:1],
            *plan.arms[cell.arm].get("at", {}),
        ):  # the others differ in nothing else
            cell.compose()


def test_a_study_may_have_config_groups_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "prior").mkdir(parents=True)
    (own / "prior" / "first_of_all.yaml").write_text("_target_: first_of_all.First\nname: first_of_all\nsource: own\n")
    (own / "first_of_all.py").write_text(
        "class First:\n    def __init__(self, settings, seed): ...\n"
        "    def weights(self, states, use): return [[1.0] + [0.0] * (len(s.actions) - 1) for s in states]\n"
    )
    file = tmp_path / "small.yaml"
    arm = ["prior=first_of_all", "learner=prior_only", "learner.priors=[first_of_all]", "env=overcooked_tomato"]
    file.write_text(yaml.safe_dump({"seeds": 1, "config_dir": "own", "arms": {"one": [*arm, "env_steps=8"]}}))
    (cell,) = Study.read(file).cells()
    run_cell(cell, tmp_path / "runs", own_cache=False)


def test_a_table_has_a_row_for_each_arm_that_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.run.provenance.git_state", lambda: {"commit": "a" * 40, "dirty": False})
    small = Study.read(written(tmp_path))
    for cell in small.cells(["random", "two"]):
        run_cell(cell, tmp_path / "runs", own_cache=False)
    found = curve_table("small", "Small", find_results(small, tmp_path / "runs"), "random")
    assert {len(row) for row in found.rows} == {len(found.columns)}
    assert [row[:2] for row in found.rows] == [["random", "2"], ["two", "1"]]
    with pytest.raises(ConfigError, match="no complete run of four"):
        curve_table("small", "Small", find_results(small, tmp_path / "runs"), "four")


def test_a_run_that_fails_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    small, said = Study.read(written(tmp_path)), []
    cells = [Cell("a", 0, ["learner=nobody"]), *small.cells(["two"])]
    ((cell, error),) = run_study(small, cells, tmp_path / "runs", 1, said.append)
    assert cell is cells[0]
    assert "learner=nobody" in str(error)
    assert [line.split()[0] for line in said] == ["[1/2]", "[2/2]"]
    assert "learner=nobody" in said[0]


def test_a_study_is_found_by_its_name_or_file(tmp_path: Path) -> None:
    assert find_study("salad").name == "salad"
    assert find_study(str(written(tmp_path))).name == "small"
    with pytest.raises(ConfigError, match=r"salat: no such study.*salad"):
        find_study("salat")
    with pytest.raises(ConfigError, match="there is no such file"):
        find_study(str(tmp_path / "absent.yaml"))


def test_a_table_names_an_arm_that_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tables.tw: three is none of random, two, four"):
        Study.read(written(tmp_path, tables={"tw": "three"}))
    for file in FILES:
        found = Study.read(file)
        for prefix, against in found.tables.items():
            assert sum(arm.startswith(prefix) for arm in found.arms) > 1, (file, against)


def test_the_quality_of_an_oracle_is_known_and_of_a_model_is_on_its_card() -> None:
    kind, mass = quality(["learner=dqn_prior", "prior=oracle", "prior.error=0.5"])  # type: ignore[misc]
    assert (kind, mass) == ("oracle", pytest.approx(0.5 + 0.5 * 0.208))
    assert quality(["learner=dqn_prior"]) == ("tiny-1", 0.374)
    assert quality(["learner=dqn"]) is None
    assert quality(["learner=dqn_prior", "prior=shuffled"]) is None
    assert quality(["learner=dqn_prior", "prior.target.uniform=true"]) is None


@pytest.mark.slow
def test_an_offline_study_collects_runs_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=overcooked_tomato", "env.max_decisions=12", "out=data/a.parquet", "size=90", "mix=expert"]
    small = ["learner.gradient_steps=20", "learner.batch=4", "learner.hidden=[4]", "data=data/a.parquet"]
    file = written(
        tmp_path,
        common=["env=overcooked_tomato", "env.max_decisions=12", "evaluation.every=1000", "encoder.dim=8"],
        collect=[words],
        sizes=[20, 90],
        sets={},
        arms={
            "cql": ["learner=cql", *small],
            "bc": {
                "alone": "none",
                "set": ["learner=bc", *small],
                "at": {90: ["learner.gradient_steps=200", "learner.alpha=0.3"]},
                "then": ["learner.alpha=0.5"],
            },
            "none": {"seeds": 1, "sizes": [], "set": ["learner=random", "env_steps=8"]},
        },
    )
    plan = Study.read(file)
    cells = list(plan.cells())
    assert [(c.arm, c.seed, c.size) for c in cells][:5] == [
        ("cql", 0, 20), ("cql", 0, 90), ("bc", 0, 20), ("bc", 0, 90), ("none", 0, None),
    ]  # fmt: skip
    assert "learner.gradient_steps=200" in cells[3].overrides
    assert "learner.gradient_steps=20" in cells[2].overrides
    assert all(
        [o for o in cell.overrides if o.startswith("learner.alpha")] == ["learner.alpha=0.5"] for cell in cells[2:4]
    )
    assert "90 transitions" in collect_missing(words, tmp_path / "runs", print)
    assert run_study(plan, cells, tmp_path / "runs", 1, print) == []
    arms = transitions.find_arms(find_results(plan, tmp_path / "runs"))
    assert {name: (f.arm.seeds, f.arm.sizes.tolist()) for name, f in arms.items()} == {
        name: ([0, 1], [20.0, 90.0]) for name in ("cql", "bc")
    }
    assert arms["bc"].alone is not None
    assert arms["cql"].alone is None
    found = transitions.transition_table("small", "Small", arms, "cql")
    assert [row[0] for row in found.rows] == ["cql", "bc"]
    assert found.claims[-1].startswith("bc, to 95 %: no claim")
    assert transitions.draw({"a": arms, "b": arms}, tmp_path / "figure.png").stat().st_size > 1000
    shutil.rmtree(next((tmp_path / "runs").glob("*-random-*")))
    unmeasured = transitions.find_arms(find_results(plan, tmp_path / "runs"))
    assert all(
        "was not measured" in note for note in transitions.transition_table("", "", unmeasured, "cql").notes[-3:]
    )
    with pytest.raises(ConfigError, match=r"arms.bc: alone: nobody is none of cql, bc"):
        Study.read(written(tmp_path, arms={"cql": ["learner=cql"], "bc": {"alone": "nobody", "set": ["learner=bc"]}}))
    with pytest.raises(ConfigError, match="iql has no finished seed"):
        transitions.transition_table("", "", arms, "iql")
