"""Searches: the same trials however often they are interrupted, on development tasks only, each a run that is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import llmrl.tune.search
from llmrl.config.compose import ConfigError, compose, config_folder
from llmrl.run.folder import METRICS, RunFolder
from llmrl.run.identity import identify_run
from llmrl.run.load import RunInfo, load_runs
from llmrl.studies.runner import collect_missing
from llmrl.tune.log import OtherSearch, best
from llmrl.tune.plan import Plan, plan
from llmrl.tune.preset import write_preset
from llmrl.tune.search import search
from llmrl.tune.space import AHEAD, Space

REPOSITORY = Path(__file__).parents[2]
KITCHEN = "env=overcooked_random env.ingredients=1 env.max_decisions=8"
SPACE: dict[str, Any] = {
    "description": "as small as it gets",
    "overrides": [
        "learner=dqn", "env_steps=32", "evaluation.every=16", "evaluation.episodes=2", "evaluation.exact_up_to=0",
        "encoder.dim=32",
    ],
    "tasks": [KITCHEN],
    "seeds": [100],
    "trials": 3,
    "parameters": {
        "exploration": {"choices": {"boltzmann": [], "epsilon": ["learner.alpha=0", "learner.epsilon=1"]}},
        "learner.alpha": {"low": 0.005, "high": 0.3, "log": True, "when": {"exploration": "boltzmann"}},
        "learner.epsilon_final": {"choices": [0.1, 0.2], "when": {"exploration": "epsilon"}},
        "learner.epsilon_decay": {"low": 10, "high": 30, "step": 10, "when": {"exploration": "epsilon"}},
        "learner.n_step": {"low": 1, "high": 3},
        "learner.optimism": {"low": 0.0, "high": 1.0, "step": 0.25},
    },
}  # fmt: skip
Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(**changes: Any) -> Path:
        file = tmp_path / "small.yaml"
        file.write_text(yaml.safe_dump(SPACE | changes, sort_keys=False))
        return file

    return write


def small(file: Path, *overrides: str, **more: Any) -> Plan:
    return plan(str(file), overrides, **more)


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a row says of the search, without when and from which commit it was run."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "commit", "dirty")} for row in rows]


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs take no time: a finished folder, whose success follows from the settings. `fail` may raise, or not."""

    def replace(fail: Callable[[Any], None] = lambda cfg: None) -> None:
        def train(cfg: Any) -> None:
            fail(cfg)
            with RunFolder.open(Path(cfg.paths.runs), identify_run(cfg).name, identify_run(cfg).id) as folder:
                assert not folder.finished
                folder.start_at(None, {})
                for step in range(0, cfg.env_steps + 1, cfg.evaluation.every):
                    success = step / cfg.env_steps / cfg.learner.n_step
                    folder.append(METRICS, {"env_steps": step, "eval/success": success})
                folder.write_summary({"status": "complete", "env_steps": cfg.env_steps})

        monkeypatch.setattr(llmrl.tune.search, "train", train)

    return replace


def interrupting_after(runs: int) -> Callable[[Any], None]:
    left = iter(range(runs))

    def fail(cfg: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return fail


def breaking_batch_16(error: type[Exception]) -> Callable[[Any], None]:
    def fail(cfg: Any) -> None:
        if cfg.learner.batch == 16:
            raise error("it broke")

    return fail


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    search(small(folder / "small.yaml"), folder / "out")
    return folder / "out"


# ---- what is searched ---------------------------------------------------------------------------------------------


def test_what_a_trial_does_not_read_is_not_proposed_to_it(written: Written) -> None:
    double_q = {"learner.double_q": {"choices": [True, False]}}  # stands before what turns it off
    backup = {"learner.backup": {"choices": ["max", "soft"]}}
    planned = small(written(parameters=double_q | backup | {"learner.lr": {"low": 1e-4, "high": 1e-2, "log": True}}))
    proposed = [planned.propose(number, []) for number in range(1, 20)]
    assert {(p["learner.backup"], "learner.double_q" in p) for p in proposed} == {("max", True), ("soft", False)}
    assert planned.reads.never() == {}


def test_what_no_trial_reads_is_told_and_changes_no_proposal(written: Written) -> None:
    own = SPACE["parameters"]
    without = small(written())
    proposed = [without.propose(number, []) for number in range(12)]
    with_it = small(written(parameters={"prior.mix": {"low": 0.01, "high": 0.2}} | own))
    assert [with_it.propose(number, []) for number in range(12)] == proposed
    assert with_it.reads.never() == {"prior.mix": "prior=uniform is uniform anyway"}


def test_a_parameter_is_searched_that_another_turns_on_whichever_comes_first(written: Written) -> None:
    turns_on = {"learner.priority": {"choices": [0.0, 0.6]}}
    turned_on = {"learner.importance": {"choices": [0.4, 0.8]}}
    for parameters in (turns_on | turned_on, turned_on | turns_on):
        planned = small(written(parameters=parameters))
        proposed = [planned.propose(number, []) for number in range(1, 20)]
        assert {(p["learner.priority"], "learner.importance" in p) for p in proposed} == {(0.0, False), (0.6, True)}


# ---- what a search leaves ----------------------------------------------------------------------------------------


def test_every_trial_is_made_of_runs_that_are_kept(whole: Path) -> None:
    rows = logged(whole)
    runs = {run.name: run for run in load_runs(whole / "runs")}
    assert [row["number"] for row in rows] == [0, 1, 2]
    assert {run["run"] for row in rows for run in row["runs"]} == set(runs)
    for row in rows:
        (run,) = row["runs"]
        made = runs[run["run"]]
        x, y = zip(*((m["env_steps"], m["eval/success"]) for m in made.metrics), strict=True)
        area = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(x, x[1:], y, y[1:], strict=False)) / 32
        assert (row["value"], row["final"]) == (pytest.approx(area), y[-1])
        assert (run["seed"], run["task"], row["decisions"]) == (100, KITCHEN, 32)
        for override in row["overrides"]:
            key, _, value = override.partition("=")
            part, _, name = key.partition(".")
            assert made.config[part][name] == yaml.safe_load(value)


def test_trial_0_is_the_learner_as_it_comes(whole: Path) -> None:
    (run,) = logged(whole)[0]["runs"]
    assert logged(whole)[0]["parameters"] == {}
    assert RunInfo(whole / "runs" / run["run"]).config["learner"] == compose(["learner=dqn"]).learner


def test_the_study_says_what_was_searched_with_which_budget(whole: Path) -> None:
    study = json.loads((whole / "study.json").read_text())
    assert study["search"]["space"] == SPACE["parameters"]
    assert study["budget"] == {"trials": 3, "tasks": 1, "seeds": 1, "env_steps": 32, "decisions": 96}
    assert (study["status"], study["trials"], study["failed"], study["decisions"]) == ("complete", 3, 0, 96)
    assert study["best"] == best(logged(whole))
    assert {"llmrl", "optuna", "torch"} <= set(study["versions"])


def test_the_best_is_an_agent_for_any_world_and_budget(whole: Path) -> None:
    found = best(logged(whole))
    assert found is not None
    overrides = yaml.safe_load((whole / "best.yaml").read_text())["overrides"]
    assert overrides == ["learner=dqn", "encoder.dim=32", *found["overrides"]]
    cfg = compose([*overrides, "env=overcooked_salad", "env_steps=5000", "seed=3"])
    assert (cfg.learner.name, cfg.encoder.dim, cfg.env_steps) == ("dqn", 32, 5000)


def test_the_best_of_equal_trials_is_the_first_and_a_failed_one_is_none() -> None:
    rows = [
        {"number": n, "state": state, "value": value}
        for n, (state, value) in enumerate([("complete", 0.1), ("failed", None), ("complete", 0.4), ("complete", 0.4)])
    ]
    found = best(rows)
    assert found is not None
    assert found["number"] == 2
    assert best(rows[1:2]) is None


# ---- the same, however it was interrupted ------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_search_continues_as_if_nothing_had_happened(
    written: Written, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    planned, out = small(written(), trials=5), tmp_path / "out"
    pretended()
    reference = timeless(search(planned, tmp_path / "reference"))
    for runs in (1, 2):
        pretended(interrupting_after(runs))
        with pytest.raises(KeyboardInterrupt):
            search(planned, out)
    done = len(logged(out))
    assert timeless(logged(out)) == reference[:done]
    assert done == 3
    (out / "trials.jsonl").open("a").write(f'{{"number":{done},"sta')  # cut off while it was written
    pretended()
    assert timeless(search(planned, out)) == timeless(logged(out)) == reference


def test_a_finished_search_runs_nothing(whole: Path, written: Written, pretended: Callable[..., None]) -> None:
    pretended(interrupting_after(0))
    assert search(small(written()), whole) == logged(whole)


def test_a_lost_log_is_made_again_of_the_runs(
    whole: Path, written: Written, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(interrupting_after(0))
    out = tmp_path / "out"
    out.mkdir()
    (out / "runs").symlink_to(whole / "runs")
    assert timeless(search(small(written()), out)) == timeless(logged(whole))


def test_a_greater_budget_continues_and_a_smaller_one_is_refused(
    written: Written, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended()
    two = search(small(written(), trials=2), tmp_path / "grown")
    three = search(small(written(), trials=3), tmp_path / "grown")
    assert three[:2] == two
    assert timeless(three) == timeless(search(small(written(), trials=3), tmp_path / "at once"))
    with pytest.raises(OtherSearch, match="has 3 trials already, more than 1: say --trials 3"):
        search(small(written(), trials=1), tmp_path / "grown")


def test_two_searches_do_not_share_a_folder(whole: Path, written: Written) -> None:
    with pytest.raises(OtherSearch, match=r"its sampler\.seed is 0, and not 1"):
        search(small(written(), sampler_seed=1), whole)
    narrower = SPACE["parameters"] | {"learner.n_step": {"low": 1, "high": 2}}
    with pytest.raises(OtherSearch, match=r"its space\.learner\.n_step\.high is 3, and not 2"):
        search(small(written(parameters=narrower)), whole)


def test_one_search_at_a_time_works_in_a_folder(written: Written, tmp_path: Path) -> None:
    holds = "import fcntl; f = open('.lock', 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holds], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="in use by another search"):
            search(small(written()), tmp_path)
        other.communicate(b"\n")


# ---- proposals ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), values=st.lists(st.none() | st.floats(0, 1), min_size=14, max_size=14))
def test_proposals_stay_inside_the_space_and_know_no_newer_results(seed: int, values: list[float | None]) -> None:
    space = _space(SPACE)
    rows: list[dict[str, Any]] = []
    for number, value in enumerate(values):
        p = space.propose(number, rows, seed)
        late = [row if row["number"] <= number - AHEAD else row | {"value": 0.5, "state": "complete"} for row in rows]
        assert p == space.propose(number, late, seed)
        if number:
            assert ("learner.alpha" in p) == (p["exploration"] == "boltzmann")
            assert ("learner.epsilon_decay" in p) == ("learner.epsilon_final" in p) == (p["exploration"] == "epsilon")
            assert 0.005 <= p.get("learner.alpha", 0.1) <= 0.3
            assert float(f"{p.get('learner.alpha', 0.1):.3g}") == p.get("learner.alpha", 0.1)
            assert p.get("learner.epsilon_decay", 10) in (10, 20, 30)
            assert p["learner.n_step"] in (1, 2, 3)
            assert p["learner.optimism"] in (0.0, 0.25, 0.5, 0.75, 1.0)
        state = "failed" if value is None else "complete"
        rows.append({"number": number, "state": state, "value": value, "parameters": p})


def test_the_sampler_learns_from_the_log() -> None:
    """Where only small n_step is any good, later trials try it more often than a third of the time."""
    space = _space(SPACE)
    rows: list[dict[str, Any]] = []
    for number in range(60):
        p = space.propose(number, rows, 7)
        value = 1.0 if p.get("learner.n_step") == 1 else 0.0
        rows.append({"number": number, "state": "complete", "value": value, "parameters": p})
    assert sum(row["value"] for row in rows[30:]) > 15


def test_a_choice_that_fails_is_not_tried_for_ever() -> None:
    """As when prompt=chat fails for every model that has no chat template."""
    space = _space(SPACE)
    rows: list[dict[str, Any]] = []
    for number in range(60):
        p = space.propose(number, rows, 7)
        fails = p.get("exploration") == "epsilon"
        value = None if fails else 0.2 + 0.1 * p.get("learner.n_step", 1)
        rows.append({"number": number, "state": "failed" if fails else "complete", "value": value, "parameters": p})
    assert sum(row["value"] is None for row in rows[30:]) < 10


def _space(plain: dict[str, Any]) -> Space:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder) / "small.yaml"
        file.write_text(yaml.safe_dump(plain, sort_keys=False))
        return Space.read(file)


# ---- failures ----------------------------------------------------------------------------------------------------


def test_a_config_that_is_refused_is_a_failed_trial_and_not_a_zero(
    written: Written, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended()
    parameters = {"learner.batch": {"choices": [16, 90_000]}}  # the buffer holds 50,000
    rows = search(small(written(parameters=parameters), trials=6), tmp_path / "out")
    failed = [row for row in rows if row["state"] == "failed"]
    assert [row["parameters"] for row in failed] == [{"learner.batch": 90_000}] * len(failed)
    assert 0 < len(failed) < 5
    assert all((row["value"], row["decisions"], row["runs"]) == (None, 0, []) for row in failed)
    assert all("a buffer of 50000 never holds that many" in row["error"] for row in failed)
    assert json.loads((tmp_path / "out" / "study.json").read_text())["failed"] == len(failed)


def test_settings_that_break_a_run_fail_their_trial(
    written: Written, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(breaking_batch_16(ValueError))
    rows = search(small(written(parameters={"learner.batch": {"choices": [16]}}), trials=2), tmp_path / "out")
    assert [(row["state"], row["error"]) for row in rows] == [("complete", None), ("failed", "it broke")]


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_what_is_not_the_fault_of_the_settings_ends_the_search(
    error: type[Exception], written: Written, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(breaking_batch_16(error))
    with pytest.raises(error, match="it broke"):
        search(small(written(parameters={"learner.batch": {"choices": [16]}}), trials=2), tmp_path / "out")
    assert len(logged(tmp_path / "out")) == 1


def test_where_the_learner_as_it_comes_fails_nothing_is_recorded(
    written: Written, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(breaking_batch_16(ValueError))
    with pytest.raises(ValueError, match="it broke"):
        search(small(written(), "learner.batch=16"), tmp_path / "out")
    assert not (tmp_path / "out" / "trials.jsonl").exists()


# ---- what cannot be searched -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("env=overcooked_salad", "results are reported on it"),
        ("env=overcooked_tomato", "results are reported on it"),
        ("env=overcooked_random env.split=test", "split test is for reported results"),
        ("env=overcooked_random env.split=train", "the embedded model's training data"),
        ("env=household/pick env.split=train", "split train is for reported results"),
        ("env=household/mixed env.split=valid_seen", "split valid_seen is for reported results"),
        ("env=household/heat env.split=valid_unseen", "split valid_unseen is for reported results"),
        ("env=household/mixed env.split=corpus", "split corpus is the embedded model's training data"),
        ("env=alfworld/pick env.split=valid_seen", "split valid_seen is for reported results"),
        ("env=alfworld/mixed env.split=valid_unseen", "split valid_unseen is for reported results"),
        ("env=frozen_lake", "gymnasium's own map"),
    ],
)
def test_nothing_is_tuned_on_what_is_reported(task: str, said: str, written: Written) -> None:
    for tasks in ([task], [KITCHEN, task]):
        with pytest.raises(ConfigError, match=r"use development tasks.*env\.split=dev") as caught:
            small(written(), tasks=tasks)
        assert said in str(caught.value)


def test_a_task_may_name_its_cap(written: Written) -> None:
    planned = small(written(), tasks=["env=household/pick env.max_decisions=paper"])
    assert planned.compose({}, planned.tasks[0], 100, Path("runs")).env.max_decisions == 61
    with pytest.raises(ConfigError, match=r"env\.max_decisions=papers: expected a whole number, or field \(50\)"):
        small(written(), tasks=["env=household/pick env.max_decisions=papers"])


@pytest.mark.parametrize(
    "task",
    [
        "env=frozen_lake env.layout=random env.index=3",
        "env=household/pick env.count=4",
        "env=household/mixed env.split=dev env.unit=instructions env.index=3",
        "env=alfworld/pick env.count=4",
    ],
)
def test_development_tasks(task: str, written: Written) -> None:
    assert small(written(tasks=[task])).runs == 1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"learner.n_stepp": {"choices": [1]}},
            "learner.n_stepp: there is no such setting; did you mean learner.n_step",
        ),
        ({"how": {"choices": {"a": ["learner.alfa=1"]}}}, "did you mean learner.alpha"),
        ({"encoder.dim": {"choices": [16]}}, "encoder.dim is given, and .* searches it"),
        ({"seed": {"low": 1, "high": 3}}, "seed is part of the yardstick"),
        ({"env.max_decisions": {"choices": [9]}}, "env.max_decisions is part of the yardstick"),
        (
            {"how": {"choices": {"a": ["evaluation.per_doubling=1"]}}},
            "evaluation.per_doubling is part of the yardstick",
        ),
        ({"learner.lr": {"low": 2.0, "high": 1.0}}, "learner.lr: .*low"),
        ({"learner.lr": {"low": 0.0, "high": 1.0, "log": True}}, "learner.lr: .*low"),
        ({"learner.lr": {"low": "small", "high": 1.0}}, "low, high and step must be numbers"),
        ({"learner.lr": [1, 2]}, "learner.lr: write {low: A, high: B}"),
        ({"learner.lr": {"low": 1, "hihg": 2}}, "learner.lr: write {low: A, high: B}"),
        ({"learner.lr": {"choices": [[1, 2]]}}, "choices must be a list of values"),
        ({"learner.lr": {"choices": [1], "when": {"how": "a"}}}, "how is none of the choices"),
        ({"a": {"choices": {"x": []}}, "learner.lr": {"choices": [1], "when": {"a": "z"}}}, "choose one of x"),
        ({"how": {"choices": {"a": ["learner.alpha=1,2"]}}}, "names several values"),
        ({"how": {"choices": {"a": ["learner.alpha"]}}}, "write key=value"),
        ({}, "at least one key"),
    ],
)
def test_a_space_with_a_mistake_is_refused_by_name(parameters: dict[str, Any], said: str, written: Written) -> None:
    with pytest.raises(ConfigError, match=said):
        small(written(parameters=parameters))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"overrides": ["env=overcooked_salad"]}, "set by the search itself; say --task"),
        ({"overrides": ["seed=3"]}, "set by the search itself; say --seed N"),
        ({"overrides": ["paths.runs=there"]}, "set by the search itself; say --out FOLDER"),
        ({"overrides": ["learner.alpha=0.1"]}, "learner.alpha is given, and .* searches it"),
        ({"overrides": ["encoder.dim=1,2"]}, "not searched has one value"),
        ({"overrides": ["encoder.dimm=1"]}, "did you mean encoder.dim"),
        ({"tasks": ["learner.lr=1"]}, "a task names a world"),
        ({"tasks": [""]}, "a task names a world"),
        ({"tasks": [KITCHEN, KITCHEN]}, "one or more different ones"),
        ({"seeds": [3, 3]}, "one or more different ones"),
    ],
)
def test_a_search_that_could_not_run_is_refused_before_it_starts(
    given: dict[str, Any], said: str, written: Written
) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(str(written()), **given)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trails": 3}, "trails is unknown"),
        ({"seeds": ["a"]}, "seeds must be a list of whole numbers"),
        ({"overrides": "learner=dqn"}, "overrides must be a list of texts"),
        ({"trials": 0}, "trials=0: it must be a whole number"),
    ],
)
def test_a_file_that_is_no_space_is_refused(changes: dict[str, Any], said: str, written: Written) -> None:
    with pytest.raises(ConfigError, match=said):
        small(written(**changes))


def test_a_typed_override_replaces_that_of_the_space(written: Written) -> None:
    planned = plan(str(written()), ["env_steps=64", "rollout.num_envs=2"])
    assert planned.env_steps == 64
    assert [text for text in planned.overrides if text.startswith(("env_steps", "rollout"))] == [
        "env_steps=64", "rollout.num_envs=2",
    ]  # fmt: skip
    assert planned.agent({}) == ["learner=dqn", "encoder.dim=32", "rollout.num_envs=2"]


# ---- the spaces there are ----------------------------------------------------------------------------------------

NAMES = sorted(file.stem for file in (config_folder() / "tune").glob("*.yaml"))
GIVEN = {"dqn_pretrained": ["learner.weights=a.file"], "bc": ["learner.weights=a.file"]}
LEARNS_NOTHING = {"bc", "prior_only"}  # their decisions do not matter
FROM_DATA = {"cql", "cql_prior", "bc_data", "bc_filtered", "bc_prior", "iql"}


@pytest.fixture(scope="module")
def with_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the spaces' tasks learn from."""
    folder = tmp_path_factory.mktemp("with_data")
    for index in (1, 2):
        kitchen = ["env=overcooked_random", f"env.index={index}", "env.ingredients=2"]
        collect_missing(
            [*kitchen, f"out={folder}/data/dev{index}.parquet", "size=60", "mix=expert"], folder / "runs", print
        )
    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_a_space_of_ours_is_searchable_in_every_choice(
    name: str, with_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(with_data)
    planned = plan(name, GIVEN.get(name, []))
    rows: list[dict[str, Any]] = []
    seen: dict[str, set[Any]] = {}
    for number in range(10):
        parameters = planned.space.propose(number, rows, 0)
        if number in (0, 4, 9):
            cfg = planned.compose(parameters, planned.tasks[0], 100, Path("runs"))
            assert cfg.learner.name == name.removesuffix("_data")
            assert (cfg.data is not None) == (name in FROM_DATA)
        rows.append({"number": number, "state": "complete", "value": 0.0, "parameters": parameters})
        for key, value in parameters.items():
            seen.setdefault(key, set()).add(value)
    assert set(seen) == {p.name for p in planned.space.parameters}
    assert max(map(len, seen.values())) > 1


def test_every_learner_has_the_same_budget() -> None:
    spaces = [Space.read(config_folder() / "tune" / f"{name}.yaml") for name in set(NAMES) - FROM_DATA]
    assert len({(s.trials, tuple(s.tasks), tuple(s.seeds)) for s in spaces}) == 1
    assert len({tuple(o for o in s.overrides if o.startswith("evaluation")) for s in spaces}) == 1
    steps = {s.name: [o for o in s.overrides if o.startswith("env_steps")] for s in spaces}
    act = set(steps) - LEARNS_NOTHING
    assert {tuple(steps[name]) for name in act} == {("env_steps=4000",)}
    assert act == {"dqn", "dqn_prior", "drrn", "saycan", "dqn_prefilled", "dqn_pretrained"}


def test_every_learner_from_data_has_the_same_budget() -> None:
    spaces = [Space.read(config_folder() / "tune" / f"{name}.yaml") for name in FROM_DATA]
    assert len({(s.trials, tuple(s.tasks), tuple(s.seeds)) for s in spaces}) == 1
    shared = [tuple(o for o in s.overrides if o.startswith(("evaluation", "data", "encoder"))) for s in spaces]
    assert set(shared) == {("encoder.history_turns=0", "evaluation.every=1000000", "data.size=1000")}
    for key in ("learner.gradient_steps", "learner.lr", "learner.weight_decay"):
        assert len({repr(s.plain["parameters"][key]) for s in spaces}) == 1


@pytest.mark.slow
def test_what_learns_from_data_is_worth_what_it_is_in_the_end(tmp_path: Path, with_data: Path) -> None:
    small = ["learner.batch=4", "learner.hidden=[4]", "encoder.dim=8", "data.size=60"]
    kitchen = f"env=overcooked_random env.index=1 env.max_decisions=8 data.file={with_data}/data/dev1.parquet"
    planned = plan("bc_data", small, tasks=[kitchen], trials=1)
    assert (planned.env_steps, planned.decisions) == (0, 0)
    assert "after the last gradient step" in planned.identity["objective"]
    search(planned, tmp_path / "out")
    (row,) = logged(tmp_path / "out")
    assert row["state"] == "complete"
    assert row["value"] == row["final"] == row["runs"][0]["value"]


def test_no_prior_is_searched_as_widely_as_with_one() -> None:
    spaces = {name: Space.read(config_folder() / "tune" / f"{name}.yaml").plain["parameters"] for name in NAMES}
    for key, node in spaces["dqn"].items():
        assert spaces["dqn_prior"][key] == node
        assert spaces["dqn_prefilled"][key] == node
    for key, node in spaces["cql"].items():
        assert spaces["cql_prior"][key] == node
    for key, node in spaces["bc_data"].items():
        assert spaces["bc_filtered"][key] == spaces["bc_prior"][key] == node


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "COLUMNS": "80",
        "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip


@pytest.mark.slow
def test_the_command_searches_in_processes_as_in_one(
    whole: Path, written: Written, tmp_path: Path, environ: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "llmrl", "tune", "--space", str(written()), "--out", "out"]
    done = subprocess.run([*command, "--jobs", "2"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert timeless(logged(tmp_path / "out")) == timeless(logged(whole))
    lines = done.stdout.splitlines()
    assert "3 trials x 1 tasks x 1 seeds x 32 decisions = 96 decisions" in lines[0]
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("log: "))]
    assert max(map(len, table)) <= 80
    overrides = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())["overrides"]
    assert lines[-1] == " ".join(["llmrl train", *overrides])

    again = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, lines[-1])
    assert "has 3 trials: nothing to compute" in again.stdout


@pytest.mark.slow
def test_ctrl_c_ends_the_command_and_its_processes(written: Written, tmp_path: Path, environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "llmrl", "tune", "--space", str(written()), "env_steps=100000", "--out", "out"]
    process = subprocess.Popen(
        [*command, "--jobs", "2"], cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and sum(p.stat().st_size > 0 for p in tmp_path.glob("out/runs/*/metrics.jsonl")) < 2:
        os.sched_yield()  # until both work
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()  # returns when no process is left that could write
    assert process.returncode == 130, said
    assert "the same command" in said
    assert "Traceback" not in said
    assert {run.status for run in load_runs(tmp_path / "out" / "runs")} == {"stopped"}


def test_data_of_a_world_that_is_reported_are_refused(
    with_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    collect_missing(
        ["env=overcooked_random", "env.split=test", "out=test.parquet", "size=20", "mix=expert"], tmp_path, print
    )
    task = "env=overcooked_random env.index=1 data.file={}"
    assert plan("cql", tasks=[task.format(with_data / "data" / "dev1.parquet")]).env_steps == 0
    with pytest.raises(ConfigError, match=r"data of test\.parquet were collected where split test is for reported"):
        plan("cql", tasks=[task.format("test.parquet")])
    with pytest.raises(ConfigError, match=r"none\.parquet: there is no such file"):
        plan("cql", tasks=[task.format("none.parquet")])


def test_the_command_refuses_a_world_that_is_reported(
    written: Written, tmp_path: Path, environ: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "llmrl", "tune", "--space", "dqn", "--task", "env=overcooked_salad"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nothing is tuned on it" in done.stderr
    assert not (tmp_path / "tune").exists()


# ---- a model's preset ------------------------------------------------------------------------------------------------

ALONE: dict[str, Any] = {
    "description": "a tiny random model alone",
    "overrides": ["learner=prior_only", "env_steps=8", "evaluation.every=100", "evaluation.episodes=2",
                  "evaluation.exact_up_to=0"],
    "trials": 6,
    "parameters": {
        "prompt": {
            "choices": {
                "plain": ["prompt=plain"],
                "shots": ["prompt=plain", "prompt.shots=2", "prompt.template='{{ observation }}'"],
            }
        },
        "prior.temperature": {"low": 0.05, "high": 1.0, "log": True},
        "prior.normalise": {"choices": ["none", "token", "word"]},
        "prior.calibrate": {"choices": ["none", "pmi"]},
        "prior.calibrate_weight": {"low": 0.1, "high": 1.0, "when": {"prior.calibrate": "pmi"}},
    },
}  # fmt: skip


def test_a_search_of_the_prior_alone_writes_what_it_recommends_of_the_model(written: Written, tmp_path: Path) -> None:
    model = ["lm=hf", f"lm.model={REPOSITORY / 'tests' / 'golden' / 'lm'}", "lm.device=cpu"]
    planned = small(written(**ALONE), *model)
    out = tmp_path / "out"
    rows = search(planned, out)
    assert [row["state"] for row in rows] == ["complete"] * 6
    chosen = best(rows)
    assert chosen is not None
    found = planned.compose(chosen["parameters"], KITCHEN, 100, tmp_path)
    preset = compose(["learner=prior_only", "lm=hf_tuned", *KITCHEN.split(), *ALONE["overrides"][1:]], out / "preset")
    assert identify_run(preset).settings == identify_run(found).settings | {"seed": 0}


def test_what_is_typed_goes_before_what_a_preset_recommends(written: Written, tmp_path: Path) -> None:
    planned = small(written(**ALONE), "lm=hf", "lm.model=x")
    tried = {"prompt": "shots", "prior.temperature": 0.5, "prior.normalise": "token", "prior.calibrate": "pmi",
             "prior.calibrate_weight": 0.25}  # fmt: skip
    write_preset(tmp_path, planned, {"number": 3, "parameters": tried})

    def settings(*typed: str) -> tuple[Any, ...]:
        cfg = compose(["lm=hf_tuned", *typed], tmp_path / "preset")
        prior, prompt = cfg.prior, cfg.prompt
        return prompt.id, prompt.shots, prior.normalise, prior.calibrate, prior.calibrate_weight, prior.temperature

    assert settings() == ("hf_tuned", 2, "token", "pmi", 0.25, 0.5)
    assert settings("prompt=menu", "prior.normalise=none", "prior.calibrate=none", "prior.temperature=1") == (
        "menu-1", 0, "none", "none", 0.25, 1.0
    )  # fmt: skip
    assert settings("prior=generated")[2:] == ("none", "none", 1.0, 1.0)  # which scores nothing


def test_a_search_of_more_than_the_prior_writes_no_preset(whole: Path) -> None:
    assert not (whole / "preset").exists()
