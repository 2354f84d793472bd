"""A schema that inherits from one of llmrl's own keeps what that one has, and can refuse settings of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import llmrl.lm.identify
from llmrl.config.compose import ConfigError, check, compose
from llmrl.config.unread import find_unread
from llmrl.lm.language_model import ModelIdentity
from llmrl.run.identity import identify_run, weights_contents
from llmrl.schema.encoders import ModelEncoderConfig
from llmrl.schema.envs import FrozenLakeConfig, HouseholdConfig
from llmrl.schema.kinds import KINDS, Kind
from llmrl.schema.learners import BCConfig, CQLConfig, DQNConfig, LearnerConfig, NoLearnerConfig
from llmrl.schema.lm import ModelConfig, OpenAILMConfig, TransformersLMConfig
from llmrl.schema.run import RolloutConfig
from llmrl.training.preflight import refuse_unready
from tests.schemas import schemas

DATA = f"data={Path(__file__).parent.parent / 'golden' / 'tomato.parquet'}"


def plain(cfg: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(cfg)
    return dict(settings)


def as_kind(part: str, schema: type, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> DictConfig:
    """A checked config whose `part` is of a kind that has `schema`, and else as the overrides make it."""
    config = plain(compose(overrides))
    kind = config[part]["kind"]
    monkeypatch.setitem(KINDS[part], "young", Kind(schema, KINDS[part][kind].target))
    config[part]["kind"] = "young"
    return check(OmegaConf.create(config))


@dataclass
class YoungDQN(DQNConfig):
    """A DQN with more settings, as a new algorithm has them."""


@dataclass
class YoungBC(BCConfig):
    """A BC with more settings."""


@dataclass
class YoungCQL(CQLConfig):
    """A CQL with more settings."""


@dataclass
class YoungNone(NoLearnerConfig):
    """Another agent that does not learn."""


@dataclass
class YoungLake(FrozenLakeConfig):
    """Another lake."""


@dataclass
class YoungHomes(HouseholdConfig):
    """Other homes."""


@dataclass
class YoungModel(TransformersLMConfig):
    """Another model in this process."""


@dataclass
class YoungServer(OpenAILMConfig):
    """Another server."""


@dataclass
class YoungEncoder(ModelEncoderConfig):
    """Another model that encodes."""


@pytest.mark.parametrize(
    ("schema", "learner"), [(YoungDQN, "dqn_pretrained"), (YoungBC, "bc")], ids=["dqn_pretrained", "bc"]
)
def test_its_weights_name_the_run_by_their_contents_and_are_read_early(
    schema: type, learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"no weights")
    where = f"paths.runs={tmp_path / 'runs'}"
    cfg = as_kind("learner", schema, monkeypatch, f"learner={learner}", f"learner.weights={file}", where)
    assert identify_run(cfg).settings["learner"]["weights"] == weights_contents(str(file))
    with pytest.raises(ConfigError, match=r"learner\.weights: "):
        refuse_unready(cfg)


@pytest.mark.parametrize(
    ("part", "schema", "overrides"),
    [
        ("lm", YoungModel, ["lm=hf", "lm.model=/here/a-model"]),
        ("lm", YoungServer, ["lm=vllm", "lm.model=a-model", "lm.tokenizer=named", "lm.revision=1"]),
        ("encoder", YoungEncoder, ["learner=dqn", "encoder=bert", "encoder.model=/here/a-model"]),
    ],
    ids=["in-process", "served", "encoder"],
)
def test_its_models_identity_names_the_run(
    part: str, schema: type, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llmrl.lm.identify, "identify", lambda *_: ModelIdentity("a-model", "1", "float32", "found"))
    run = identify_run(as_kind(part, schema, monkeypatch, *overrides))
    identity = run.model if part == "lm" else run.encoder
    assert identity is not None
    assert run.settings[part]["tokenizer"] == identity.tokenizer


def test_every_language_model_has_an_identity() -> None:
    assert all(issubclass(kind.schema, ModelConfig) for kind in KINDS["lm"].values())


def test_every_schema_says_what_its_settings_may_not_be_together() -> None:
    for schema in schemas():
        assert list(schema.__mro__)[-2].__name__ == "Schema", schema


@pytest.mark.parametrize(
    ("part", "schema", "overrides"),
    [
        ("learner", YoungDQN, ["learner=dqn", "learner.backup=soft", "learner.double_q=false"]),
        ("learner", YoungCQL, ["learner=cql", DATA, "learner.join=true"]),
        ("learner", YoungBC, ["learner=bc", DATA]),
        ("learner", YoungNone, ["learner=random"]),
        ("env", YoungLake, ["env=frozen_lake", "learner=dqn"]),
        ("env", YoungHomes, ["env=household/pick", "learner=dqn"]),
    ],
    ids=["dqn", "cql", "bc", "none", "lake", "homes"],
)
def test_the_same_settings_are_not_read(
    part: str, schema: type, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    young, old = as_kind(part, schema, monkeypatch, *overrides), compose(overrides)
    of_its_own = {key for key in find_unread(plain(old)) if key != f"{part}.kind"}
    assert of_its_own
    assert set(find_unread(plain(young))) == of_its_own


@dataclass
class Refusing(YoungLake):
    def problems(self, has_data: bool) -> Iterator[str]:
        yield f"env.size={self.size}, has_data={has_data}"


@dataclass
class RefusingServer(YoungServer):
    def problems(self, has_data: bool) -> Iterator[str]:
        yield f"lm.model={self.model}, has_data={has_data}"


@pytest.mark.parametrize(
    ("part", "schema", "overrides", "said"),
    [
        ("env", Refusing, ["env=frozen_lake", "learner=random"], "env.size=4, has_data=False"),
        ("env", Refusing, ["env=frozen_lake", "learner=iql", DATA], "env.size=4, has_data=True"),
        ("lm", RefusingServer, ["lm=vllm", "lm.model=tiny-1"], "lm.model=tiny-1, has_data=False"),
    ],
)
def test_any_part_may_refuse_its_settings(
    part: str, schema: type, overrides: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=said):
        as_kind(part, schema, monkeypatch, *overrides)


def test_what_acts_is_not_read_by_who_learns_from_data() -> None:
    found = find_unread(plain(compose(["learner=cql", DATA])))
    assert {key for key in found if key.startswith("rollout.")} == {"rollout.num_envs", "rollout.pipeline"}
    assert not list(RolloutConfig(num_envs=1, pipeline=True).problems(has_data=True))
    assert len(list(RolloutConfig(num_envs=1, pipeline=True).problems(has_data=False))) == 1


def test_a_learner_starts_from_what_its_schema_says() -> None:
    with_weights = {k.schema for k in KINDS["learner"].values() if "weights" in k.schema.__dataclass_fields__}
    assert with_weights == {k.schema for k in KINDS["learner"].values() if k.schema.starts_from is not None}
    assert LearnerConfig.starts_from is None
