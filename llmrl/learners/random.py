"""Uniform over the admissible actions: the floor of every comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.learners.prior_only import PriorOnly


class Random(PriorOnly):
    """It is only ever given the uniform prior; its greedy policy is as random as the other one."""

    greedy_is_deterministic = False

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        return super().evaluate(states, candidates, rng, greedy=False)

    def policy(
        self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool
    ) -> list[np.ndarray] | None:
        return super().policy(states, proposals, greedy=False)
