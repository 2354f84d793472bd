"""A prior fitted to few labels: what it says, and a linear head on it.

    w(a|s) ~ p(a|s) exp(theta . phi(s, a))                                                                         (1)

p is the prior as it is, so that theta = 0 is the prior itself. phi is log p(a|s), which makes it sharper or flatter,
and what `prior.head` says beside it:

    bias      the number of the action's words, and for each word whether it has it (hashed): what a model that likes
              frequent words or short answers gets wrong everywhere alike
    hash      the hash encoder's features of the pair: no model
    hidden    the hidden states of the model that is asked, after the pair's last token

Labels are states with the actions of an expert, E(s). theta minimises, for one lambda,

    J(theta) = - sum_s 1/|E(s)| sum_{a in E(s)} log w(a|s) + lambda/2 |theta|^2                                    (2)

which is a conditional logit (McFadden 1974) with a normal prior around the unfitted one, convex, and has one optimum.
lambda is chosen out of LAMBDAS, infinity among them, by the likelihood of games that were held out: the largest that is
no more than one standard error worse than the best (Breiman et al., Classification and Regression Trees, 1984). So
where labels are too few or the features useless, the prior stays as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from llmrl.core.state import TextState

Features = Callable[[Sequence[TextState]], list[np.ndarray]]  # of each state, float [actions, features]

LAMBDAS = (inf, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
FOLDS = 5  # games are dealt to so many in turn
BUCKETS = 64  # of hashed words
SMALLEST = 1e-300  # below any chance that a softmax gives


@dataclass(frozen=True)
class Label:
    state: TextState
    good: frozenset[str]  # an expert's actions there, at least one
    game: int  # labels of one game are held out together


class Head:
    """`labels` are collected when the first weights are asked for, unless `theta` was given before."""

    def __init__(self, features: Features, labels: Callable[[], Sequence[Label]]) -> None:
        self.features, self.labels = features, labels
        self.theta: np.ndarray | None = None  # float64 [1 + features]

    def fit(self, labels: Sequence[Label], rows: Sequence[np.ndarray]) -> None:
        """`rows`: what the prior says of each label's state, float64 [actions]."""
        problem = _Problem.of(self._phi([label.state for label in labels], rows), rows, labels)
        games = sorted({label.game for label in labels})
        fold_of = {game: i % FOLDS for i, game in enumerate(games)}
        folds = np.array([fold_of[label.game] for label in labels])
        held_out_LS = np.zeros((len(LAMBDAS), len(labels)))  # log likelihood of each label, unseen
        for fold in set(folds.tolist()):
            unseen = folds == fold
            some, others = (problem.of_states(torch.from_numpy(chosen)) for chosen in (~unseen, unseen))
            theta = torch.zeros(problem.dim, dtype=torch.float64)
            for i, strength in enumerate(LAMBDAS):  # from the strongest on: each starts from the one before
                theta = minimum(some, strength, theta)
                held_out_LS[i, unseen] = others.log_likelihood(theta).numpy()
        strength = LAMBDAS[_strongest_that_is_as_good(held_out_LS)]
        self.theta = minimum(problem, strength, torch.zeros(problem.dim, dtype=torch.float64)).numpy()

    def weigh(self, states: Sequence[TextState], rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(1), from what the prior says of these states."""
        assert self.theta is not None, "it is fitted"
        if not self.theta.any():
            return list(rows)
        out = []
        for phi_AD, p in zip(self._phi(states, rows), rows, strict=True):
            logits = np.log(np.maximum(p, SMALLEST)) + (phi_AD * self.theta).sum(-1)
            w = np.exp(logits - logits.max())
            out.append(w / w.sum())
        return out

    def _phi(self, states: Sequence[TextState], rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """float64 [actions, 1 + features] of each state, with the mean over its actions taken off: no w changes."""
        out = []
        for p, features_AF in zip(rows, self.features(states), strict=True):
            phi_AD = np.column_stack([np.log(np.maximum(p, SMALLEST)), features_AF.astype(np.float64)])
            out.append(phi_AD - phi_AD.mean(0))
        return out


def bias_features(states: Sequence[TextState]) -> list[np.ndarray]:
    """float64 [actions, 1 + BUCKETS] of each state: how many words an action has, and which."""
    out = []
    for state in states:
        features_AF = np.zeros((len(state.actions), 1 + BUCKETS))
        for i, action in enumerate(state.actions):
            words = action.casefold().split()
            features_AF[i, 0] = len(words)
            features_AF[i, [1 + zlib.crc32(word.encode()) % BUCKETS for word in words]] = 1.0
        out.append(features_AF)
    return out


@dataclass(frozen=True)
class _Problem:
    """S labelled states, padded to A actions."""

    phi_SAD: Tensor
    log_p_SA: Tensor  # -inf where padded
    share_SA: Tensor  # 1/|E| of an expert's actions, else 0

    @classmethod
    def of(cls, phi: Sequence[np.ndarray], rows: Sequence[np.ndarray], labels: Sequence[Label]) -> _Problem:
        width, dim = max(p.size for p in rows), phi[0].shape[1]
        phi_SAD = torch.zeros(len(rows), width, dim, dtype=torch.float64)
        log_p_SA = torch.full((len(rows), width), -torch.inf, dtype=torch.float64)
        share_SA = torch.zeros(len(rows), width, dtype=torch.float64)
        for i, (phi_AD, p, label) in enumerate(zip(phi, rows, labels, strict=True)):
            good = np.array([action in label.good for action in label.state.actions], dtype=np.float64)
            phi_SAD[i, : p.size] = torch.from_numpy(phi_AD)
            log_p_SA[i, : p.size] = torch.from_numpy(np.log(np.maximum(p, SMALLEST)))
            share_SA[i, : p.size] = torch.from_numpy(good / good.sum())
        return cls(phi_SAD, log_p_SA, share_SA)

    @property
    def dim(self) -> int:
        return self.phi_SAD.shape[2]

    def of_states(self, chosen_S: Tensor) -> _Problem:
        return _Problem(self.phi_SAD[chosen_S], self.log_p_SA[chosen_S], self.share_SA[chosen_S])

    def log_likelihood(self, theta_D: Tensor) -> Tensor:
        """[S], what the first sum of (2) is of, without its sign."""
        log_w_SA = (self.log_p_SA + self.phi_SAD @ theta_D).log_softmax(-1)
        return (self.share_SA * log_w_SA.masked_fill(self.share_SA == 0, 0.0)).sum(-1)


def _strongest_that_is_as_good(likelihood_LS: np.ndarray) -> int:
    """The first row whose mean is at most one standard error below the best one's."""
    lost_LS = likelihood_LS[likelihood_LS.sum(-1).argmax()] - likelihood_LS
    is_as_good_L = lost_LS.sum(-1) <= lost_LS.std(-1) * np.sqrt(lost_LS.shape[1])
    return int(is_as_good_L.argmax())


def minimum(problem: _Problem, strength: float, start_D: Tensor) -> Tensor:
    """The theta of the least J, found by L-BFGS from `start_D` on."""
    if strength == inf:
        return torch.zeros_like(start_D)
    theta_D = start_D.clone().requires_grad_()
    steps = torch.optim.LBFGS(
        [theta_D], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        steps.zero_grad()
        j = -problem.log_likelihood(theta_D).sum() + strength / 2 * theta_D.square().sum()
        j.backward()
        return j

    steps.step(loss)
    return theta_D.detach()
