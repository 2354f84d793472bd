"""What a rollout hands to a learner."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.envs.state import TextState
from llmrl.priors.candidates import Candidates


@dataclass(frozen=True)
class Transition:
    """One decision of one environment."""

    env: int
    state: TextState
    action: int  # index into state.actions
    reward: float
    duration: int  # primitive steps
    terminated: bool  # the episode ended by what happened: nothing is worth anything after it
    truncated: bool  # the episode was cut: the next state still has a value
    next_state: TextState
    next_candidates: Candidates | None  # the target's support at next_state; None when terminated
