"""`llmrl configs`: every group, option and setting, each with its meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_type_hints

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.config.compose import ConfigError, compose, dataclass_in
from llmrl.config.settings import Catalogue, meanings
from llmrl.core.files import flatten
from llmrl.schema.envs import KitchenConfig, RandomKitchenConfig
from llmrl.schema.learners import IQLConfig
from llmrl.schema.run import TrainConfig
from tests.schemas import schemas


def said(*arguments: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, ["configs", *arguments], env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= columns
    return done.output


WHOSE = ("_target_", "kind", "name")  # say what a part is


def test_every_setting_has_a_meaning() -> None:
    without = [
        f"{schema.__name__}.{name}"
        for schema in schemas()
        for name, meaning in meanings(schema).items()
        if not meaning and name not in WHOSE and dataclass_in(get_type_hints(schema)[name]) is None
    ]
    assert without == []


def test_a_meaning_is_the_comment_beside_or_above_the_field_also_of_a_base() -> None:
    assert meanings(KitchenConfig)["max_decisions"] == "truncates"
    assert meanings(KitchenConfig)["reward"].startswith("once: +0.2 per ingredient")
    assert meanings(RandomKitchenConfig)["max_decisions"] == "truncates"
    assert meanings(TrainConfig)["env_steps"] == "decisions in the run"
    assert meanings(IQLConfig)["alpha"] == "temperature of the policy in evaluations"


def test_every_option_says_what_it_is() -> None:
    assert [(g, o.name) for g, options in Catalogue().groups().items() for o in options if not o.text] == []


def test_all_settings_of_the_default_run_are_found_with_their_values() -> None:
    catalogue = Catalogue()
    plain = flatten(OmegaConf.to_container(compose()))
    chosen = {group: next(o.name for o in options if o.is_default) for group, options in catalogue.groups().items()}
    listed = {s.key: s.value for group, option in chosen.items() for s in catalogue.of(group, option)}
    listed |= {s.key: s.value for section in catalogue.sections() for s in catalogue.look_up(section) or []}
    unlisted = {key for key in plain if key not in listed}
    assert {key for key in unlisted if key.rpartition(".")[2] not in WHOSE} == {"data"}  # whose file is not given
    assert {key: value for key, value in plain.items() if listed.get(key, value) != value} == {}


def test_groups_options_and_settings_are_shown() -> None:
    assert "dqn_prior (default)" in said()
    assert "learner=dqn_prior  default" in said("learner")
    assert "Deep Q-learning over all admissible actions" in said("learner")
    shown = said("learner", "dqn")
    assert "learner.alpha=0.02  at least 0\n    temperature of the posterior; 0: greedy in Q\n" in shown
    assert "learner.backup=max  max | soft | expected | sampled" in shown
    assert "prior=uniform" in shown
    assert said("learner=dqn") == shown
    assert "0.1: cql_prior_paper" in said("learner.alpha")
    assert "evaluation.every=200  at least 1" in said("evaluation")
    assert "env_steps=4000  at least 1\n    decisions in the run" in said("env_steps")
    assert "field (50), or paper (61)" in said("env", "household/pick").replace("\n", " ")
    assert "train | dev | valid_seen" in said("env", "household/pick")


@pytest.mark.parametrize("arguments", [(), ("learner",), ("learner", "dqn"), ("prior.behaviour",), ("env",)])
def test_narrow_terminals(arguments: tuple[str, ...]) -> None:
    said(*arguments, columns=40)


def test_programs_get_json() -> None:
    groups = json.loads(said_json())
    assert {"name": "dqn", "text": "Deep Q-learning over all admissible actions: no prior anywhere.",
            "is_default": False} in groups["groups"]["learner"]  # fmt: skip
    (alpha,) = json.loads(said_json("learner.alpha"))
    assert (alpha["kind"], alpha["allowed"], alpha["values"]["drrn"]) == ("a number", "at least 0", 0.1)
    settings = json.loads(said_json("prior", "generated"))
    assert {s["key"]: s["value"] for s in settings}["prior.behaviour.k"] == 5


def said_json(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["configs", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return done.output


def test_groups_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "maze.yaml").write_text("# A maze. With walls.\n_target_: my.Maze\nname: maze\nsize: 3\n")
    catalogue = Catalogue(tmp_path)
    (maze,) = (o for o in catalogue.options("env") if o.name == "maze")
    assert (maze.text, maze.in_short) == ("A maze. With walls.", "A maze")
    assert [(s.key, s.value) for s in catalogue.of("env", "maze")] == [("env.size", 3)]
    assert "env=maze" in said("env", "--config-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("learnr", "did you mean learner?"), ("learner.alpa", "did you mean learner.alpha?"), ("env_step", "env_steps")],
)
def test_what_there_is_not(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=meant.replace("?", r"\?")):
        Catalogue().look_up(name)
    assert CliRunner().invoke(app, ["configs", name]).exit_code == 2
