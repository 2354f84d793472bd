"""Replay of n-step transitions: integers and small arrays, first in, first out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from llmrl.data.transitions import Transition


class NStep(NamedTuple):
    """(s_t, a_t, R, s_{t+n}): y = R + discount * B Q(s_{t+n}, .)."""

    first: Transition
    last: Transition
    ret: float  # R = sum_i (prod_{j<i} gamma_j) r_{t+i}
    discount: float  # prod_{j<n} gamma_j; 0 when the episode terminated


class NStepWindow:
    """Turns each environment's transitions into n-step ones; shorter ones at the end of an episode."""

    def __init__(self, n: int, gamma: float, by_primitive_steps: bool) -> None:
        self.n, self.gamma, self.by_primitive_steps = n, gamma, by_primitive_steps
        self._open: dict[int, deque[Transition]] = {}

    def add(self, t: Transition) -> Iterator[NStep]:
        window = self._open.setdefault(t.env, deque())
        window.append(t)
        ended = t.terminated or t.truncated
        while window and (ended or len(window) == self.n):
            yield self._reduce(window)
            window.popleft()

    def _reduce(self, window: deque[Transition]) -> NStep:
        ret, discount = 0.0, 1.0
        for t in window:
            ret += discount * t.reward
            discount *= self.gamma**t.duration if self.by_primitive_steps else self.gamma
        return NStep(window[0], window[-1], ret, 0.0 if window[-1].terminated else discount)


@dataclass
class Batch:
    rows: np.ndarray  # int64 [B], feature rows of (s, a)
    returns: np.ndarray  # float32 [B]
    discounts: np.ndarray  # float32 [B]
    next_rows: np.ndarray  # int64 [B, C], feature rows of the target's support; -1 pads
    next_log_weights: np.ndarray  # float32 [B, C], log w; -inf where padded


class Replay:
    """A ring of `capacity` transitions; the support's width grows to the widest one seen."""

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        self.capacity, self.rng = capacity, rng
        self.size = 0
        self._next = 0
        self._rows = np.zeros(capacity, dtype=np.int64)
        self._returns = np.zeros(capacity, dtype=np.float32)
        self._discounts = np.zeros(capacity, dtype=np.float32)
        self._next_rows = np.full((capacity, 1), -1, dtype=np.int64)
        self._next_log_weights = np.full((capacity, 1), -np.inf, dtype=np.float32)

    def add(self, row: int, ret: float, discount: float, next_rows: np.ndarray, next_log_weights: np.ndarray) -> None:
        width = next_rows.size
        if width > self._next_rows.shape[1]:
            more = ((0, 0), (0, width - self._next_rows.shape[1]))
            self._next_rows = np.pad(self._next_rows, more, constant_values=-1)
            self._next_log_weights = np.pad(self._next_log_weights, more, constant_values=-np.inf)
        i = self._next
        self._rows[i], self._returns[i], self._discounts[i] = row, ret, discount
        self._next_rows[i], self._next_log_weights[i] = -1, -np.inf
        self._next_rows[i, :width], self._next_log_weights[i, :width] = next_rows, next_log_weights
        self._next = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch: int) -> Batch:
        i = self.rng.integers(self.size, size=batch)
        return Batch(self._rows[i], self._returns[i], self._discounts[i], self._next_rows[i], self._next_log_weights[i])
