"""Transitions, as a rollout hands them to a learner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llmrl.core.candidates import Candidates
from llmrl.core.state import TextState


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
    # What `action` was chosen among at `state`, with log w: for a KL to the prior, or to say again how likely it was.
    candidates: Candidates | None = None  # None in checkpoints of older versions

    def save(self) -> dict[str, Any]:
        """Texts, numbers and arrays, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Transition:
        return cls(
            **{
                **saved,
                "state": _state(saved["state"]),
                "next_state": _state(saved["next_state"]),
                "next_candidates": _candidates(saved["next_candidates"]),
                "candidates": _candidates(saved.get("candidates")),
            }
        )


def _candidates(saved: Mapping[str, Any] | None) -> Candidates | None:
    return None if saved is None else Candidates(**saved)


def _state(saved: Mapping[str, Any]) -> TextState:
    history = tuple((observation, action) for observation, action in saved["history"])
    return TextState(saved["task"], saved["observation"], tuple(saved["actions"]), history)
