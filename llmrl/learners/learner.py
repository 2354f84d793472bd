"""The contract of a learner: it is given candidates, and never knows what stands behind them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition

LARGEST = 1e30  # Q divided by the smallest alpha is still a float32


class Diverged(RuntimeError):
    """A learned value is no finite number any more. The message says which setting to lower."""


@runtime_checkable
class HasPolicy(Protocol):
    """A learner that says how likely it acts; somebody else's need not."""

    def policy(
        self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool
    ) -> list[np.ndarray] | None:
        """The probability that `evaluate` takes each action: float64 [actions] per state, its draws of candidates
        included.

        None where there is no formula; success is then sampled.
        """
        ...


class Learner(HasPolicy, Protocol):
    greedy_is_deterministic: bool  # whether the greedy policy does the same in the same state with the same candidates

    def act(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        """Behaviour: int64 [states], an index into each state's actions."""
        ...

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        """Acts as `act` does, from the stream given and without exploration; `greedy` takes the mode."""
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

    def save(self) -> dict[str, Any]:
        """All that the next tick depends on besides the weights and the feature table, for a checkpoint.

        Nested dicts with text keys, lists, numbers, texts, arrays and tensors. A learner without `save` and `restore`
        can be trained; when its run is interrupted, it starts over.
        """
        ...

    def restore(self, saved: Mapping[str, Any]) -> None:
        """After `load_state_dict` and with the feature table restored: the learner is what it was."""
        ...

    def forget(self, envs: Collection[int]) -> None:
        """The running episodes of these environments are lost."""
        ...


def refuse_divergence(what: str, values: torch.Tensor, lr: float) -> None:
    """Raises Diverged where one of the values is NaN or beyond LARGEST, before anything acts on it."""
    if not (values.abs() <= LARGEST).all():  # no comparison holds of a NaN
        raise Diverged(
            f"learning diverged: {what} is not a finite number, or far out of range, and was not used; lower "
            f"learner.lr (now {lr:g}) or learner.grad_clip, or look for very large rewards in the world"
        )
