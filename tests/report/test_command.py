"""The command that makes a run: short, and the same run again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llmrl.config.compose import ConfigError, compose, config_folder
from llmrl.core.overrides import ConfigFolders, parse
from llmrl.report.command import command_of, override, shell_word

DATA = Path(__file__).parent.parent / "golden" / "tomato.parquet"
LEARNERS = sorted(file.stem for file in (config_folder() / "learner").glob("*.yaml"))


def typed(overrides: list[str], config_dir: Path | None = None) -> list[str]:
    """Of the run that these make, the command; which must make it again."""
    cfg = compose(overrides, config_dir)
    plain = OmegaConf.to_container(cfg)
    assert isinstance(plain, dict)
    told = command_of({str(key): value for key, value in plain.items()})
    if config_dir is not None:
        assert told[-2:] == ["--config-dir", str(config_dir)]
        told = told[:-2]
    assert compose(told, config_dir) == cfg
    return told


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.slow
def test_a_preset_is_its_name(learner: str) -> None:
    weights = ["learner.weights=clone.safetensors"] if learner == "dqn_pretrained" else []
    needed = [] if learner == "dqn_prior" else [f"learner={learner}", *weights]
    try:
        compose(needed)
    except ConfigError:
        needed = [f"data={DATA}", *needed]
    assert sorted(typed([*needed, "seed=3"])) == sorted([*needed, "seed=3"])


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["env=household/pick_two", "lm=tiny-2", "prompt=chat"],
        ["env=alfworld/heat", "lm=vllm", "lm.model=tiny-1", "prior=generated"],
        ["learner=dqn_prior", "prior=scored", "env=overcooked_tomato", "seed=3"],
        ["learner=prior_only", "prompt=shots", "prior.calibrate=pmi", "prior.calibrate_weight=0.5"],
        ["learner=dqn", "prior=uniform_k", "prior.target.k=null", "learner.hidden=[8,8]", "learner.double_q=false"],
        ["lm=hf", "lm.model='a folder/with, commas'", "prior.behaviour={k:3,redraw:union}"],
        ["learner=prior_only", "prior=generated", r"prompt.template='It\'s {{ observation }}'", "prior.draw_seed=0"],
        ["learner=dqn_prior_paper", "env=overcooked_random", "env.ingredients=null", "learner.lr=0.00001"],
        [f"data={DATA}", "learner=cql_prior", "prior=scored", "data.size=30", "learner.gradient_steps=9"],
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_config_is_its_choices_and_what_differs(overrides: list[str]) -> None:
    assert len(typed(overrides)) <= len(overrides) + 1  # a dict is told key by key


def test_parts_of_ones_own_are_named_with_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    (folder / "env").mkdir(parents=True)
    (folder / "env" / "coin.yaml").write_text("_target_: coins.Coin\nname: coin\npay: 2.0\nsides: [a, b]\n")
    (folder / "env" / "other.yaml").write_text("_target_: coins.Coin\nname: coin\npay: 3.0\nsides: [a, c]\n")
    assert typed(["env=coin", "learner=random"], folder) == ["learner=random", "env=coin"]
    assert typed(["env=other", "learner=dqn"], folder) == ["learner=dqn", "env=other"]
    told = typed(["env=coin", "env.pay=7", "env.sides=[\"it's\",'a, b']", "+env.more={a:1,b:[x]}"], folder)
    assert len(told) == 5
    config = OmegaConf.to_container(compose(["env=coin"], folder))
    assert isinstance(config, dict)
    config["paths"] = {**config["paths"], "config_dir": None}  # as runs were written before
    with pytest.raises(ConfigError, match=r"type --config-dir FOLDER"):
        command_of({str(key): value for key, value in config.items()})


def test_the_folder_is_no_setting_to_be_typed() -> None:
    with pytest.raises(ConfigError, match="type --config-dir FOLDER"):
        compose(["paths.config_dir=mine"])


TEXTS = st.text(st.sampled_from("aZ09 _-.:,=()[]{}'\"\\$%#&|;<>*?!~@/é\n\t")).filter(lambda text: "${" not in text)


@given(TEXTS | st.sampled_from(["null", "true", "1e6", "1_000", "inf", "a:b", "", "${x", "-1", "~"]))
@example("\\'")
def test_hydra_reads_every_text(text: str) -> None:
    (read,) = parse([override("x", text)], ConfigFolders(config_folder()))
    assert read.value() == text


@given(st.lists(TEXTS | st.integers() | st.booleans() | st.none(), max_size=3))
def test_hydra_reads_every_list(values: list[object]) -> None:
    (read,) = parse([override("x", {"a": values})], ConfigFolders(config_folder()))
    assert read.value() == {"a": values}


def test_a_shell_reads_every_word() -> None:
    words = ["a b", "it's", 'say "x"', "$HOME `ls` \\n", "two\nlines\tand 'more' \\", "", "*"]
    line = " ".join(map(shell_word, words))
    assert "\n" not in line
    said = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout
    assert said.split("\0")[:-1] == words
