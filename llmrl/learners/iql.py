"""IQL, implicit Q-learning: no action that the data do not take is ever valued while it learns.

    V       E[ |tau - 1(u < 0)| u^2 ],  u = Q_target(s,a) - V(s)            an upper expectile of Q over the data   (1)
    Q       E[ (R_n + gamma^n V(s_{t+n}) - Q(s,a))^2 ]                                                               (2)
    policy  E[ -min(exp(A/temperature), 100) log pi(a|s) ],  A = Q_target(s,a) - V(s)    cloning, by advantage       (3)
    pi(a|s) ~ [w(a|s) exp(f(s,a))]^(1/alpha) over the admissible actions; in (3), with alpha = 1

The policy is a product of experts (llmrl/learners/product.py), trained and acted as one: where all advantages are equal
it clones the data, whatever w is. With prior=uniform it is the paper's.

(Kostrikov et al., "Offline Reinforcement Learning with Implicit Q-Learning", arXiv 2110.06169. There A is of the
smaller of two Qs; here there is one, as in the other learners.) V reads the features of the state with an empty action.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.data.training_set import OfflineData
from llmrl.learners.product import ProductOfExperts
from llmrl.schema.learners import IQLConfig

LARGEST_WEIGHT = 100.0  # of one row in the cloning, as in the paper


class IQL(ProductOfExperts):
    """Shapes: B batch, A actions of the widest menu."""

    cfg: IQLConfig
    learned = ("q", "v", "policy")
    targets = {"target": "q"}  # noqa: RUF012

    def study(self, data: OfflineData) -> None:
        super().study(data)
        cfg = self.cfg
        returns, discounts, after = data.n_step(cfg.n_step, cfg.gamma, cfg.discount_by == "primitive_steps")
        self.returns, self.discounts = returns.astype(np.float32), discounts.astype(np.float32)
        self.after = np.maximum(after, 0)  # where the episode terminated the discount is 0: any state will do
        self.row_S = self.table.first_rows([replace(s, actions=("",)) for s in data.states])

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        state, action = self.data.state[rows], self.data.action[rows]
        features = self.table.features
        own = features.index_select(0, torch.from_numpy(self.first_row_S[state] + action))
        alone = features.index_select(0, torch.from_numpy(self.row_S[state]))
        after = features.index_select(0, torch.from_numpy(self.row_S[self.after[rows]]))
        v_B, q_B = self.nets["v"](alone).squeeze(-1), self.nets["q"](own).squeeze(-1)
        with torch.no_grad():
            target_B = self.nets["target"](own).squeeze(-1)
            next_B = self.nets["v"](after).squeeze(-1)
            y_B = torch.from_numpy(self.returns[rows]) + torch.from_numpy(self.discounts[rows]) * next_B
            weight_B = ((target_B - v_B) / self.cfg.temperature).exp().clamp(max=LARGEST_WEIGHT)
        assert v_B.shape == q_B.shape == y_B.shape == (len(rows),)
        u_B = target_B - v_B
        value = (torch.where(u_B < 0, 1 - self.cfg.expectile, self.cfg.expectile) * u_B**2).mean()
        td = F.mse_loss(q_B, y_B)
        cloning = -(weight_B * self.log_pi(rows)).mean()
        return value + td + cloning, {"value": value, "td": td, "policy": cloning}
