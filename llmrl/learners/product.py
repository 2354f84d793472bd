"""A policy that is a product of experts: pi(a|s) ~ [w(a|s) exp(lambda f(s,a))]^(1/alpha), f learned from data.

It is fitted by the likelihood of what the data do, with alpha = lambda = 1. So f learns what w lacks, and nothing from
data that w made. Such an f says nothing without its w: alpha sharpens both, and the greedy policy takes the best of
w exp(lambda f). With prior=uniform it is a learned policy alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.learners.offline import FromData, on_menus
from llmrl.learners.posterior import choice_probabilities, choose


class ProductOfExperts(FromData):
    """w is of every action: `llmrl/config/checks.py` refuses draws of candidates."""

    acting = "policy"
    sharpens_both = True  # else f alone
    learned_weight = 1.0  # lambda

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        values, alpha = self.values(states), self.temperature(greedy)
        if self.sharpens_both:
            for i, c in enumerate(candidates):
                log_w_A = np.full(values[i].size, -np.inf)
                log_w_A[c.actions] = c.log_weights
                values[i] = self._sharpen(values[i], log_w_A, alpha)
        return choose(values, candidates, alpha, rng)

    def policy(self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool) -> list[np.ndarray]:
        values, alpha = self.values(states), self.temperature(greedy)
        if self.sharpens_both:
            with np.errstate(divide="ignore"):
                pairs = zip(values, proposals, strict=True)
                values = [self._sharpen(f_A, np.log(p.weights), alpha) for f_A, p in pairs]
        return choice_probabilities(values, proposals, alpha)

    def _sharpen(self, f_A: np.ndarray, log_w_A: np.ndarray, alpha: float) -> np.ndarray:
        """v with w exp(v/alpha) ~ [w exp(lambda f)]^(1/alpha): lambda f + (1 - alpha) log w, float64 [actions].

        With alpha = 0, where the largest v is taken, that is lambda f + log w. log w is taken up to a constant: of a
        uniform w nothing is left, not even a rounding.
        """
        log_w_A = np.where(log_w_A > -np.inf, log_w_A - log_w_A.max(), 0.0)
        return self.learned_weight * f_A.astype(np.float64) + (1 - alpha) * log_w_A

    def log_pi(self, rows: np.ndarray) -> Tensor:
        """log pi(a|s) [B] of what the data do in these rows, with alpha = lambda = 1."""
        state, action = self.data.state[rows], self.data.action[rows]
        (f_BA,) = self.of_menu("policy", state, on_menus(self.data, state))
        log_w_BA = torch.from_numpy(self.data.candidates.draw(state, self.draws)).float()
        log_pi_BA = torch.where(f_BA > -torch.inf, f_BA + log_w_BA, -torch.inf).log_softmax(-1)
        log_pi_B = log_pi_BA.gather(-1, torch.from_numpy(action).unsqueeze(-1)).squeeze(-1)
        assert log_pi_B.shape == (len(rows),)
        return log_pi_B
