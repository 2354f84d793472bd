"""From values over padded candidates to choices and targets: the posterior, and B, the backup.

    posterior  w exp(Q/alpha)                  alpha=0: the best of Q, ties by w
    product    the mode of w exp(Q/alpha)      ties by w

    hard       max_a Q_target                  double Q: Q_target at the argmax of Q
    soft       alpha log sum_a w exp(Q_target/alpha)
    expected   sum_a pi Q_target
    at         Q_target at one action, such as a draw from pi

Shapes: B batch, C candidates. log w = -inf says that an action cannot be chosen: the row is padded there, or w = 0. No
Q makes any rule choose or value such an action.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llmrl.core.seeding import draw_from


def posterior(q_BC: Tensor, log_w_BC: Tensor, alpha: float) -> Tensor:
    """Its logarithm up to a constant."""
    if alpha == 0:
        return _best(q_BC, log_w_BC)
    return log_w_BC + torch.where(log_w_BC == -torch.inf, 0.0, q_BC / alpha)


def product(q_BC: Tensor, log_w_BC: Tensor, alpha: float) -> Tensor:
    """The logarithm of what shares among equals, up to a constant."""
    return _best(log_w_BC + q_BC / alpha, log_w_BC)


def hard(target_BC: Tensor, allowed_BC: Tensor, q_BC: Tensor | None = None) -> Tensor:
    """The limit of `soft` as alpha goes to 0; with `q_BC`, double Q. `allowed_BC`: log w > -inf."""
    if q_BC is None:
        return target_BC.masked_fill(~allowed_BC, -torch.inf).amax(-1)
    return at(target_BC, q_BC.masked_fill(~allowed_BC, -torch.inf).argmax(-1))


def soft(target_BC: Tensor, log_w_BC: Tensor, alpha: float) -> Tensor:
    if alpha == 0:
        return hard(target_BC, log_w_BC > -torch.inf)
    return alpha * posterior(target_BC, log_w_BC, alpha).logsumexp(-1)


def expected_backup(target_BC: Tensor, logits_BC: Tensor) -> Tensor:
    """`logits_BC`: log pi up to a constant."""
    return (logits_BC.softmax(-1) * target_BC.masked_fill(logits_BC == -torch.inf, 0.0)).sum(-1)


def at(target_BC: Tensor, places_B: Tensor) -> Tensor:
    return target_BC.gather(-1, places_B.unsqueeze(-1)).squeeze(-1)


def draw_actions(logits_BC: Tensor, rng: np.random.Generator) -> np.ndarray:
    """int64 [B]: one draw a row, by inverting the cumulative distribution."""
    p = logits_BC.double().softmax(-1).numpy()
    return draw_from(p.cumsum(-1), rng.random(len(p)))


def _best(score_BC: Tensor, log_w_BC: Tensor) -> Tensor:
    best = score_BC.masked_fill(log_w_BC == -torch.inf, -torch.inf)
    return torch.where(best == best.amax(-1, keepdim=True), log_w_BC, -torch.inf)
