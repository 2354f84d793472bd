"""A control for similar examples: the actions of the most similar examples, without any model.

    llmrl train --config-dir scripts/controls prior=copier learner=prior_only learner.priors=[copier] lm=none \\
        env=overcooked_random env.index=5 env.ingredients=1 prior.settings.ingredients=1 env_steps=8

It reads the examples that `prompt.select=similar` shows: those of generated kitchens of the split train. Each of them
votes for its action, where that is in the menu. Without any vote all actions have equal weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.core.candidates import Use
from llmrl.core.state import TextState
from llmrl.envs.kitchen.env import overcooked_random
from llmrl.prompts.examples import Examples


class Copier:
    def __init__(self, settings: Mapping[str, Any], seed: int) -> None:
        """settings: `ingredients` of the kitchens that examples come from, as many as the run's world has; `shots`."""
        world = overcooked_random(split="test", ingredients=settings["ingredients"])
        self._examples = Examples(world.practice(), shots=settings["shots"], steps=1, select="similar")

    def weights(self, states: Sequence[TextState], use: Use) -> list[list[float]]:
        return [self._of(state) for state in states]

    def _of(self, state: TextState) -> list[float]:
        actions = [step.action for step in self._examples.of(state)]
        copied = [float(actions.count(action)) for action in state.actions]
        return copied if any(copied) else [1.0] * len(copied)
