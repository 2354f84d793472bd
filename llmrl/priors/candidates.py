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


@dataclass(frozen=True)
class Proposal:
    """How a state's candidates come about, where each visit draws anew: what `Candidates` are drawn from."""

    weights: np.ndarray  # float64 [actions]; they sum to 1
    k: int | None  # candidates are k draws with replacement, weighted by their counts; None: all of positive weight


def posterior_over_draws(proposals: Sequence[Proposal], log_likelihoods: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The chance of each action when candidates are drawn from p and one of them by n_i exp(l_i), n their counts.

    With k draws d_1..d_k this is E[n_i exp(l_i) / sum_j n_j exp(l_j)], and with 1/x = int_0^inf exp(-t x) dt

        pi_i = k p_i int exp(l_i - t exp(l_i)) phi(t)^(k-1) dt,    phi(t) = sum_j p_j exp(-t exp(l_j)),

    which the trapezoidal rule in u = log t gives to about 1e-9: its integrand is analytic and falls off at both ends.
    """
    out = []
    for proposal, ell in zip(proposals, log_likelihoods, strict=True):
        out.append(_integrated(proposal.weights, ell, proposal.k) if proposal.k else _softmax(proposal.weights, ell))
    return out


def greedy_over_draws(proposals: Sequence[Proposal], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The chance of each action when the best of the candidates is taken, and equals share by weight."""
    out = []
    for proposal, value in zip(proposals, values, strict=True):
        p = proposal.weights
        levels, level_of = np.unique(np.where(p > 0, value, -np.inf), return_inverse=True)
        at = np.bincount(level_of, weights=p, minlength=levels.size)
        below = np.concatenate([[0.0], at.cumsum()])
        best = np.diff(below**proposal.k) if proposal.k else np.eye(levels.size)[-1]
        out.append(p * (best / np.where(at > 0, at, 1.0))[level_of])
    return out


def draw(c: Candidates, u: float) -> int:
    """The action that the uniform number `u` in [0, 1) picks by weight."""
    cumulative = np.cumsum(np.exp(c.log_weights))
    return int(c.actions[min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), c.actions.size - 1)])


class ActionPrior(Protocol):
    def candidates(
        self, states: Sequence[TextState], use: Use, experts: Sequence[frozenset[str] | None] | None = None
    ) -> list[Candidates]:
        """One support per state, in order. What is asked of a model is asked in one batch.

        `experts`: the actions that an expert would take in each state, where known. Only an oracle looks at them.
        """
        ...

    def start_evaluation(self, *name: str | int) -> None:
        """Evaluations draw from a stream of their own, named by when they happen."""
        ...


_GAP = 40.0  # beyond it the likelier of two is taken for certain; keeps the range of the integral finite
_STEP = 0.5
_LEFT, _RIGHT = 30.0, 4.0  # exp(x - exp(x)) is below 1e-13 outside


def _softmax(p: np.ndarray, ell: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logits = np.log(p) + np.where(p > 0, ell, 0.0)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def _integrated(p: np.ndarray, ell: np.ndarray, k: int) -> np.ndarray:
    order = np.argsort(ell)
    gaps = np.minimum(np.diff(ell[order]), _GAP)
    x = np.empty_like(p)
    x[order] = np.concatenate([[0.0], gaps.cumsum()])
    u = np.arange(-x.max() - _LEFT, _RIGHT, _STEP)
    shifted_AU = x[:, None] + u
    decay_AU = np.exp(-np.exp(shifted_AU))
    phi_U = p @ decay_AU
    pi = k * p * (np.exp(shifted_AU) * decay_AU * phi_U ** (k - 1)).sum(-1) * _STEP
    assert abs(pi.sum() - 1) < 1e-6
    return pi / pi.sum()
