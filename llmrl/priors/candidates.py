"""What a learner is given at a state: a support and its weights, whatever stands behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from llmrl.envs.state import TextState

Use = Literal["behaviour", "target", "evaluation"]


@dataclass(frozen=True)
class Candidates:
    """A support S(s) and its weights w."""

    actions: np.ndarray  # int64 [C], distinct indices into `state.actions`, ascending; C >= 1
    log_weights: np.ndarray  # float64 [C], log w; the w sum to 1

    def __post_init__(self) -> None:
        assert self.actions.shape == self.log_weights.shape
        assert self.actions.size > 0
        assert abs(np.exp(self.log_weights).sum() - 1) < 1e-6, "an action prior is normalised over its support"


def draw(c: Candidates, u: float) -> int:
    """The action that the uniform number `u` in [0, 1) picks by weight."""
    cumulative = np.cumsum(np.exp(c.log_weights))
    return int(c.actions[min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), c.actions.size - 1)])


class ActionPrior(Protocol):
    def candidates(self, states: Sequence[TextState], use: Use) -> list[Candidates]:
        """One support per state, in order. What is asked of a model is asked in one batch."""
        ...

    def start_evaluation(self, *name: str | int) -> None:
        """Evaluations draw from a stream of their own, named by when they happen."""
        ...
