"""BC, behaviour cloning: pi(a|s) ~ [w(a|s) exp(lambda f(s,a))]^(1/alpha), f learned from what somebody did.

    L = -mean_B log pi(a|s)   over the admissible actions, with alpha = lambda = 1

From data (`data=FILE`) f is learned in the run. With a prior over the actions it is a product of experts
(llmrl/learners/product.py; `product`). Where data are few, f holds much that is chance, and lambda < 1
(`learned_weight`) trusts the prior more. `successful` learns from episodes that succeeded alone (filtered BC). With
prior=uniform it is cloning alone.

From a file of weights f is as `scripts/clone.py` fitted it to the walkthroughs that the embedded model read: what this
corpus is worth without a language model and without learning by doing. Nothing is then learned in the run.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from llmrl.data.training_set import OfflineData
from llmrl.encoders.encoder import FeatureTable
from llmrl.learners.product import ProductOfExperts
from llmrl.learners.weights import read_weights
from llmrl.schema.learners import BCConfig


class BC(ProductOfExperts):
    """Raises ValueError for weights that do not fit the run, and for data without the success that is asked for."""

    cfg: BCConfig
    learned = ("policy",)

    def __init__(self, cfg: BCConfig, seed: int, table: FeatureTable) -> None:
        super().__init__(cfg, seed, table)
        self.sharpens_both, self.learned_weight = cfg.product, cfg.learned_weight
        if cfg.weights is not None:
            self.nets["policy"].load_state_dict(read_weights(cfg.weights, "policy", table.encoder, cfg.hidden))

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
        loss = -self.log_pi(rows).mean()
        return loss, {"policy": loss}
