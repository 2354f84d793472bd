"""BC, behaviour cloning: pi(a|s) ~ exp(f(s,a)/alpha), f learned from a corpus before the run. It never learns here.

f is the network of `llmrl.learners.weights` on the run's own features; `scripts/clone.py` fits it, by cross-entropy
over the admissible actions, to the walkthroughs that the embedded model read: what this corpus is worth without a
language model and without learning by doing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrl.data.transitions import Transition
from llmrl.encoders.encoder import FeatureTable
from llmrl.envs.state import TextState
from llmrl.learners.posterior import choice_probabilities, choose
from llmrl.learners.weights import network, read_weights
from llmrl.priors.candidates import Candidates, Proposal
from llmrl.run.seeding import stream
from llmrl.schema import BCConfig

ROWS_AT_ONCE = 4096


class BC:
    """Raises ValueError for a file that does not fit the run."""

    greedy_is_deterministic = True

    def __init__(self, cfg: BCConfig, seed: int, table: FeatureTable) -> None:
        self.cfg, self.table = cfg, table
        self.net = network(table.encoder.dim, cfg.hidden).requires_grad_(False)
        self.net.load_state_dict(read_weights(cfg.weights, "policy", table.encoder, cfg.hidden))
        self.rng = stream(seed, "policy")

    def act(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        return self.evaluate(states, candidates, self.rng, greedy=False)

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        return choose(self._values(states), candidates, 0.0 if greedy else self.cfg.alpha, rng)

    def policy(self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool) -> list[np.ndarray]:
        return choice_probabilities(self._values(states), proposals, 0.0 if greedy else self.cfg.alpha)

    def observe(self, transitions: Sequence[Transition]) -> None:
        """Nothing is remembered."""

    def update(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return self.net.state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        self.net.load_state_dict(tensors)

    def save(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = saved["rng"]

    def forget(self, envs: Collection[int]) -> None:
        """Nothing is remembered."""

    def _values(self, states: Sequence[TextState]) -> list[np.ndarray]:
        """f of every admissible action: float32 [actions] per state."""
        ids = self.table.ids(states)  # first: what is new may enlarge the table
        first_rows = self.table.first_row[ids]
        sizes = [len(s.actions) for s in states]
        rows = torch.from_numpy(np.concatenate([np.arange(a, a + n) for a, n in zip(first_rows, sizes, strict=True)]))
        f = torch.cat([self.net(self.table.features[some]).squeeze(-1) for some in rows.split(ROWS_AT_ONCE)])
        return [f_A.numpy() for f_A in f.split(sizes)]
