"""Encoders: a state and an action as a vector for Q, each distinct text once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from llmrl.core.state import TextState


class Encoder(Protocol):
    dim: int
    history_turns: int

    def encode(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """Per (state text, actions): float32 [actions, dim]. A row depends on its own text alone."""
        ...


class RowStore(Protocol):
    """A store of rows that a model computed, as bytes of little-endian float32."""

    def dim(self, encoder: Mapping[str, Any]) -> int | None:
        """The length of the rows of `encoder`, all that names it; None where none was kept yet."""
        ...

    def rows(
        self,
        encoder: Mapping[str, Any],
        texts: Sequence[str],
        compute: Callable[[list[str]], Sequence[bytes]],
        provenance: Callable[[], Mapping[str, str]],
    ) -> list[bytes]:
        """The row of each text; `compute` is called for those that are missing, each once."""
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

    def first_rows(self, states: Sequence[TextState]) -> np.ndarray:
        """int64 [states]: the feature row of each state's first action."""
        ids = self.ids(states)  # may put a longer `first_row` in its place, so that is looked at afterwards
        return self.first_row[ids]

    def first_row_of(self, state: TextState) -> int:
        """The feature row of the state's first action."""
        if state not in self._by_state:
            self._learn([state])
        return int(self.first_row[self._by_state[state]])

    def texts(self, since: int = 0) -> list[tuple[str, tuple[str, ...]]]:
        """(state text, actions) of each state id from `since` on."""
        return list(islice(self._ids, since, None))

    def restore(self, texts: Sequence[tuple[str, Sequence[str]]], rows: np.ndarray) -> None:
        """Fills an empty table. `rows`: float32 [as many as there are actions, dim], in the order of `texts`."""
        assert not self._ids
        assert rows.shape == (sum(len(actions) for _, actions in texts), self.encoder.dim)
        start = 0
        for text, actions in texts:
            self._append((text, tuple(actions)), torch.from_numpy(rows[start : start + len(actions)]))
            start += len(actions)

    def _learn(self, states: Sequence[TextState]) -> None:
        texts = [(render(s, self.encoder.history_turns), s.actions) for s in states]
        new = [text for text in dict.fromkeys(texts) if text not in self._ids]
        for text, rows in zip(new, self.encoder.encode(new), strict=True):
            assert rows.shape == (len(text[1]), self.encoder.dim)
            if not np.isfinite(rows).all():
                raise ValueError(
                    f"{type(self.encoder).__name__} gave a feature that is not a finite number: {text[0]!r}"
                )
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
