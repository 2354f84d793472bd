"""The training set of an offline learner: drawn rows as integers and small arrays, and the candidates of their states.

Shapes: N rows, S distinct states, A actions of the widest menu, B a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrl.core.candidates import Proposal
from llmrl.core.seeding import draw_from
from llmrl.core.state import TextState


@dataclass(frozen=True)
class OfflineData:
    """`state` and `next_state` index `states`; the latter is -1 where the episode terminated.

    A state is there once, or once for each visit, where each visit has candidates of its own.
    """

    states: list[TextState]
    candidates: Supports  # of every state
    state: np.ndarray  # int64 [N]
    action: np.ndarray  # int64 [N], its place on the menu
    reward: np.ndarray  # float64 [N]
    duration: np.ndarray  # int64 [N], primitive steps
    next_state: np.ndarray  # int64 [N]
    last: np.ndarray  # bool [N]: no later row is of the same episode
    successful: np.ndarray  # bool [N]: the row's episode is known to have succeeded
    whole: np.ndarray  # bool [N]: the row's episode is here to its end; one that the draw cuts is not

    def __len__(self) -> int:
        return len(self.state)

    @property
    def coverage(self) -> float:
        """How likely a row's own action is among the candidates of its state; the mean over rows."""
        p_N = self.candidates.p_SA[self.state, self.action]
        k = self.candidates.k_S[self.state]
        return float(np.where(k > 0, 1 - (1 - p_N) ** k, p_N > 0).mean())

    def find_taken(self) -> np.ndarray:
        """bool [S, A]: the actions that some row takes in a state."""
        first: dict[TextState, int] = {}
        same_S = np.array([first.setdefault(state, i) for i, state in enumerate(self.states)])
        taken_SA = np.zeros(self.candidates.p_SA.shape, dtype=bool)
        taken_SA[same_S[self.state], self.action] = True
        return taken_SA[same_S]

    def n_step(self, n: int, gamma: float, by_primitive_steps: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(R, discount, next state) [N]: y = R + discount * B Q(next state, .), over n rows, or fewer to the end.

        The discount is 0 where the episode terminated; the next state is then -1.
        """
        discount_N = gamma ** (self.duration if by_primitive_steps else np.ones(len(self)))
        ret, through, at = np.zeros(len(self)), np.ones(len(self)), np.arange(len(self))
        goes_on = np.ones(len(self), dtype=bool)
        last = at.copy()
        for _ in range(n):
            ret[goes_on] += through[goes_on] * self.reward[at[goes_on]]
            through[goes_on] *= discount_N[at[goes_on]]
            last[goes_on] = at[goes_on]
            goes_on &= ~self.last[at]
            at = np.minimum(at + 1, len(self) - 1)
        after = self.next_state[last]
        return ret, np.where(after < 0, 0.0, through), after


class Supports:
    """The candidates of S states: drawn afresh for each batch, or the same every time.

    p_SA: what is drawn from, 0 where the menu has no such action; k_S: how many draws, 0 for all of positive weight.
    """

    def __init__(self, proposals: Sequence[Proposal]) -> None:
        sizes = np.array([proposal.weights.size for proposal in proposals])
        self.p_SA = np.zeros((len(proposals), sizes.max()))
        for p_A, proposal in zip(self.p_SA, proposals, strict=True):
            p_A[: proposal.weights.size] = proposal.weights
        self.sizes = sizes
        self.k_S = np.array([proposal.k or 0 for proposal in proposals])
        self.k = int(self.k_S.max())
        assert (self.k_S == self.k).all()  # one setting for all
        self._cumulative_SA = self.p_SA.cumsum(-1)
        self._possible_SA = self.p_SA > 0
        with np.errstate(divide="ignore"):
            self._log_p_SA = np.log(self.p_SA)
            self._log_share = np.log(np.arange(self.k + 1) / max(self.k, 1))  # of how many of the draws

    def draw(self, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float64 [B, A]: log w of each action of the menu; -inf for what is no candidate."""
        if not self.k:
            return self._log_p_SA[states]
        counts_BA = np.bincount(self._places(states, rng), minlength=len(states) * self.p_SA.shape[1])
        return self._log_share[counts_BA.reshape(-1, self.p_SA.shape[1])]

    def among(self, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """bool [B, A]: the candidates alone; `draw(states, rng) > -inf`, for less."""
        if not self.k:
            return self._possible_SA[states]
        there = np.zeros(len(states) * self.p_SA.shape[1], dtype=bool)
        there[self._places(states, rng)] = True
        return there.reshape(-1, self.p_SA.shape[1])

    def _places(self, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int64 [B K]: what is drawn, in a flat [B, A]."""
        cumulative_BA = self._cumulative_SA[states]
        drawn_BK = draw_from(cumulative_BA[:, None, :], rng.random((len(states), self.k)))
        return (np.arange(0, cumulative_BA.size, cumulative_BA.shape[1])[:, None] + drawn_BK).ravel()


def join(log_w_BA: np.ndarray, also_BA: np.ndarray) -> np.ndarray:
    """More candidates: those that are new weigh as much as the lightest there was, and all are normalised anew.

    Where nothing is new, weights stay what they are, to the last bit.
    """
    there = log_w_BA > -np.inf
    new_BA = also_BA & ~there
    lightest = np.where(there, log_w_BA, np.inf).min(-1, keepdims=True)
    more_BA = np.where(new_BA, lightest, log_w_BA)
    more_BA = more_BA - np.log(np.exp(more_BA).sum(-1, keepdims=True))
    return np.where(new_BA.any(-1, keepdims=True), more_BA, log_w_BA)
