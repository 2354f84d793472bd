"""The prior alone: a ~ w(.|s). It never learns; what it reaches, nothing was learned for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from llmrl.core.candidates import Candidates, Proposal, draw
from llmrl.core.seeding import stream
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.encoders.encoder import FeatureTable
from llmrl.schema.learners import NoLearnerConfig


class PriorOnly:
    greedy_is_deterministic = True

    def __init__(self, cfg: NoLearnerConfig, seed: int, table: FeatureTable | None) -> None:
        self.rng = stream(seed, "policy")

    def act(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        return self.evaluate(states, candidates, self.rng, greedy=False)

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        if greedy:
            return np.array([c.actions[c.log_weights.argmax()] for c in candidates])
        return np.array([draw(c, u) for c, u in zip(candidates, rng.random(len(candidates)), strict=True)])

    def policy(
        self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool
    ) -> list[np.ndarray] | None:
        if not greedy:  # one of k draws from w is a draw from w
            return [p.weights for p in proposals]
        if any(p.k is not None for p in proposals):
            return None
        return [np.eye(p.weights.size)[p.weights.argmax()] for p in proposals]

    def observe(self, transitions: Sequence[Transition]) -> None:
        """Nothing is remembered."""

    def update(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state_dict(self, tensors: dict[str, torch.Tensor]) -> None:
        if tensors:
            raise ValueError(f"{type(self).__name__} has no weights, but the checkpoint holds {sorted(tensors)}")

    def save(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = saved["rng"]

    def forget(self, envs: Collection[int]) -> None:
        """Nothing is remembered."""
