"""CQL and CQL-Prior: conservative Q-learning on a data set, over all actions or over those a prior proposes.

    L = TD(Q(s,a) - y) + c mean_B[ log sum_{a' in C(s)} exp Q(s,a') - Q(s,a) ]                                   (1)
    y = R_n + gamma^n B_{a' in C(s')} Q_target(s',a')                                                            (2)
    behaviour  pi(a|s) = w(a|s) exp(Q(s,a)/alpha) / Z     over the candidates of an evaluation                   (3)

The second term of (1) pushes Q down where there are no data, and up where there are (Kumar et al., "Conservative
Q-Learning", arXiv 2006.04779, equation 4, CQL(H)). C(s) are all admissible actions with prior=uniform: CQL. With k
draws from a language model's distribution it is CQL-Prior (Yan et al., arXiv 2410.07927): the maximum in y and the sum
in (1) go over what the model proposes.

data_action   a row's own action belongs to C(s) in (1). Without it, as in the released code, nothing bounds (1) from
              below where the model does not propose that action.
join          so does every action that the data take in s, in (1) and in (2): whatever can be learned is considered.
regulariser   prior: log sum_{a' in C(s)} w(a') exp Q(s,a'): what the prior believes in is pushed down most, so that
              actions it rules out keep their Q (the entropy in CQL(H) becomes -KL(. || w)).
backup        max; soft, alpha log sum w exp(Q/alpha); expected, under (3).
TD            mean or sum over the batch of the Huber loss or of half the square.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.data.training_set import OfflineData, join
from llmrl.learners import backups
from llmrl.learners.offline import FromData
from llmrl.schema.learners import CQLConfig


class CQL(FromData):
    """Shapes: B batch, A actions of the widest menu."""

    cfg: CQLConfig
    learned = ("q",)
    targets = {"target": "q"}  # noqa: RUF012

    def study(self, data: OfflineData) -> None:
        super().study(data)
        cfg = self.cfg
        returns, discounts, after = data.n_step(cfg.n_step, cfg.gamma, cfg.discount_by == "primitive_steps")
        self.returns, self.discounts = returns.astype(np.float32), discounts.astype(np.float32)
        self.after = np.maximum(after, 0)  # where the episode terminated the discount is 0: any state will do
        self.taken_SA = data.find_taken()

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        state, action = self.data.state[rows], self.data.action[rows]
        y_B = torch.from_numpy(self.returns[rows]) + torch.from_numpy(self.discounts[rows]) * self._backup(rows)
        own_BA = np.zeros((len(rows), self.taken_SA.shape[1]), dtype=bool)
        own_BA[np.arange(len(rows)), action] = True
        considered_BA, log_w_BA = self._candidates(state, self.cfg.regulariser == "prior", own_BA)
        (q_BA,) = self.of_menu("q", state, considered_BA | own_BA)
        q_B = q_BA.gather(-1, torch.from_numpy(action).unsqueeze(-1)).squeeze(-1)
        assert q_B.shape == y_B.shape == (len(rows),)
        scores_BA = q_BA
        if not self.cfg.data_action:
            scores_BA = q_BA.masked_fill(torch.from_numpy(~considered_BA), -torch.inf)
        if log_w_BA is not None:
            scores_BA = scores_BA + torch.from_numpy(log_w_BA).float()
        gap = (scores_BA.logsumexp(-1) - q_B).mean()
        error = F.smooth_l1_loss if self.cfg.loss == "huber" else _half_square
        losses_B = error(q_B, y_B, reduction="none")
        td = losses_B.mean() if self.cfg.reduction == "mean" else losses_B.sum()
        return td + self.cfg.c * gap, {"td": td, "conservative": gap}

    def _candidates(
        self, states: np.ndarray, weighted: bool, own_BA: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Which ones, bool [B, A], and where it is asked for log w [B, A], -inf for the others."""
        also = [self.taken_SA[states]] if self.cfg.join else []
        if own_BA is not None and self.cfg.data_action:
            also.append(own_BA)
        if not weighted:
            among_BA = self.data.candidates.among(states, self.draws)
            for also_BA in also:
                among_BA = among_BA | also_BA
            return among_BA, None
        log_w_BA = self.data.candidates.draw(states, self.draws)
        for also_BA in also:
            log_w_BA = join(log_w_BA, also_BA)
        return log_w_BA > -np.inf, log_w_BA

    @torch.no_grad()
    def _backup(self, rows: np.ndarray) -> Tensor:
        """B_{a' in C(s')} Q_target(s',a') [B]."""
        cfg, after = self.cfg, self.after[rows]
        wanted_BA, log_w = self._candidates(after, cfg.backup != "max")
        needs_online = cfg.backup == "expected" or (cfg.backup == "max" and cfg.double_q)
        target_BA, *online = self.of_menu(("target", "q") if needs_online else "target", after, wanted_BA)
        if log_w is None:
            return backups.hard(target_BA, torch.from_numpy(wanted_BA), *online)
        log_w_BA = torch.from_numpy(log_w).float()
        if cfg.backup == "soft":
            return backups.soft(target_BA, log_w_BA, cfg.alpha)
        return backups.expected_backup(target_BA, backups.posterior(online[0], log_w_BA, cfg.alpha))


def _half_square(q_B: Tensor, y_B: Tensor, reduction: str) -> Tensor:
    return 0.5 * F.mse_loss(q_B, y_B, reduction=reduction)
