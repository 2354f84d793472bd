"""The contract of a learner: it is given candidates, and never knows what stands behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from llmrl.data.transitions import Transition
from llmrl.envs.state import TextState
from llmrl.priors.candidates import Candidates, Proposal


class Learner(Protocol):
    greedy_is_deterministic: bool  # whether the greedy policy does the same in the same state with the same candidates

    def act(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        """Behaviour: int64 [states], an index into each state's actions."""
        ...

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        """As `act`, from the stream given and without exploration; `greedy` takes the mode."""
        ...

    def policy(
        self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool
    ) -> list[np.ndarray] | None:
        """How likely `evaluate` takes each action: float64 [actions] per state, its draws of candidates included.

        None where there is no formula; success is then sampled.
        """
        ...

    def observe(self, transitions: Sequence[Transition]) -> None:
        """One tick's transitions, in environment order."""
        ...

    def update(self) -> dict[str, float]:
        """The gradient steps that are due by now; their mean metrics, empty when none was."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights, by name."""
        ...

    def load_state_dict(self, tensors: dict[str, torch.Tensor]) -> None: ...
