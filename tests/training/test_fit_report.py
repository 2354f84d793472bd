"""Whether data and prior fit the world: what is counted, what is told of it, and what a strict run does."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from priors.table_model import CELLAR, HALL, Model, make
from typer.testing import CliRunner

import llmrl
from llmrl.build import build_exact
from llmrl.cli.main import app
from llmrl.config.compose import compose
from llmrl.data.files import read
from llmrl.report.progress import Silent
from llmrl.run.load import load_runs
from llmrl.training.fit_report import data_fit, describe_misfit, prior_fit

GOLDEN = Path(__file__).parent.parent / "golden"
FILE = GOLDEN / "tomato.parquet"
OFFLINE = [
    "learner=cql", f"data={FILE}", "data.size=60", "learner.gradient_steps=20", "learner.batch=4",
    "learner.hidden=[4]", "encoder.dim=8", "evaluation.every=10", "checkpoint_every=5", "progress=false",
]  # fmt: skip
ASKING = [
    "env=frozen_lake", "learner=prior_only", "prior=sampled", "lm=hf", f"lm.model={GOLDEN / 'lm'}", "lm.device=cpu",
    "env_steps=16", "evaluation.every=16", "evaluation.episodes=2", "progress=false",
]  # fmt: skip


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def trained(root: Path, *overrides: str) -> tuple[dict[str, Any], list[str]]:
    told = Told()
    cfg = compose([*overrides, f"paths.runs={root / 'runs'}", f"paths.cache={root / 'kept.sqlite3'}"])
    return llmrl.train(cfg, told), told.notes


def test_data_of_the_world_fit_it_and_data_of_another_do_not() -> None:
    data = read(FILE)
    rows = data.draw_rows(60, 0)
    fits = {}
    for env in ("overcooked_tomato", "frozen_lake"):
        world = build_exact(compose([f"env={env}"]), 0)
        assert world is not None
        fits[env] = data_fit(data, rows, world)
    assert fits["overcooked_tomato"] == {
        "observations": 60, "known_observations": 60, "actions": 60, "known_actions": 60,
    }  # fmt: skip
    assert fits["frozen_lake"]["known_observations"] == fits["frozen_lake"]["known_actions"] == 0


def test_a_run_says_at_its_start_and_at_its_end_that_its_data_are_of_another_world(tmp_path: Path) -> None:
    sentence = (
        "0 of 60 observations and 0 of 60 actions of tomato.parquet occur in env=frozen_lake: "
        "the data were not collected in this world"
    )
    summary, notes = trained(tmp_path, *OFFLINE, "env=frozen_lake")
    assert notes.count(sentence) == 2
    assert notes[-1] == sentence
    assert summary["fit"]["known_observations"] == 0
    assert trained(tmp_path, *OFFLINE, "env=frozen_lake")[1][-1] == sentence  # a finished run says so, too
    summary, notes = trained(tmp_path, *OFFLINE, "env=overcooked_tomato")
    assert summary["fit"]["known_observations"] == 60
    assert not [note for note in notes if "occur in" in note]


def test_what_cannot_be_listed_is_not_judged(tmp_path: Path) -> None:
    summary, notes = trained(tmp_path, *OFFLINE, "env=household/pick", "evaluation.episodes=1", "env.max_decisions=3")
    assert summary["fit"] == {}
    assert not [note for note in notes if "occur in" in note]


@pytest.mark.parametrize("sweep", [[], pytest.param(["-m", "seed=0,1"], marks=pytest.mark.slow)])
def test_a_strict_run_ends_before_it_learns(tmp_path: Path, sweep: list[str]) -> None:
    typed = ["train", *sweep, "--strict", *OFFLINE, "env=frozen_lake", f"paths.runs={tmp_path}"]
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 2
    if not sweep:
        assert "the data were not collected in this world" in done.stderr
        assert "--strict" in done.stderr
    assert all(not run.metrics and not (run.path / "checkpoints").exists() for run in load_runs(tmp_path))
    assert CliRunner().invoke(app, [*typed[:-1], f"paths.runs={tmp_path / 'a'}", "env.slippery=false"]).exit_code == 2
    fits = [word for word in typed if word != "env=frozen_lake"]
    assert CliRunner().invoke(app, [*fits, "env=overcooked_tomato"]).exit_code == 0


def test_a_prior_that_says_nothing_useful_is_named_and_a_bad_control_is_not(tmp_path: Path) -> None:
    summary, notes = trained(tmp_path, *ASKING)
    fit = summary["fit"]
    assert fit["states"] == 11  # of the standard lake, all that can be stood on
    assert fit["uniform_entropy"] == pytest.approx(math.log(4))
    assert 0 < fit["entropy"] <= fit["uniform_entropy"]
    assert fit["success"] < fit["uniform_success"]
    assert notes[-1].startswith(f"the prior alone succeeds in {fit['success']:.1%} of episodes and uniform actions in")
    wrong = ["prior=shuffled" if word == "prior=sampled" else word for word in ASKING]
    assert trained(tmp_path, *wrong)[0]["fit"] == {}
    assert trained(tmp_path, "env=frozen_lake", "learner=random", "env_steps=16", "progress=false")[0]["fit"] == {}


def test_looking_asks_a_model_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    for name in ("looks", "does not"):
        root = tmp_path / name
        root.mkdir()
        trained(root, *ASKING)
        (run,) = load_runs(root / "runs")
        computed.append(json.loads((run.path / "cost.json").read_text())["lm/computed"])
        monkeypatch.setattr(import_module("llmrl.training.online"), "prior_fit", lambda prior, world: {})
    assert computed[0] == computed[1] > 0


def test_the_share_of_answers_that_name_an_action_and_what_they_say() -> None:
    model = Model(say=lambda prompt, number: "wait" if number % 4 == 0 else "er")
    prior = make("generated", model=model, k=2, limit=6)
    assert prior.count_named() == (0, 0)
    prior.candidates([HALL, CELLAR], "behaviour", [frozenset({"wait"}), frozenset({"go north"})])
    fit = prior_fit(prior, None)
    assert (fit["named"], fit["answers"]) == (4, 10)  # numbers 0 to 4 of each
    assert fit["entropy"] == 0.0
    assert fit["expert"] == 0.5
    assert fit["uniform_expert"] == pytest.approx(1 / 3)
    said = describe_misfit(fit, compose(["env=frozen_lake"]))
    assert said is not None
    assert said.startswith("4 of 10 answers of the model named an action")
    assert "prompt=menu" in said


def test_where_success_is_too_rare_to_compare_the_experts_actions_are() -> None:
    cfg = compose(["env=frozen_lake"])
    rare = {"success": 0.0, "uniform_success": 0.002, "expert": 0.3, "uniform_expert": 0.2}
    assert describe_misfit(rare, cfg) is None
    said = describe_misfit(rare | {"expert": 0.1}, cfg)
    assert said is not None
    assert "an expert's action with chance 10.0% and uniform actions with 20.0%" in said
    assert describe_misfit({"success": 0.01, "uniform_success": 0.2}, cfg) is not None
    assert describe_misfit({"success": 0.2, "uniform_success": 0.2}, cfg) is None
    assert describe_misfit({}, cfg) is None
