"""DQN, DQN-Prior and everything between: one value-based family.

    behaviour   pi(a|s) = w(a|s) exp(Q(s,a)/alpha) / Z            over a support S(s)              (1)
    target      y = R_n + gamma^n B_{a' in S'(s')} Q_target(s',a')                                 (2)
    loss        L = huber(Q(s,a) - y)                                                              (3)

w and S are the candidates the learner is given. Uniform w over all admissible actions makes (1) a Boltzmann DQN; the
counts of k answers of a language model make it DQN-Prior (Yan et al., "Efficient RL with LLM Priors", arXiv 2410.07927:
sample k actions from the model, draw among them by softmax(Q/alpha)). alpha=0 is greedy in Q; alpha -> infinity, and
k=1, are the prior alone.

B, the backup, over S' and its own w:
    max        max_a' Q            with double_q: Q_target at the argmax of Q (van Hasselt et al., arXiv 1509.06461)
    soft       alpha log sum_a' w exp(Q/alpha)      the value of (1) under a KL penalty (Levine, arXiv 1805.00909)
    expected   sum_a' pi(a'|s') Q                   expected Sarsa under (1), pi from the online Q
    sampled    Q at one draw from pi(.|s')          Sarsa under (1)

Beside the family, for comparison:
    combine=product  pi takes the mode of w(a|s) exp(Q(s,a)/alpha)         as SayCan does (Ahn et al., arXiv 2204.01691)
    count_bonus c    r + c / sqrt(N(s,a)) is learned from, N the visits    MBIE-EB (Strehl & Littman 2008, eq. 6)
    optimism c       Q + c / (N(s,a) + 1)^2 in (1) and in (2)              OPIQ (Rashid et al., arXiv 2002.12174)
    priority         replay by the size of the last error                  see llmrl/data/replay.py
    prefill n        the first n decisions are drawn from w alone
    weights          Q starts from what was learned before the run

N is counted up to now, also where an old transition is replayed. A bias of the network's output would be optimistic
until the first gradient steps, for all actions alike; counts keep what was not tried attractive. Evaluations are of Q
alone.

Q(s,a) is a small network on a frozen encoding of the pair's text; encodings are kept, so learning never encodes twice.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrl.core.candidates import Candidates, Proposal, draw
from llmrl.core.seeding import integer, stream
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.data.replay import Batch, NStepWindow, Replay
from llmrl.encoders.encoder import FeatureTable
from llmrl.learners import backups
from llmrl.learners.adamw import AdamW
from llmrl.learners.learner import refuse_divergence
from llmrl.learners.posterior import choice_probabilities
from llmrl.learners.visits import Visits
from llmrl.learners.weights import network, read_weights
from llmrl.schema.learners import DQNConfig


class DQN:
    """Shapes: B batch, C candidates of a state (padded), D features."""

    greedy_is_deterministic = True

    def __init__(self, cfg: DQNConfig, seed: int, table: FeatureTable) -> None:
        self.cfg, self.table = cfg, table
        self.q = _make_network(cfg, table, integer(seed, "initialisation"))
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.optimiser = AdamW(self.q.parameters(), cfg.lr, cfg.weight_decay)
        self.window = NStepWindow(cfg.n_step, cfg.gamma, cfg.discount_by == "primitive_steps")
        taken = cfg.n_step if cfg.count_bonus else 0
        self.replay = Replay(cfg.buffer, stream(seed, "replay"), cfg.priority, cfg.importance, taken)
        self.visits = Visits()
        self.rng = stream(seed, "policy")
        self.backup = stream(seed, "backup")
        self.decisions = self.episodes = self.steps = self.rounds = 0

    # ---- behaviour, equation (1) -----------------------------------------------------------------------------------

    def act(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        chosen = self._draw(states, candidates, self.cfg.alpha, self.rng, optimistic=True)
        prefills = self.decisions + np.arange(len(states)) < self.cfg.prefill
        explores = prefills | (self.rng.random(len(states)) < self._epsilon())
        from_prior = [draw(c, u) for c, u in zip(candidates, self.rng.random(len(states)), strict=True)]
        return np.where(explores, from_prior, chosen)

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        return self._draw(states, candidates, self._temperature(greedy), rng)

    def policy(
        self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool
    ) -> list[np.ndarray] | None:
        q = self._q_of_all(states)
        alpha = self._temperature(greedy)
        if self.cfg.combine == "product":  # over k draws it has no formula
            return _modes_of_product(proposals, q, alpha) if all(p.k is None for p in proposals) else None
        return choice_probabilities(q, proposals, alpha)

    def posterior(self, state: TextState, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(Q [C], pi [C]) at one state, as `evaluate` draws from it."""
        q = self._q_of(self.table.ids([state]), [candidates])[0, : candidates.actions.size]
        logits = self._logits(q, torch.from_numpy(candidates.log_weights).float(), self._temperature(greedy=False))
        return q.numpy(), logits.softmax(-1).numpy()

    def _draw(
        self,
        states: Sequence[TextState],
        candidates: Sequence[Candidates],
        alpha: float,
        rng: np.random.Generator,
        optimistic: bool = False,
    ) -> np.ndarray:
        q_BC = self._q_of(self.table.ids(states), candidates, optimistic)
        log_w_BC = torch.from_numpy(_pad([c.log_weights for c in candidates], -np.inf)).float()
        picked = backups.draw_actions(self._logits(q_BC, log_w_BC, alpha), rng)
        return np.array([c.actions[i] for c, i in zip(candidates, picked, strict=True)])

    def _logits(self, q_BC: Tensor, log_w_BC: Tensor, alpha: float) -> Tensor:
        """log pi up to a constant."""
        return (backups.product if self.cfg.combine == "product" else backups.posterior)(q_BC, log_w_BC, alpha)

    @torch.no_grad()
    def _q_of(self, ids: np.ndarray, candidates: Sequence[Candidates], optimistic: bool = False) -> Tensor:
        """Q [B, C]; -inf where a state has fewer candidates."""
        rows = _pad([c.actions + self.table.first_row[i] for i, c in zip(ids, candidates, strict=True)], -1)
        rows = rows.astype(np.int64)
        q_BC = (self._optimistic if optimistic else self._values)(rows, self.q)[0]
        refuse_divergence("Q", q_BC[torch.from_numpy(rows >= 0)], self.cfg.lr)
        return q_BC

    @torch.no_grad()
    def _q_of_all(self, states: Sequence[TextState]) -> list[np.ndarray]:
        """Q [actions] of each state, float64; a few thousand rows at a time, so that memory stays small."""
        ids = self.table.ids(states)
        first_rows = self.table.first_row[ids]
        sizes = [len(s.actions) for s in states]
        rows = torch.from_numpy(np.concatenate([np.arange(a, a + n) for a, n in zip(first_rows, sizes, strict=True)]))
        q = torch.cat([self.q(self.table.features.index_select(0, some)).squeeze(-1) for some in rows.split(4096)])
        refuse_divergence("Q", q, self.cfg.lr)
        return np.split(q.double().numpy(), np.cumsum(sizes)[:-1])

    def _values(self, rows: np.ndarray | Tensor, *networks: nn.Module) -> list[Tensor]:
        """Q [B, C] of feature rows, by each network; a negative row is padding, and -inf."""
        rows_BC = torch.as_tensor(rows)
        there = rows_BC >= 0
        features = self.table.features.index_select(0, rows_BC[there])
        empty = torch.full(rows_BC.shape, -torch.inf)
        return [empty.masked_scatter(there, net(features)) for net in networks]

    def _optimistic(self, rows: np.ndarray | Tensor, *networks: nn.Module) -> list[Tensor]:
        """Q + optimism / (N + 1)^2 [B, C], by each network."""
        values = self._values(rows, *networks)
        if self.cfg.optimism == 0:
            return values
        more_BC = torch.from_numpy(self.cfg.optimism / (self.visits.of(np.asarray(rows)) + 1.0) ** 2).float()
        return [q_BC + more_BC for q_BC in values]

    def _temperature(self, greedy: bool) -> float:
        """The temperature of an evaluation."""
        if greedy and self.cfg.combine == "posterior":  # a product is greedy as it is, and still needs its alpha
            return 0.0
        return self.cfg.alpha if self.cfg.alpha_eval is None else self.cfg.alpha_eval

    def _epsilon(self) -> float:
        if self.cfg.epsilon_final is None or self.cfg.epsilon_decay == 0:
            return self.cfg.epsilon
        done = min(1.0, self.decisions / self.cfg.epsilon_decay)
        return self.cfg.epsilon + done * (self.cfg.epsilon_final - self.cfg.epsilon)

    # ---- learning, equations (2) and (3) -----------------------------------------------------------------------------

    def observe(self, transitions: Sequence[Transition]) -> None:
        self.table.ids([s for t in transitions for s in (t.state, t.next_state)])  # what is new is encoded in one batch
        for t in transitions:
            self.decisions += 1
            self.episodes += t.terminated or t.truncated
            if self.cfg.count_bonus or self.cfg.optimism:
                self.visits.count(self._row(t))
            for n in self.window.add(t):
                taken = ([self._row(step) for step in n.steps], n.shares) if self.cfg.count_bonus else ((), ())
                candidates = n.last.next_candidates
                if candidates is None:  # terminated: the discount is 0, any one row will do
                    rows, log_weights = np.zeros(1, dtype=np.int64), np.zeros(1)
                else:
                    rows = self.table.first_row_of(n.last.next_state) + candidates.actions
                    log_weights = candidates.log_weights
                self.replay.add(self._row(n.first), n.ret, n.discount, rows, log_weights, *taken)

    def _row(self, t: Transition) -> int:
        """The feature row of what was done: one for each rendered (s, a)."""
        return self.table.first_row_of(t.state) + t.action

    def update(self) -> dict[str, float]:
        done = self.decisions if self.cfg.update_unit == "decisions" else self.episodes
        due = max(0, done - self.cfg.learning_starts) // self.cfg.update_every
        losses: list[float] = []
        while self.rounds < due:
            self.rounds += 1
            if self.replay.size >= self.cfg.batch:
                losses += [self._gradient_step() for _ in range(self.cfg.updates)]
        return {"loss/td": float(np.mean(losses))} if losses else {}

    def _gradient_step(self) -> float:
        b = self.replay.sample(self.cfg.batch)
        y_B = torch.from_numpy(b.returns + self._bonuses(b)) + torch.from_numpy(b.discounts) * self._backup(
            torch.from_numpy(b.next_rows), torch.from_numpy(b.next_log_weights)
        )
        q_B = self.q(self.table.features.index_select(0, torch.from_numpy(b.rows))).squeeze(-1)
        assert q_B.shape == y_B.shape == (self.cfg.batch,)
        error = F.smooth_l1_loss if self.cfg.loss == "huber" else F.mse_loss
        losses_B = error(q_B, y_B, reduction="none")
        if b.weights is not None:
            losses_B = losses_B * torch.from_numpy(b.weights)
        loss = losses_B.mean() if self.cfg.reduction == "mean" else losses_B.sum()
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.q.parameters(), self.cfg.grad_clip)
        refuse_divergence("the loss or its gradient", torch.stack([loss.detach(), norm]), self.cfg.lr)
        self.optimiser.step()
        self.replay.set_errors(b.places, (y_B - q_B).detach().numpy())
        self.steps += 1
        if self.steps % self.cfg.target_every == 0:
            with torch.no_grad():  # theta_target <- theta_target + rate (theta - theta_target)
                torch._foreach_lerp_(list(self.target.parameters()), list(self.q.parameters()), self.cfg.target_rate)
        return loss.item()

    def _bonuses(self, b: Batch) -> np.ndarray:
        """The count bonuses that are added to the returns, by the visits up to now: float32 [B]."""
        n_BN = np.maximum(self.visits.of(b.taken_rows), 1)
        bonuses_B: np.ndarray = self.cfg.count_bonus * (b.taken_shares / np.sqrt(n_BN)).sum(-1)
        return bonuses_B.astype(np.float32)

    @torch.no_grad()
    def _backup(self, rows_BC: Tensor, log_w_BC: Tensor) -> Tensor:
        """B_{a' in S'} Q_target(s',a') [B]."""
        kind, alpha = self.cfg.backup, self.cfg.alpha
        needs_online = kind in ("expected", "sampled") or (kind == "max" and self.cfg.double_q)
        target_BC, *online = self._optimistic(rows_BC, self.target, *([self.q] if needs_online else []))
        if kind == "max":
            return backups.hard(target_BC, log_w_BC > -torch.inf, *online)
        if kind == "soft":
            return backups.soft(target_BC, log_w_BC, alpha)
        logits_BC = self._logits(online[0], log_w_BC, alpha)
        if kind == "expected":
            return backups.expected_backup(target_BC, logits_BC)
        assert kind == "sampled"
        return backups.at(target_BC, torch.from_numpy(backups.draw_actions(logits_BC, self.backup)))

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        return self.q.state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        self.q.load_state_dict(tensors)

    def save(self) -> dict[str, Any]:
        return {
            "target": self.target.state_dict(),
            "optimiser": self.optimiser.save(),
            "window": self.window.save(),
            "replay": self.replay.save(),
            "visits": self.visits.save(),
            "streams": {name: getattr(self, name).bit_generator.state for name in _STREAMS},
            "counters": {name: getattr(self, name) for name in _COUNTERS},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.target.load_state_dict(saved["target"])
        self.optimiser.restore(saved["optimiser"])
        self.window.restore(saved["window"])
        self.replay.restore(saved["replay"])
        self.visits.restore(saved["visits"])
        for name in _STREAMS:
            getattr(self, name).bit_generator.state = saved["streams"][name]
        for name in _COUNTERS:
            setattr(self, name, saved["counters"][name])

    def forget(self, envs: Collection[int]) -> None:
        self.window.forget(envs)


_STREAMS = ("rng", "backup")
_COUNTERS = ("decisions", "episodes", "steps", "rounds")


def _make_network(cfg: DQNConfig, table: FeatureTable, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        q = network(table.encoder.dim, cfg.hidden)
    if cfg.weights is not None:
        q.load_state_dict(read_weights(cfg.weights, "q", table.encoder, cfg.hidden))
    return q


def _modes_of_product(proposals: Sequence[Proposal], q: Sequence[np.ndarray], alpha: float) -> list[np.ndarray]:
    with np.errstate(divide="ignore"):
        log_w_BC = torch.from_numpy(_pad([np.log(p.weights) for p in proposals], -np.inf)).float()
    pi_BC = backups.product(torch.from_numpy(_pad(q, -np.inf)).float(), log_w_BC, alpha).double().softmax(-1).numpy()
    return [pi_C[: p.weights.size] for pi_C, p in zip(pi_BC, proposals, strict=True)]


def _pad(rows: Sequence[np.ndarray], fill: float) -> np.ndarray:
    width = max(row.size for row in rows)
    out = np.full((len(rows), width), fill, dtype=np.float64)
    for i, row in enumerate(rows):
        out[i, : row.size] = row
    return out
