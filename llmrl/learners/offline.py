"""The contract of a learner that learns from data alone, and what such learners share: how they act, and batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.seeding import integer, stream
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.data.training_set import OfflineData
from llmrl.encoders.encoder import FeatureTable
from llmrl.learners.adamw import AdamW
from llmrl.learners.learner import refuse_divergence
from llmrl.learners.posterior import choice_probabilities, choose
from llmrl.learners.weights import network

ROWS_AT_ONCE = 4096


@runtime_checkable
class OfflineLearner(Protocol):
    """Besides what a `Learner` has."""

    def study(self, data: OfflineData) -> None:
        """Takes the data to learn from: once before the first step, and again when a run resumes."""
        ...

    def step(self) -> dict[str, float]:
        """One gradient step; its metrics."""
        ...


class FromData:
    """It acts by w exp(v/alpha), v the values of `acting`; each subclass says how `nets` are learned.

    `nets`: name -> network over rows of the table (or of states, where the subclass knows). The first gets its
    gradients from `loss`, as all do that are not in `targets`: copies that follow others softly.
    """

    greedy_is_deterministic = True
    acting = "q"  # the net whose values it acts by
    learned: Sequence[str] = ("q",)
    targets: Mapping[str, str] = {}  # copy -> what it follows

    def __init__(self, cfg: Any, seed: int, table: FeatureTable) -> None:
        self.cfg, self.table = cfg, table
        self.nets: dict[str, nn.Sequential] = {}
        for name in self.learned:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(integer(seed, "initialisation", name))
                self.nets[name] = network(table.encoder.dim, cfg.hidden)
        for copied, followed in self.targets.items():
            self.nets[copied] = network(table.encoder.dim, cfg.hidden).requires_grad_(False)
            self.nets[copied].load_state_dict(self.nets[followed].state_dict())
        self._parameters = [p for name in self.learned for p in self.nets[name].parameters()]
        self.optimiser = AdamW(self._parameters, cfg.lr, cfg.weight_decay)
        self.rng = stream(seed, "policy")
        self.batches = stream(seed, "replay")
        self.draws = stream(seed, "candidates")

    # ---- acting ------------------------------------------------------------------------------------------------------

    def act(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        return self.evaluate(states, candidates, self.rng, greedy=False)

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        return choose(self.values(states), candidates, self.temperature(greedy), rng)

    def policy(
        self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool
    ) -> list[np.ndarray] | None:
        return choice_probabilities(self.values(states), proposals, self.temperature(greedy))

    def temperature(self, greedy: bool) -> float:
        alpha_eval: float | None = getattr(self.cfg, "alpha_eval", None)
        return 0.0 if greedy else self.cfg.alpha if alpha_eval is None else alpha_eval

    @torch.no_grad()
    def values(self, states: Sequence[TextState]) -> list[np.ndarray]:
        """v of every admissible action: float32 [actions] per state."""
        ids = self.table.ids(states)  # first: what is new may enlarge the table
        first_rows = self.table.first_row[ids]
        sizes = [len(s.actions) for s in states]
        rows = torch.from_numpy(np.concatenate([np.arange(a, a + n) for a, n in zip(first_rows, sizes, strict=True)]))
        net = self.nets[self.acting]
        v = torch.cat([net(self.table.features.index_select(0, r)).squeeze(-1) for r in rows.split(ROWS_AT_ONCE)])
        refuse_divergence("a value", v, self.cfg.lr)
        return [v_A.numpy() for v_A in v.split(sizes)]

    def observe(self, transitions: Sequence[Transition]) -> None:
        """Ignores transitions: it does not learn by acting."""

    def update(self) -> dict[str, float]:
        return {}

    # ---- learning ----------------------------------------------------------------------------------------------------

    def study(self, data: OfflineData) -> None:
        self.data = data
        self.first_row_S = self.table.first_rows(data.states)
        self._place_A = np.arange(data.candidates.p_SA.shape[1])
        self._asked, self._number = np.zeros(self.table.size, dtype=bool), np.zeros(self.table.size, dtype=np.int64)

    def loss(self, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of the data's rows, and the metrics of it."""
        raise NotImplementedError

    def step(self) -> dict[str, float]:
        loss, told = self.loss(self.batch())
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, self.cfg.grad_clip)
        refuse_divergence("the loss or its gradient", torch.stack([loss.detach(), norm]), self.cfg.lr)
        self.optimiser.step()
        with torch.no_grad():  # theta_target <- theta_target + rate (theta - theta_target)
            for copied, followed in self.targets.items():
                mine: list[Tensor] = [*self.nets[copied].parameters()]
                torch._foreach_lerp_(mine, [*self.nets[followed].parameters()], self.cfg.target_rate)
        return {f"loss/{name}": value.item() for name, value in told.items()}

    def batch(self) -> np.ndarray:
        """int64 [B]: rows, drawn uniformly with replacement."""
        return self.batches.integers(len(self.data), size=self.cfg.batch)

    def of_menu(self, net: str | Sequence[str], states: np.ndarray, wanted_BA: np.ndarray) -> list[Tensor]:
        """Values [B, A] of the wanted actions by each net; -inf for the others. Equal rows are computed once."""
        rows_BA = self.first_row_S[states][:, None] + self._place_A
        all_of_them = wanted_BA.all()  # where every menu is as long as the widest, nothing is to be filled up
        distinct, where = self._distinct(rows_BA.ravel() if all_of_them else rows_BA[wanted_BA])
        features = self.table.features.index_select(0, torch.from_numpy(distinct))
        names, index = [net] if isinstance(net, str) else net, torch.from_numpy(where)
        values = [self.nets[name](features).squeeze(-1).index_select(0, index) for name in names]
        if all_of_them:
            return [v.view(wanted_BA.shape) for v in values]
        empty, there = torch.full(wanted_BA.shape, -torch.inf), torch.from_numpy(wanted_BA)
        return [empty.masked_scatter(there, v) for v in values]

    def _distinct(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`np.unique(rows, return_inverse=True)`, by marks on a list of all rows instead of by sorting."""
        self._asked[rows] = True
        distinct = np.flatnonzero(self._asked)
        self._asked[distinct] = False
        self._number[distinct] = np.arange(distinct.size)
        return distinct, self._number[rows]

    # ---- what is kept ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the network that it acts by, under the names of a network alone."""
        return self.nets[self.acting].state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        self.nets[self.acting].load_state_dict(tensors)

    def save(self) -> dict[str, Any]:
        return {
            "nets": {name: net.state_dict() for name, net in self.nets.items() if name != self.acting},
            "optimiser": self.optimiser.save(),
            "streams": {name: getattr(self, name).bit_generator.state for name in _STREAMS},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        for name, tensors in saved["nets"].items():
            self.nets[name].load_state_dict(tensors)
        self.optimiser.restore(saved["optimiser"])
        for name in _STREAMS:
            getattr(self, name).bit_generator.state = saved["streams"][name]

    def forget(self, envs: Collection[int]) -> None:
        """Nothing is remembered of any environment."""


_STREAMS = ("rng", "batches", "draws")


def on_menus(data: OfflineData, states: np.ndarray) -> np.ndarray:
    """bool [B, A]: what is on the menu of each state."""
    sizes = data.candidates.sizes[states]
    return np.arange(data.candidates.p_SA.shape[1]) < sizes[:, None]


def steps_of(learner: OfflineLearner, steps: int) -> Iterator[dict[str, float]]:
    for _ in range(steps):
        yield learner.step()
