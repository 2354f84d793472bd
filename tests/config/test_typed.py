"""What a person types: whole numbers, texts that need quotes, names that are nearly right."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llmrl.collect import parse_order
from llmrl.config.compose import ConfigError, compose, config_folder, unread_overrides
from llmrl.core.overrides import ConfigFolders, as_text, parse
from llmrl.core.suggestions import did_you_mean, nearest
from llmrl.run.load import RunInfo
from llmrl.sweep import plan
from llmrl.training.trained_agent import changed_config
from llmrl.tune.plan import plan as plan_search

FOLDERS = ConfigFolders(config_folder())


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    return str(caught.value)


def test_a_reason_is_in_words_or_absent() -> None:
    assert refusal("prompt.prefix=a b<c").startswith("prompt.prefix=a b<c: this does not parse; if it is one text")


# ---- whole numbers ---------------------------------------------------------------------------------------------------


def test_a_whole_number_may_be_typed_with_an_exponent() -> None:
    cfg = compose(["env_steps=1e6", "learner.hidden=[1e2,64]", "prior=generated", "prior.draw_seed=1e1"])
    assert (cfg.env_steps, cfg.learner.hidden, cfg.prior.draw_seed) == (1_000_000, [100, 64], 10)
    assert all(type(n) is int for n in (cfg.env_steps, *cfg.learner.hidden, cfg.prior.draw_seed))
    assert cfg == compose(["env_steps=1000000", "learner.hidden=[100,64]", "prior=generated", "prior.draw_seed=10"])


@pytest.mark.parametrize("value", ["1.5e0", "1e-3", "1e400", "nan", "1e17", "true"])
def test_what_is_no_whole_number_is_refused(value: str) -> None:
    assert "env_steps=" in refusal(f"env_steps={value}")
    assert "expected a whole number" in refusal(f"env_steps={value}")


def test_whole_numbers_in_sweeps_and_orders(tmp_path: Path) -> None:
    swept = plan(["learner=random", "env_steps=1e3,2e3", f"paths.runs={tmp_path}"])
    assert [cell.cfg.env_steps for cell in swept] == [1000, 2000]
    order, _ = parse_order(["out=a.parquet", "size=1e4", "mix=random"])
    assert order.size == 10_000


def test_a_changed_run_takes_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(compose(["env=overcooked_random", "learner=random"])))
    assert changed_config(RunInfo(tmp_path), ["env.count=2e1"]).env.count == 20


def test_a_search_of_a_whole_number_tries_whole_numbers(tmp_path: Path) -> None:
    space = tmp_path / "own.yaml"
    text = """
description: buffers
overrides: [learner=dqn, env_steps=1e3]
tasks: ["env=overcooked_random env.index=0"]
seeds: [0]
trials: 3
parameters:
  learner.buffer: {low: 1e2, high: 1e4, log: true}
  learner.lr: {low: 1.0, high: 2.0}
"""
    space.write_text(text)
    planned = plan_search(str(space))
    assert planned.env_steps == 1000
    proposed = planned.propose(1, [])
    assert isinstance(proposed["learner.buffer"], int)
    assert isinstance(proposed["learner.lr"], float)
    space.write_text(text.replace("1e2,", "100.5,"))
    with pytest.raises(ConfigError, match=r"own\.yaml: learner\.buffer: 100\.5: low, high and step"):
        plan_search(str(space))


def test_a_note_shows_a_setting_as_it_was_typed() -> None:
    typed = ["learner=random", "env_steps=1e2", "evaluation.every=1e3"]
    assert unread_overrides(typed, compose(typed))[0].startswith("evaluation.every=1e3 changes nothing")


# ---- texts that need quotes ------------------------------------------------------------------------------------------

TYPEABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
AWKWARD = st.text(alphabet=" =<>,[]{}()'\"\\$`!#~:;|&%\n\tab1é")


@given(TYPEABLE | AWKWARD)
@settings(deadline=None, max_examples=300)
def test_the_quoting_that_is_shown_yields_the_text(text: str) -> None:
    shown = as_text(f"prompt.prefix={text}").removeprefix("if it is one text, type ")
    (argument,) = shlex.split(shown)
    (override,) = parse([argument], FOLDERS)
    assert override.value() == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a b=c", "prompt.prefix=\"'a b=c'\""),
        ("a<b", "prompt.prefix=\"'a<b'\""),
        ("a,b", "prompt.prefix=\"'a,b'\""),
        ("[a, b]", "prompt.prefix=\"'[a, b]'\""),
        ("{a:b}", "prompt.prefix=\"'{a:b}'\""),
        ("a(b", "prompt.prefix=\"'a(b'\""),
        ("it's", r'''prompt.prefix="'it\\'s'"'''),
        ('a "b"', 'prompt.prefix="\'a \\"b\\"\'"'),
        (" ", "prompt.prefix=\"' '\""),
        ("$5!", r"""prompt.prefix='"$5!"'"""),
    ],
)
def test_a_text_that_hydra_would_not_take_is_shown_in_quotes(value: str, shown: str) -> None:
    said = refusal(f"prompt.prefix={value}")
    (argument,) = shlex.split(said.partition(", type ")[2])
    assert compose([argument]).prompt.prefix == value
    assert said.endswith(f", type {shown}")


@pytest.mark.parametrize("override", ["learner.alpha =0.1", "a b=1"])
def test_a_key_that_does_not_parse_is_not_helped_by_quotes(override: str) -> None:
    assert refusal(override).endswith("write key=value")


# ---- names that are nearly right -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "meant"),
    [
        ("learner=DQN", "learner=dqn"),
        ("learner=dqn-prior", "learner=dqn_prior"),
        ("env=overcoked_tomato", "env=overcooked_tomato"),
        ("env=tomato", "env=overcooked_tomato"),
        ("env=household/pik", "env=household/pick"),
        ("env=pick", "env=alfworld/pick"),
        ("Learner=dqn", "learner=dqn"),
        ("learner.alpa=0.1", "learner.alpha=0.1"),
        ("learner.Alpha=0.1", "learner.alpha=0.1"),
        ("evaluation.grid=Log", "evaluation.grid=log"),
        ("Overcooked_Tomato", "env=overcooked_tomato"),
        ("overcoked_tomato", "env=overcooked_tomato"),
    ],
)
def test_what_was_meant_is_asked(overrides: str, meant: str) -> None:
    assert f"did you mean {meant}?" in refusal(overrides)


def test_nothing_is_proposed_that_is_not_near() -> None:
    assert nearest("xyz", ["dqn", "drrn"]) == []
    assert did_you_mean(["env_steps", "eval/sucess"], ["env_steps", "eval/success"]) == "; did you mean eval/success?"
    assert did_you_mean(["xyz"], ["env_steps"]) == ""
