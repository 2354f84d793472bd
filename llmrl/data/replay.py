"""Replay of n-step transitions: integers and small arrays, first in, first out.

Prioritised, it draws transition i of N with chance P(i) = p_i^priority / sum_j p_j^priority, where p_i is the size of
the error that was made on it when it was last drawn, and weights its loss by (N P(i))^-importance, the largest weight
of a batch being 1 (Schaul et al., "Prioritized Experience Replay", arXiv 1511.05952, proportional variant).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from llmrl.core.transitions import Transition
from llmrl.data.sum_tree import SumTree

SMALLEST_ERROR = 1e-6  # what was learned perfectly is still drawn some time


class NStep(NamedTuple):
    """(s_t, a_t, R, s_{t+n}): y = R + discount * B Q(s_{t+n}, .)."""

    steps: tuple[Transition, ...]  # n of them, or fewer at the end of an episode
    shares: tuple[float, ...]  # prod_{j<i} gamma_j of each: R is the sum of shares times rewards
    ret: float  # R
    discount: float  # prod_{j<n} gamma_j; 0 when the episode terminated

    @property
    def first(self) -> Transition:
        return self.steps[0]

    @property
    def last(self) -> Transition:
        return self.steps[-1]


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

    def forget(self, envs: Collection[int]) -> None:
        """Drops the unfinished transitions of these environments. Their next transition begins another episode."""
        for env in envs:
            self._open.pop(env, None)

    def save(self) -> list[dict[str, Any]]:
        return [t.save() for _, window in sorted(self._open.items()) for t in window]

    def restore(self, saved: Sequence[Mapping[str, Any]]) -> None:
        self._open = {}
        for t in map(Transition.from_saved, saved):
            self._open.setdefault(t.env, deque()).append(t)

    def _reduce(self, window: deque[Transition]) -> NStep:
        ret, discount, shares = 0.0, 1.0, []
        for t in window:
            ret += discount * t.reward
            shares.append(discount)
            discount *= self.gamma**t.duration if self.by_primitive_steps else self.gamma
        return NStep(tuple(window), tuple(shares), ret, 0.0 if window[-1].terminated else discount)


@dataclass
class Batch:
    places: np.ndarray  # int64 [B], where they lie in the ring
    rows: np.ndarray  # int64 [B], feature rows of (s, a)
    returns: np.ndarray  # float32 [B]
    discounts: np.ndarray  # float32 [B]
    next_rows: np.ndarray  # int64 [B, C], feature rows of the target's support; -1 pads
    next_log_weights: np.ndarray  # float32 [B, C], log w; -inf where padded
    taken_rows: np.ndarray  # int64 [B, N], feature rows of the decisions that R sums up; any where their share is 0
    taken_shares: np.ndarray  # float32 [B, N], of each one's reward in R; 0 pads
    weights: np.ndarray | None  # float32 [B], of each one's loss; None: all 1


class Replay:
    """A ring of `capacity` transitions; the support's width grows to the widest one seen.

    `priority`: 0 draws uniformly. A new transition has the largest priority so far. `taken`: the number of a return's
    decisions whose feature rows are kept.
    """

    def __init__(
        self,
        capacity: int,
        rng: np.random.Generator,
        priority: float = 0.0,
        importance: float = 0.0,
        taken: int = 0,
    ) -> None:
        self.capacity, self.rng, self.priority, self.importance = capacity, rng, priority, importance
        self.size = 0
        self._chances = SumTree(capacity) if priority > 0 else None  # p^priority
        self._largest = 1.0
        self._next = 0
        self._rows = np.zeros(capacity, dtype=np.int64)
        self._returns = np.zeros(capacity, dtype=np.float32)
        self._discounts = np.zeros(capacity, dtype=np.float32)
        self._next_rows = np.full((capacity, 1), -1, dtype=np.int64)
        self._next_log_weights = np.full((capacity, 1), -np.inf, dtype=np.float32)
        self._taken_rows = np.zeros((capacity, taken), dtype=np.int64)
        self._taken_shares = np.zeros((capacity, taken), dtype=np.float32)

    def add(
        self,
        row: int,
        ret: float,
        discount: float,
        next_rows: np.ndarray,
        next_log_weights: np.ndarray,
        taken_rows: Sequence[int] = (),
        taken_shares: Sequence[float] = (),
    ) -> None:
        width = next_rows.size
        if width > self._next_rows.shape[1]:
            more = ((0, 0), (0, width - self._next_rows.shape[1]))
            self._next_rows = np.pad(self._next_rows, more, constant_values=-1)
            self._next_log_weights = np.pad(self._next_log_weights, more, constant_values=-np.inf)
        i = self._next
        self._rows[i], self._returns[i], self._discounts[i] = row, ret, discount
        self._next_rows[i], self._next_log_weights[i] = -1, -np.inf
        self._next_rows[i, :width], self._next_log_weights[i, :width] = next_rows, next_log_weights
        n = len(taken_rows)
        self._taken_rows[i, :n], self._taken_shares[i, :n], self._taken_shares[i, n:] = taken_rows, taken_shares, 0.0
        if self._chances is not None:
            self._chances[np.array([i])] = np.array([self._largest])
        self._next = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch: int) -> Batch:
        if self._chances is None:
            i, weights = self.rng.integers(self.size, size=batch), None
        else:  # one draw from each of `batch` equal parts of the total, as in the paper
            total = self._chances.total
            i = self._chances.find((np.arange(batch) + self.rng.random(batch)) / batch * total)
            weights = (self.size * self._chances[i] / total) ** -self.importance
            weights = (weights / weights.max()).astype(np.float32)
        return Batch(
            i,
            self._rows[i],
            self._returns[i],
            self._discounts[i],
            self._next_rows[i],
            self._next_log_weights[i],
            self._taken_rows[i],
            self._taken_shares[i],
            weights,
        )

    def set_errors(self, places: np.ndarray, errors: np.ndarray) -> None:
        """`errors` [B]: y - Q at the transitions that lie at `places`. Nothing to do where draws are uniform."""
        if self._chances is not None:
            chances = (np.abs(errors) + SMALLEST_ERROR) ** self.priority
            self._chances[places] = chances
            self._largest = max(self._largest, float(chances.max()))

    def save(self) -> dict[str, Any]:
        """Saves the filled part of the ring."""
        arrays = {name: getattr(self, f"_{name}")[: self.size] for name in _ARRAYS}
        return {
            **arrays,
            "next": self._next,
            "largest": self._largest,
            "chances": None if self._chances is None else self._chances.save(),
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.size, self._next, self._largest = len(saved["rows"]), saved["next"], saved["largest"]
        for name, fill in _ARRAYS.items():
            found = saved[name]
            ring = np.full((self.capacity, *found.shape[1:]), fill, dtype=found.dtype)
            ring[: self.size] = found
            setattr(self, f"_{name}", ring)
        if self._chances is not None:
            self._chances.restore(saved["chances"])
        self.rng.bit_generator.state = saved["rng"]


_ARRAYS = {  # and what is empty
    "rows": 0, "returns": 0, "discounts": 0, "next_rows": -1, "next_log_weights": -np.inf, "taken_rows": 0,
    "taken_shares": 0,
}  # fmt: skip
