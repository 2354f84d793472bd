"""Worlds that can be enumerated: what may happen, and how likely, as a pure function of a hashable state.

A world that has such a model lets a policy's success be computed instead of sampled (`llmrl.rollout.exact`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol


class Shown(NamedTuple):
    """The visible part of a state: a `Turn` without its consequences."""

    observation: str
    actions: tuple[str, ...]
    expert_actions: frozenset[str] | None = None  # all that begin a shortest way to success; None: unknown


class Outcome(NamedTuple):
    """One thing that may come of an action."""

    probability: float  # those of one action sum to 1
    state: Hashable
    reward: float
    duration: int  # primitive steps
    terminated: bool
    success: bool  # counts when the episode ends here


class WorldModel(Protocol):
    """One task of a world. States are what the world likes, as long as rewards and outcomes depend on them alone."""

    task: str  # the text that every state of an episode shows
    max_decisions: int  # truncates
    max_primitive_steps: int | None  # truncates once so many were taken; None: nothing counts them

    def initial(self) -> list[tuple[float, Hashable]]:
        """(probability, state) of each way that an episode may begin."""
        ...

    def shown(self, state: Hashable) -> Shown:
        """The texts shown in a state that has not terminated."""
        ...

    def outcomes(self, state: Hashable, action: int) -> list[Outcome]:
        """The possible outcomes of the action at index `action` of the menu; `state` has not terminated."""
        ...
