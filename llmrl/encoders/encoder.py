"""What Q sees of a state and an action: text to vector, each distinct text once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from llmrl.envs.state import TextState


class Encoder(Protocol):
    dim: int
    history_turns: int

    def encode(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """Per (state text, actions): float32 [actions, dim]. A row depends on its own text alone."""
        ...


def render(state: TextState, history_turns: int) -> str:
    """The state as Q reads it, one thing a line: the task, what is seen, the last action, the one before it, ...

    A line always means the same thing, so that an encoder may tell "fetched just now" from "fetched earlier".
    """
    recent = [action for _, action in reversed(state.history[-history_turns:])] if history_turns else []
    return "\n".join([state.task, state.observation, *recent])


class FeatureTable:
    """Every (state, action) text met so far, encoded once; replay stores integers.

    A state's id is its order of arrival; its actions' rows lie side by side from `first_row[id]`, in menu order.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.first_row = np.zeros(1024, dtype=np.int64)
        self.size = 0  # rows in use
        self._features = torch.zeros(1024, encoder.dim)
        self._ids: dict[tuple[str, tuple[str, ...]], int] = {}
        self._by_state: dict[TextState, int] = {}

    @property
    def features(self) -> torch.Tensor:
        """float32 [rows, dim]."""
        return self._features[: self.size]

    def ids(self, states: Sequence[TextState]) -> np.ndarray:
        """int64 [states]; states whose texts are equal share an id."""
        unknown = [s for s in dict.fromkeys(states) if s not in self._by_state]
        if unknown:
            self._learn(unknown)
        return np.fromiter((self._by_state[s] for s in states), dtype=np.int64, count=len(states))

    def first_row_of(self, state: TextState) -> int:
        """The feature row of the state's first action."""
        if state not in self._by_state:
            self._learn([state])
        return int(self.first_row[self._by_state[state]])

    def _learn(self, states: Sequence[TextState]) -> None:
        texts = [(render(s, self.encoder.history_turns), s.actions) for s in states]
        new = [text for text in dict.fromkeys(texts) if text not in self._ids]
        for text, rows in zip(new, self.encoder.encode(new), strict=True):
            assert rows.shape == (len(text[1]), self.encoder.dim)
            assert np.isfinite(rows).all()
            self._append(text, torch.from_numpy(rows))
        for state, text in zip(states, texts, strict=True):
            self._by_state[state] = self._ids[text]

    def _append(self, text: tuple[str, tuple[str, ...]], rows: torch.Tensor) -> None:
        state_id, end = len(self._ids), self.size + len(rows)
        if end > len(self._features):
            self._features = torch.cat(
                [self._features, torch.zeros(max(len(self._features), len(rows)), rows.shape[1])]
            )
        if state_id == len(self.first_row):
            self.first_row = np.concatenate([self.first_row, np.zeros_like(self.first_row)])
        self._features[self.size : end] = rows
        self.first_row[state_id] = self.size
        self._ids[text], self.size = state_id, end
