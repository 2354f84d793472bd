"""The candidates of a state, as a learner is given them: a support and its weights, from any source."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from llmrl.core.seeding import draw_from
from llmrl.core.state import TextState

Use = Literal["behaviour", "target", "evaluation"]


@dataclass(frozen=True)
class Candidates:
    """A support S(s) and its weights w."""

    actions: np.ndarray  # int64 [C], distinct indices into `state.actions`, ascending; C >= 1
    log_weights: np.ndarray  # float64 [C], log w; the w sum to 1. -inf: never chosen and never valued

    def __post_init__(self) -> None:
        assert self.actions.shape == self.log_weights.shape
        assert self.actions.size > 0
        # Not by numpy, whose calls cost more than a handful of numbers.
        total = sum(map(math.exp, self.log_weights.tolist()))
        assert abs(total - 1) < 1e-6, "an action prior is normalised over its support"

    @property
    def possible(self) -> np.ndarray:
        """int64 [<= C]: the actions of positive weight."""
        return self.actions[self.log_weights > -np.inf]


@dataclass(frozen=True)
class Proposal:
    """The distribution that a state's `Candidates` are drawn from, where each visit draws anew."""

    weights: np.ndarray  # float64 [actions]; they sum to 1
    k: int | None  # candidates are k draws with replacement, weighted by their counts; None: all of positive weight


def posterior_over_draws(proposals: Sequence[Proposal], log_likelihoods: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The chance of each action when candidates are drawn from p and one of them by n_i exp(l_i), n their counts.

    With k draws d_1..d_k this is E[n_i exp(l_i) / sum_j n_j exp(l_j)], and with 1/x = int_0^inf exp(-t x) dt

        pi_i = k p_i int exp(l_i - t exp(l_i)) phi(t)^(k-1) dt,    phi(t) = sum_j p_j exp(-t exp(l_j)),

    which the trapezoidal rule in u = log t gives to better than 1e-8, whatever k is: its integrand is analytic, as wide
    for every k, and falls off at both ends, the left of which lies log k further to the left.
    """
    return _by_shape(_posterior, proposals, log_likelihoods)


def greedy_over_draws(proposals: Sequence[Proposal], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The chance of each action when the best of the candidates is taken, and equals share by weight."""
    return _by_shape(_greedy, proposals, values)


def draw(c: Candidates, u: float) -> int:
    """The action that the uniform number `u` in [0, 1) picks by weight."""
    return int(c.actions[draw_from(np.exp(c.log_weights).cumsum(), u)])


class ActionPrior(Protocol):
    def candidates(
        self,
        states: Sequence[TextState],
        use: Use,
        experts: Sequence[frozenset[str] | None] | None = None,
        informed: Sequence[bool] | None = None,
    ) -> list[Candidates]:
        """One support per state, in order. What is asked of a model is asked in one batch.

        `experts`: the actions that an expert would take in each state, where known. Only an oracle looks at them.
        `informed`: whether each state is told what the prior says; where it is not, all its actions are candidates.
        """
        ...

    def begin(self, states: Mapping[Use, Sequence[TextState]]) -> None:
        """Begins to ask for what the candidates of these states will need, and does not wait. Nothing is drawn.

        `states`: by use, those that will be told what the prior says.
        """
        ...

    def start_evaluation(self, *name: str | int) -> None:
        """Evaluations draw from a stream of their own, named by when they happen."""
        ...


_STEP = 0.45
_LEFT, _RIGHT = 23.0, 3.2  # the integral of exp(x - exp(x)) outside is 1e-10
_GAP = 25.0  # beyond it the likelier of two draws is taken for certain; keeps the range of the integral finite
_AT_ONCE = 1 << 14  # numbers in an array, roughly: it stays in a processor's cache

Rule = Callable[[np.ndarray, np.ndarray, int | None], np.ndarray]


def _by_shape(rule: Rule, proposals: Sequence[Proposal], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`rule(p [S, A], values [S, A], k)` of S states at once, as many as have A actions and k draws."""
    groups: defaultdict[tuple[int, int | None], list[int]] = defaultdict(list)
    for state, proposal in enumerate(proposals):
        groups[proposal.weights.size, proposal.k].append(state)
    out = [np.empty(0)] * len(proposals)
    for (size, k), states in groups.items():
        step = max(1, _AT_ONCE // (size * round((_LEFT + _RIGHT) / _STEP)))
        for start in range(0, len(states), step):
            some = states[start : start + step]
            p_SA = np.stack([proposals[i].weights for i in some])
            rows = rule(p_SA, np.stack([values[i] for i in some]).astype(np.float64), k)
            for i, row in zip(some, rows, strict=True):
                out[i] = row
    return out


def _posterior(p_SA: np.ndarray, ell_SA: np.ndarray, k: int | None) -> np.ndarray:
    if k is None:
        ell_SA = np.where(p_SA > 0, ell_SA, -np.inf)
        pi_SA = p_SA * np.exp(ell_SA - ell_SA.max(-1, keepdims=True))
    else:
        x_SA = _at_most_a_gap_apart(ell_SA, _GAP + np.log(k))
        u_U = np.arange(-x_SA.max() - _LEFT - np.log(k), _RIGHT, _STEP)
        rate_SAU = np.exp(np.minimum(x_SA[:, :, None] + u_U, 2 * _RIGHT))  # t exp(l); its exponential is 0 far before
        decay_SAU = np.exp(-rate_SAU)
        phi_SU = np.einsum("sa,sau->su", p_SA, decay_SAU)
        integral_SA = ((rate_SAU * decay_SAU) @ (phi_SU ** (k - 1))[:, :, None])[:, :, 0] * _STEP
        pi_SA = k * p_SA * integral_SA
        assert np.abs(pi_SA.sum(-1) - 1).max() < 1e-6
    return pi_SA / pi_SA.sum(-1, keepdims=True)


def _at_most_a_gap_apart(ell_SA: np.ndarray, gap: float) -> np.ndarray:
    """The same order from 0 up, with no two neighbours further apart than `gap`."""
    order = ell_SA.argsort(-1)
    gaps = np.minimum(np.diff(np.take_along_axis(ell_SA, order, -1), prepend=-np.inf), gap)
    gaps[:, 0] = 0.0
    x_SA = np.empty_like(ell_SA)
    np.put_along_axis(x_SA, order, gaps.cumsum(-1), -1)
    return x_SA


def _greedy(p_SA: np.ndarray, value_SA: np.ndarray, k: int | None) -> np.ndarray:
    value_SA = np.where(p_SA > 0, value_SA, -np.inf)
    other_SAA, one_SAA = value_SA[:, None, :], value_SA[:, :, None]
    below_SA = ((other_SAA < one_SAA) * p_SA[:, None, :]).sum(-1)
    equal_SA = ((other_SAA == one_SAA) * p_SA[:, None, :]).sum(-1)
    if k is None:
        is_best_SA = value_SA == value_SA.max(-1, keepdims=True)
    else:  # all draws are at most as good, and not all are worse
        is_best_SA = (below_SA + equal_SA) ** k - below_SA**k
    return p_SA * is_best_SA / np.where(p_SA > 0, equal_SA, 1.0)
