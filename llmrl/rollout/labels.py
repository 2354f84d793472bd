"""Labelled states: an expert's actions in `train` games, for a prior that is fitted to few of them.

An agent walks through games of the split `train` of the run's kind of world. It takes an expert's action as often as
any other, and a share of the states on its way is labelled. No game of another split is looked at, and none that a
prompt may show as an example. The labels are a function of the seed and the world; the first n of more are those of n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrl.core.candidates import Candidates
from llmrl.core.seeding import stream
from llmrl.core.state import TextState
from llmrl.envs.pool import EnvPool
from llmrl.priors.head import Label
from llmrl.priors.prior import Prior
from llmrl.prompts.examples import POOL
from llmrl.rollout.rollout import Rollout
from llmrl.schema.priors import PriorConfig

FIRST = 2 * POOL  # prompts show games before it as examples
GAMES = 200  # that labels are taken from, in a random order
LABELLED = 0.25  # of the states on the way
ERRS = 0.5  # the chance that the walker takes any action


def train_world(env: Any) -> Any:
    """The world of `train` games that goes with a run's `env`, as an object of its schema."""
    from dataclasses import fields, replace

    from llmrl.schema.envs import HouseholdConfig, KitchenConfig, RandomKitchenConfig

    if isinstance(env, HouseholdConfig):
        return replace(env, split="train", index=FIRST, count=GAMES, unit="games")
    assert isinstance(env, KitchenConfig)
    shared = {f.name: getattr(env, f.name) for f in fields(KitchenConfig)}
    ingredients = env.ingredients if isinstance(env, RandomKitchenConfig) else None
    return RandomKitchenConfig(
        **shared | {"kind": "overcooked_random"}, split="train", index=FIRST, count=GAMES, ingredients=ingredients
    )


def collect_labels(pool: EnvPool, seed: int, count: int, history_turns: int) -> list[Label]:
    """`count` labels of distinct states; `pool` has one copy of `train_world`, and is closed afterwards."""
    rng, found = stream(seed, "labels"), dict[TextState, Label]()
    nobody = Prior(PriorConfig(name="uniform"), seed)
    rollout = Rollout(pool, nobody, seed, "labels", history_turns=history_turns)

    def choose(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        (state,), (good,) = states, rollout.experts([0])
        is_labelled, errs, u = rng.random(3)
        if is_labelled < LABELLED and good:
            found.setdefault(state, Label(state, good, rollout.episode_of[0]))
        menu = [i for i, a in enumerate(state.actions) if errs < ERRS or not good or a in good]
        return np.array([menu[int(u * len(menu))]])

    try:
        while len(found) < count:
            rollout.start()
            while len(found) < count and not rollout.tick(choose, [0], learning=False).episodes:
                pass
    finally:
        pool.close()
    return list(found.values())
