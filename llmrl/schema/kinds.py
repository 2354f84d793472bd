"""The worlds, models, learners and encoders of llmrl's own, by kind: the name that a config says, wherever code lies.

A part of a config, or a preset, names one by `kind`, and a class or function of somebody else by `_target_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from llmrl.schema.encoders import EncoderConfig, ModelEncoderConfig
from llmrl.schema.envs import AlfworldConfig, FrozenLakeConfig, HouseholdConfig, KitchenConfig, RandomKitchenConfig
from llmrl.schema.learners import BCConfig, CQLConfig, DQNConfig, DRRNConfig, IQLConfig, NoLearnerConfig
from llmrl.schema.lm import OpenAILMConfig, TransformersLMConfig


class Kind(NamedTuple):
    schema: type
    target: str  # where its class or function lies today: module:name


KINDS: dict[str, dict[str, Kind]] = {
    "env": {
        "frozen_lake": Kind(FrozenLakeConfig, "llmrl.envs.lake.env:frozen_lake"),
        "overcooked_tomato": Kind(KitchenConfig, "llmrl.envs.kitchen.env:overcooked_tomato"),
        "overcooked_salad": Kind(KitchenConfig, "llmrl.envs.kitchen.env:overcooked_salad"),
        "overcooked_random": Kind(RandomKitchenConfig, "llmrl.envs.kitchen.env:overcooked_random"),
        "household": Kind(HouseholdConfig, "llmrl.envs.household.env:household"),
        "alfworld": Kind(AlfworldConfig, "llmrl.envs.alfworld.env:alfworld"),
    },
    "lm": {
        "transformers": Kind(TransformersLMConfig, "llmrl.lm.transformers_lm:TransformersLM"),
        "openai": Kind(OpenAILMConfig, "llmrl.lm.openai_lm:OpenAILM"),
        "vllm": Kind(OpenAILMConfig, "llmrl.lm.openai_lm:VllmLM"),
    },
    "learner": {
        "dqn": Kind(DQNConfig, "llmrl.learners.dqn:DQN"),
        "drrn": Kind(DRRNConfig, "llmrl.learners.drrn:DRRN"),
        "bc": Kind(BCConfig, "llmrl.learners.bc:BC"),
        "cql": Kind(CQLConfig, "llmrl.learners.cql:CQL"),
        "iql": Kind(IQLConfig, "llmrl.learners.iql:IQL"),
        "prior_only": Kind(NoLearnerConfig, "llmrl.learners.prior_only:PriorOnly"),
        "random": Kind(NoLearnerConfig, "llmrl.learners.random:Random"),
    },
    "encoder": {
        "hash": Kind(EncoderConfig, "llmrl.encoders.hash:HashEncoder"),
        "model": Kind(ModelEncoderConfig, "llmrl.encoders.model:ModelEncoder"),
        "bert": Kind(ModelEncoderConfig, "llmrl.encoders.model:BertEncoder"),
    },
}
PARTS = tuple(KINDS)  # of a config, chosen by `kind` or `_target_`

# `_target_`s of configs that are older than kinds. They stand for the kind in the names of runs. None is ever changed,
# wherever code moves, and none is added: a younger kind stands for itself.
OLD_TARGETS: dict[str, dict[str, str]] = {
    "env": {
        "llmrl.envs.lake.env.frozen_lake": "frozen_lake",
        "llmrl.envs.kitchen.env.overcooked_tomato": "overcooked_tomato",
        "llmrl.envs.kitchen.env.overcooked_salad": "overcooked_salad",
        "llmrl.envs.kitchen.env.overcooked_random": "overcooked_random",
        "llmrl.envs.household.env.household": "household",
        "llmrl.envs.alfworld.env.alfworld": "alfworld",
    },
    "lm": {
        "llmrl.lm.transformers_lm.TransformersLM": "transformers",
        "llmrl.lm.openai_lm.OpenAILM": "openai",
        "llmrl.lm.openai_lm.VllmLM": "vllm",
    },
    "learner": {
        "llmrl.learners.dqn.DQN": "dqn",
        "llmrl.learners.drrn.DRRN": "drrn",
        "llmrl.learners.bc.BC": "bc",
        "llmrl.learners.cql.CQL": "cql",
        "llmrl.learners.iql.IQL": "iql",
        "llmrl.learners.prior_only.PriorOnly": "prior_only",
        "llmrl.learners.random.Random": "random",
    },
    "encoder": {
        "llmrl.encoders.hash.HashEncoder": "hash",
        "llmrl.encoders.model.ModelEncoder": "model",
        "llmrl.encoders.model.BertEncoder": "bert",
    },
}


def kind_of(part: str, node: Mapping[str, Any] | None) -> str | None:
    """The kind of a part, as a config of any age or a run's name has it; None for somebody else's, and for no part."""
    if not node:
        return None
    target = node.get("_target_")
    kind = str(node.get("kind")) if target is None else OLD_TARGETS[part].get(str(target))
    return kind if kind in KINDS[part] else None


def schema_of(part: str, node: Mapping[str, Any] | None) -> type | None:
    """The schema of a part; somebody else's has none."""
    kind = kind_of(part, node)
    return None if kind is None else KINDS[part][kind].schema


def has_schema(part: str, node: Mapping[str, Any] | None, *schemas: type) -> bool:
    """Whether the schema of a part is one of these, or inherits from one."""
    schema = schema_of(part, node)
    return schema is not None and issubclass(schema, schemas)


def named(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a part as they name a run: with what stands for its kind."""
    kind = kind_of(part, settings)
    old = next((target for target, of in OLD_TARGETS[part].items() if of == kind), None)
    if old is None:
        return dict(settings)
    return {"_target_": old, **{key: value for key, value in settings.items() if key != "kind"}}
