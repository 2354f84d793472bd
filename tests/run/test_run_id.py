"""What names a run: exactly the settings that can change its result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

import llmrl.lm.identify
from llmrl.config.compose import ConfigError, compose, unread_overrides
from llmrl.lm.language_model import ModelIdentity
from llmrl.run.identity import free_settings, identify_run, result_settings
from llmrl.schema.loggers import TensorBoardConfig, TrackioConfig, WandbConfig
from llmrl.schema.priors import PromptConfig

OVERRIDES = ["learner=dqn", "env=overcooked_tomato", "seed=3", "learner.alpha=0.3", "env_steps=500", "encoder.dim=64"]
ID_OF_OVERRIDES = identify_run(compose(OVERRIDES)).id


@given(st.permutations(OVERRIDES))
@settings(deadline=None, max_examples=8)
def test_the_order_of_overrides_does_not_matter(overrides: list[str]) -> None:
    assert identify_run(compose(overrides)).id == ID_OF_OVERRIDES


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's identity without the model: a name, and what was asked for."""

    def identify(model: str, revision: str | None, dtype: str, part: str) -> ModelIdentity:
        return ModelIdentity(Path(model).name, revision or "aaaa", dtype, "bbbb")

    monkeypatch.setattr(llmrl.lm.identify, "identify", identify)


def _leaves(node: DictConfig, prefix: str = "", affects: bool = True) -> dict[str, bool]:
    """Dotted key -> whether the schema says that it affects the result."""
    leaves: dict[str, bool] = {}
    schema = OmegaConf.get_type(node)
    assert is_dataclass(schema)
    for f in fields(schema):
        counts = affects and f.metadata.get("affects_result", True)
        child = node[f.name]
        if f.name == "data" and child is None:  # "data" below has them
            continue
        if isinstance(child, DictConfig):
            leaves |= _leaves(child, f"{prefix}{f.name}.", counts)
        else:
            leaves[f"{prefix}{f.name}"] = counts
    return leaves


def _another(value: Any) -> list[Any]:
    """Values of which one is of the field's type and none is `value`."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1]
    if isinstance(value, str):
        return [f"{value}x"]
    loggers = [TensorBoardConfig(), WandbConfig(), TrackioConfig()]
    return ["x", 7, PromptConfig("x", "y"), *loggers, ["x"]] if value is None else [[*value, value[0]]]


BASES = {
    "salad": compose(),
    "kitchens": compose(["env=overcooked_random", "learner=dqn"]),
    "prior": compose(["learner=random"]),
    "data": compose(["learner=cql", f"data={Path(__file__).parents[1] / 'golden' / 'tomato.parquet'}"]),
    "bert": compose(["learner=dqn", "encoder=bert"]),
    "served": compose(["lm=vllm", "lm.model=tiny-1"]),
}
FIELDS = {(base, key): affects for base, cfg in BASES.items() for key, affects in _leaves(cfg).items()}


@pytest.mark.parametrize(("base", "key"), FIELDS)
def test_a_setting_names_the_run_exactly_if_it_can_change_the_result(base: str, key: str) -> None:
    cfg = BASES[base].copy()
    OmegaConf.set_readonly(cfg, False)
    before = result_settings(cfg)
    for value in _another(OmegaConf.select(cfg, key)):
        try:
            OmegaConf.update(cfg, key, value)
            break
        except ValueError:
            continue
    assert OmegaConf.select(cfg, key) != OmegaConf.select(BASES[base], key)
    assert (result_settings(cfg) != before) == FIELDS[base, key]


def test_free_settings_of_a_saved_config_are_those_of_the_schema() -> None:
    for cfg in BASES.values():
        plain = OmegaConf.to_container(cfg)
        assert isinstance(plain, dict)
        free = free_settings({str(k): v for k, v in plain.items()})
        absent = {"paths", "logger"} | ({"prompt.id"} if cfg.prompt is None else set())
        absent |= {key for key in free if key.startswith("logger.") and key.count(".") > 1}  # no logger is chosen
        assert {key for key, affects in _leaves(cfg).items() if not affects} == free - absent


def test_the_name_shows_what_the_run_is() -> None:
    cfg = compose(["learner=dqn", "seed=7"])
    assert identify_run(cfg).name == f"overcooked_salad-dqn-uniform-s7-{identify_run(cfg).id[:8]}"
    assert len(identify_run(cfg).id) == 64


def test_the_models_identity_names_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose(["lm=hf", "lm.model=/here/some-model"])
    before = identify_run(cfg).id
    assert (
        identify_run(compose(["lm=hf", "lm.model=/there/some-model"])).id == before
    )  # the same model in another place
    assert identify_run(compose(["lm=hf", "lm.model=/here/some-model", "lm.device=cuda"])).id == before
    assert identify_run(compose(["lm=hf", "lm.model=/here/some-model", "lm.revision=cccc"])).id != before
    assert identify_run(compose(["lm=hf", "lm.model=/here/some-model", "lm.dtype=bfloat16"])).id != before
    for other in (
        ModelIdentity("some-model", "aaaa", "float32", "new"),
        ModelIdentity("some-model", "new", "float32", "bbbb"),
    ):
        monkeypatch.setattr(llmrl.lm.identify, "identify", lambda *_, other=other: other)
        assert identify_run(cfg).id != before


@pytest.mark.parametrize("option", ["lm", "bert"])
def test_the_identity_of_the_encoders_model_names_the_run(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_encoder(*more: str) -> str:
        return identify_run(compose(["learner=dqn", f"encoder={option}", *more])).id

    before = with_encoder("encoder.model=/here/some-model")
    assert with_encoder("encoder.model=/there/some-model") == before
    assert with_encoder("encoder.model=/here/some-model", "encoder.device=cpu") == before
    assert with_encoder("encoder.model=/here/some-model", "encoder.batch_size=2") != before  # rows may move by rounding
    for other in ("encoder.revision=cccc", "encoder.dtype=bfloat16", "encoder.pooling=last", "encoder.history_turns=1"):
        assert with_encoder("encoder.model=/here/some-model", other) != before
    monkeypatch.setattr(llmrl.lm.identify, "identify", lambda *_: ModelIdentity("some-model", "aaaa", "float32", "new"))
    assert with_encoder("encoder.model=/here/some-model") != before


@pytest.mark.parametrize("learner", ["dqn", "dqn_pretrained", "bc"])
def test_the_contents_of_the_weights_name_the_run_wherever_they_lie(learner: str, tmp_path: Path) -> None:
    def with_weights(file: Path) -> str:
        return identify_run(compose([f"learner={learner}", f"learner.weights={file}"])).id

    here, there, other = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors"))
    for file, contents in ((here, b"one"), (there, b"one"), (other, b"two")):
        file.write_bytes(contents)
    assert with_weights(here) == with_weights(there)
    assert with_weights(here) != with_weights(other)
    if learner == "dqn":
        assert (
            with_weights(here) != identify_run(compose(["learner=dqn"])).id == identify_run(compose(["learner=dqn"])).id
        )
    for nothing in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(ConfigError, match=rf"learner\.weights={re.escape(str(nothing))}: there is no such file"):
            with_weights(nothing)


DATA = f"data={Path(__file__).parents[1] / 'golden' / 'tomato.parquet'}"
ONE_NAME = [  # (what is run, what it does not read)
    ("learner=dqn", "prior.mix=0.3"),
    ("learner=drrn", "prior.mix=0.3"),
    ("learner=random", "prior.mix=0.3"),
    ("learner=dqn", "evaluation.per_doubling=2"),
    ("learner=dqn env_steps=100 evaluation.every=100", "evaluation.every=1000"),
    ("learner=dqn env=frozen_lake", "learner.discount_by=primitive_steps"),
    ("learner=dqn env=household/pick", "learner.discount_by=primitive_steps"),
    ("learner=dqn learner.gamma=1", "learner.discount_by=primitive_steps"),
    ("learner=dqn learner.backup=soft", "learner.double_q=false"),
    ("learner=dqn env_steps=100", "learner.buffer=100"),
    ("env_steps=100", "prior.uniform_after=100"),
    ("env_steps=100 learner.prefill=100", "learner.prefill=500"),
    ("learner=prior_only", "prior.target.k=2"),
    ("learner=prior_only prior=sampled", "prior.target.redraw=union"),
    (f"learner=cql_prior {DATA}", "prior.behaviour.k=2"),
    (f"learner=cql {DATA}", "rollout.pipeline=true"),
    (f"learner=cql {DATA}", "rollout.num_envs=1"),
    (f"learner=cql {DATA}", "env_steps=10"),
    (f"learner=cql {DATA}", "learner.join=true"),
    (f"learner=cql {DATA}", "learner.data_action=false"),
    (f"learner=cql_prior_soft {DATA}", "learner.join=true"),
    (f"learner=bc {DATA}", "learner.product=true"),
    ("env=household/pick lm=tiny-2", "evaluation.exact_up_to=5"),
    ("prior=generated", "prompt.prefix=x"),
    ("prompt.template='{{observation}}'", "prompt.history_turns=3"),
    ("prior=generated prior.evaluation.redraw=visit", "evaluation.exact_up_to=7"),
    ("prior=generated prior.stop=[x,y]", "prompt.end=z"),
    # the same, said otherwise
    ("prior=generated prompt.end=x prior.stop=[x]", "prompt.end=y"),
    ("learner=dqn learner.alpha=0.3", "learner.alpha_eval=0.3"),
    (f"learner=cql {DATA} learner.alpha=0.3 learner.alpha_eval=0.1", "learner.alpha=0.2"),
    ("prior=generated seed=3", "prior.draw_seed=3"),
    (f"learner=cql {DATA} seed=3", "data.draw=3"),
    (f"learner=cql {DATA}", "data.size=240"),
    ("prompt.id=mine", "encoder.name=mine"),
]


@pytest.mark.parametrize(("run", "more"), ONE_NAME)
def test_the_same_computation_has_one_name(run: str, more: str) -> None:
    given = run.split(" ")
    other = [text for text in given if text.partition("=")[0] != more.partition("=")[0]]
    assert identify_run(compose([*other, more])).id == identify_run(compose(given)).id


def test_the_text_that_ends_an_answer_names_the_run_whichever_setting_has_it() -> None:
    ended = [identify_run(compose(["prior=generated", *more])).id for more in (["prompt.end=x"], ["prior.stop=[x]"])]
    assert ended[0] == ended[1] != identify_run(compose(["prior=generated"])).id
    # Examples are written with prompt.end, whatever ends an answer.
    shown = [["prompt.end=x"], ["prior.stop=[x]"], ["prior.stop=[x,y]"], ["prior.stop=[x,y]", "prompt.end=x"]]
    assert len({identify_run(compose(["prior=generated", "prompt.shots=2", *more])).id for more in shown}) == 4


def test_who_sets_what_is_not_read_is_told() -> None:
    typed = ["learner=dqn", "prior.mix=0.1", "evaluation={every:50,per_doubling:2}", "seed=1"]
    assert unread_overrides(typed, compose(typed)) == [
        "prior.mix=0.1 changes nothing: prior=uniform is uniform anyway",
        "evaluation.per_doubling=2 changes nothing: evaluation.grid=linear has no doublings",
    ]
    assert unread_overrides([], compose()) == []


def test_a_new_setting_at_its_old_behaviour_leaves_old_names_alone() -> None:
    @dataclass
    class Old:
        alpha: float = 0.1

    @dataclass
    class New(Old):
        trick: str = field(default="on", metadata={"absent_default": "off"})
        speed: int = field(default=1, metadata={"affects_result": False})

    old = result_settings(OmegaConf.structured(Old))
    assert result_settings(OmegaConf.structured(New(trick="off"))) == old
    assert result_settings(OmegaConf.structured(New(trick="off", speed=2))) == old
    assert result_settings(OmegaConf.structured(New())) == {**old, "trick": "on"}
