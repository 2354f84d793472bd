"""BC, behaviour cloning: pi(a|s) ~ [w(a|s) exp(lambda f(s,a))]^(1/alpha), f learned from what somebody did.

    L = -mean_B log pi(a|s)   over the admissible actions, with alpha = lambda = 1

From data (`data=FILE`) f is learned in the run. With a prior over the actions it is a product of experts: f learns what
w lacks. Such an f says nothing without its w, so that alpha sharpens both (`product`), and the greedy policy takes the
best of w exp(lambda f). Where data are few, f holds much that is chance, and lambda < 1 (`learned_weight`) trusts the
prior more. `successful` learns from episodes that succeeded alone (filtered BC). With prior=uniform it is cloning
alone.

From a file of weights f is as `scripts/clone.py` fitted it to the walkthroughs that the embedded model read: what this
corpus is worth without a language model and without learning by doing. Nothing is then learned in the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrl.data.offline import OfflineData
from llmrl.encoders.encoder import FeatureTable
from llmrl.envs.state import TextState
from llmrl.learners.offline import FromData, on_menus
from llmrl.learners.posterior import choice_probabilities, choose
from llmrl.learners.weights import read_weights
from llmrl.priors.candidates import Candidates, Proposal
from llmrl.schema import BCConfig


class BC(FromData):
    """Raises ValueError for weights that do not fit the run, and for data without the success that is asked for."""

    cfg: BCConfig
    acting = "policy"
    learned = ("policy",)

    def __init__(self, cfg: BCConfig, seed: int, table: FeatureTable) -> None:
        super().__init__(cfg, seed, table)
        if cfg.weights is not None:
            self.nets["policy"].load_state_dict(read_weights(cfg.weights, "policy", table.encoder, cfg.hidden))

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        values, alpha = self.values(states), self.temperature(greedy)
        if self.cfg.product:
            for i, c in enumerate(candidates):
                log_w_A = np.full(values[i].size, -np.inf)
                log_w_A[c.actions] = c.log_weights
                values[i] = self._sharpened(values[i], log_w_A, alpha)
        return choose(values, candidates, alpha, rng)

    def policy(self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool) -> list[np.ndarray]:
        values, alpha = self.values(states), self.temperature(greedy)
        if self.cfg.product:
            with np.errstate(divide="ignore"):
                pairs = zip(values, proposals, strict=True)
                values = [self._sharpened(f_A, np.log(p.weights), alpha) for f_A, p in pairs]
        return choice_probabilities(values, proposals, alpha)

    def _sharpened(self, f_A: np.ndarray, log_w_A: np.ndarray, alpha: float) -> np.ndarray:
        """v with w exp(v/alpha) ~ [w exp(lambda f)]^(1/alpha): lambda f + (1 - alpha) log w, float64 [actions].

        With alpha = 0, where the largest v is taken, that is lambda f + log w.
        """
        log_w_A = np.where(log_w_A > -np.inf, log_w_A, 0.0)
        return self.cfg.learned_weight * f_A.astype(np.float64) + (1 - alpha) * log_w_A

    def study(self, data: OfflineData) -> None:
        super().study(data)
        everything = np.ones(len(data), dtype=bool)
        known = data.whole if self.cfg.whole else everything
        self.rows = np.flatnonzero(known & (data.successful if self.cfg.successful else everything))
        if not self.rows.size:
            wanted = "is known to have succeeded" if self.cfg.successful else "ends among them (learner.whole=true)"
            raise ValueError(
                f"learner={self.cfg.name}: none of the {len(data):,} transitions is of an episode that {wanted}; "
                "draw more, or learn from all"
            )

    def batch(self) -> np.ndarray:
        return self.rows[self.batches.integers(len(self.rows), size=self.cfg.batch)]

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        state, action = self.data.state[rows], self.data.action[rows]
        (f_BA,) = self.of_menu("policy", state, on_menus(self.data, state))
        log_w_BA = torch.from_numpy(self.data.candidates.draw(state, self.draws)).float()
        log_pi_BA = torch.where(f_BA > -torch.inf, f_BA + log_w_BA, -torch.inf).log_softmax(-1)
        log_pi_B = log_pi_BA.gather(-1, torch.from_numpy(action).unsqueeze(-1)).squeeze(-1)
        assert log_pi_B.shape == (len(rows),)
        loss = -log_pi_B.mean()
        return loss, {"policy": loss}
