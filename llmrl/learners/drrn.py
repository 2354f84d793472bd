"""DRRN, the deep reinforcement relevance network: Q from text that the learner reads itself, with no prior anywhere.

    h_s = GRU_s(task), GRU_s(observation), GRU_a(last action), GRU_a(the one before), ...      side by side
    h_a = GRU_a(action)
    Q(s,a) = v . relu(W [h_s; h_a])
    behaviour   pi(a|s) ~ exp(Q(s,a)/alpha)                        over all admissible actions
    target      y = R_n + gamma^n max_a' Q_target(s',a'),          L = huber(Q(s,a) - y)

Everything is trained, the words' embeddings too. A word is hashed into one of `ROWS` embeddings: no vocabulary is kept,
and two words of a small world seldom share one. A share of each batch comes from transitions whose return R_n is
positive, as long as there are any: rewards are rare.

Source: He et al. 2016, "Deep Reinforcement Learning with a Natural Language Action Space" (arXiv 1511.04636); encoders
per part of the state, and the preferred replay, as in Hausknecht et al. 2020 (arXiv 1909.05398).
"""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.seeding import integer, stream
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.data.replay import NStepWindow
from llmrl.encoders.encoder import FeatureTable
from llmrl.learners.adamw import AdamW
from llmrl.learners.learner import refuse_divergence
from llmrl.learners.posterior import choice_probabilities, choose, posterior
from llmrl.schema.learners import DRRNConfig

ROWS = 1 << 12  # embeddings of words
AT_ONCE = 2048  # states


class DRRN:
    greedy_is_deterministic = True

    def __init__(self, cfg: DRRNConfig, seed: int, table: FeatureTable | None = None) -> None:
        self.cfg, self.history_turns = cfg, cfg.history_turns
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer(seed, "initialisation"))
            self.net = _Network(cfg)
        self.target = copy.deepcopy(self.net).requires_grad_(False)
        self.optimiser = AdamW(self.net.parameters(), cfg.lr)
        self.window = NStepWindow(cfg.n_step, cfg.gamma, cfg.discount_by == "primitive_steps")
        self.memory = _Memory(cfg.buffer, cfg.positive_share, stream(seed, "replay"))
        self.rng = stream(seed, "policy")
        self.texts = _Texts(cfg.history_turns)
        self.decisions = self.rounds = 0

    # ---- behaviour -------------------------------------------------------------------------------------------------

    def act(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        return choose(self._values(states), candidates, self.cfg.alpha, self.rng)

    def evaluate(
        self, states: Sequence[TextState], candidates: Sequence[Candidates], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        return choose(self._values(states), candidates, self._alpha_eval(greedy), rng)

    def policy(self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool) -> list[np.ndarray]:
        return choice_probabilities(self._values(states), proposals, self._alpha_eval(greedy))

    def posterior(self, state: TextState, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(Q [C], pi [C]) at one state, as `evaluate` draws from it."""
        (q,) = self._values([state])
        return q[candidates.actions], np.exp(posterior(q, candidates, self._alpha_eval(greedy=False)).log_weights)

    def _alpha_eval(self, greedy: bool) -> float:
        if greedy:
            return 0.0
        return self.cfg.alpha if self.cfg.alpha_eval is None else self.cfg.alpha_eval

    @torch.no_grad()
    def _values(self, states: Sequence[TextState]) -> list[np.ndarray]:
        """Q of every admissible action: float32 [actions] per state; some states at a time, to keep memory small."""
        out: list[np.ndarray] = []
        for i in range(0, len(states), AT_ONCE):
            read = [self.texts.read(s) for s in states[i : i + AT_ONCE]]
            sizes = [r.actions.size for r in read]
            actions_P = np.concatenate([r.actions for r in read])
            q_P = self.net(self.texts, [r.parts for r in read], _owners(sizes), actions_P)
            refuse_divergence("Q", q_P, self.cfg.lr)
            out += [q_A.numpy() for q_A in q_P.split(sizes)]
        return out

    # ---- learning --------------------------------------------------------------------------------------------------

    def observe(self, transitions: Sequence[Transition]) -> None:
        for t in transitions:
            self.decisions += 1
            for n in self.window.add(t):
                first, after = self.texts.read(n.first.state), None
                if n.last.next_candidates is not None:
                    read = self.texts.read(n.last.next_state)
                    after = _Read(read.parts, read.actions[n.last.next_candidates.possible])
                self.memory.add(_Kept(first.parts, first.actions[n.first.action], n.ret, n.discount, after))

    def update(self) -> dict[str, float]:
        due = max(0, self.decisions - self.cfg.learning_starts) // self.cfg.update_every
        losses: list[float] = []
        while self.rounds < due:
            self.rounds += 1
            if len(self.memory.kept) >= self.cfg.batch:
                losses.append(self._gradient_step())
        return {"loss/td": float(np.mean(losses))} if losses else {}

    def _gradient_step(self) -> float:
        batch = self.memory.sample(self.cfg.batch)
        y_B = self._targets(batch)
        actions_B = np.array([k.action for k in batch])
        q_B = self.net(self.texts, [k.parts for k in batch], np.arange(len(batch)), actions_B)
        assert q_B.shape == y_B.shape == (self.cfg.batch,)
        loss = F.smooth_l1_loss(q_B, y_B)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.cfg.grad_clip)
        refuse_divergence("the loss or its gradient", torch.stack([loss.detach(), norm]), self.cfg.lr)
        self.optimiser.step()
        with torch.no_grad():  # theta_target <- theta_target + rate (theta - theta_target)
            torch._foreach_lerp_(list(self.target.parameters()), list(self.net.parameters()), self.cfg.target_rate)
        return loss.item()

    @torch.no_grad()
    def _targets(self, batch: Sequence[_Kept]) -> Tensor:
        """y [B]."""
        y_B = torch.tensor([k.ret for k in batch])
        alive = [(i, k.after) for i, k in enumerate(batch) if k.after is not None]
        if not alive:
            return y_B
        after = [read for _, read in alive]
        of_P = _owners([read.actions.size for read in after])
        actions_P = np.concatenate([read.actions for read in after])
        q_P = self.target(self.texts, [read.parts for read in after], of_P, actions_P)
        best = torch.full((len(after),), -torch.inf).scatter_reduce(0, torch.from_numpy(of_P), q_P, "amax")
        rows = torch.tensor([i for i, _ in alive])
        return y_B.index_add(0, rows, torch.tensor([k.discount for k in batch])[rows] * best)

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        return self.net.state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        self.net.load_state_dict(tensors)

    def save(self) -> dict[str, Any]:
        return {
            "target": self.target.state_dict(),
            "optimiser": self.optimiser.save(),
            "window": self.window.save(),
            "memory": self.memory.save(),
            "texts": self.texts.save(),
            "rng": self.rng.bit_generator.state,
            "counters": {"decisions": self.decisions, "rounds": self.rounds},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.target.load_state_dict(saved["target"])
        self.optimiser.restore(saved["optimiser"])
        self.window.restore(saved["window"])
        self.memory.restore(saved["memory"])
        self.texts.restore(saved["texts"])
        self.rng.bit_generator.state = saved["rng"]
        self.decisions, self.rounds = saved["counters"]["decisions"], saved["counters"]["rounds"]

    def forget(self, envs: Collection[int]) -> None:
        self.window.forget(envs)


_Parts = tuple[int, ...]  # task, observation, last action, the one before, ...; 0 where the episode is younger


class _Read(NamedTuple):
    """A state as the network reads it: numbers of texts."""

    parts: _Parts
    actions: np.ndarray  # int64


class _Kept(NamedTuple):
    """A transition in memory."""

    parts: _Parts
    action: int
    ret: float
    discount: float
    after: _Read | None  # s_{t+n} with the target's support; None when the episode terminated


class _Network(nn.Module):
    def __init__(self, cfg: DRRNConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(ROWS, cfg.embedding)
        self.line = nn.GRU(cfg.embedding, cfg.hidden)  # GRU_s
        self.action = nn.GRU(cfg.embedding, cfg.hidden)  # GRU_a
        self.of_state = nn.Linear((2 + cfg.history_turns) * cfg.hidden, cfg.hidden)  # W, for h_s
        self.of_action = nn.Linear(cfg.hidden, cfg.hidden, bias=False)  # W, for h_a
        self.score = nn.Linear(cfg.hidden, 1)

    def forward(self, texts: _Texts, states: Sequence[_Parts], of: np.ndarray, actions: np.ndarray) -> Tensor:
        """Q [pairs] of each states[of[i]] with actions[i]. Each distinct text is encoded once."""
        parts, which = np.unique(states, axis=0, return_inverse=True)
        lines, line_of = np.unique(parts[:, :2], return_inverse=True)
        acts, act_of = np.unique(np.concatenate([parts[:, 2:].ravel(), actions]), return_inverse=True)
        h_lines = self._encode(self.line, texts, lines)
        h_acts = self._encode(self.action, texts, acts)
        past = act_of[: parts[:, 2:].size].reshape(parts[:, 2:].shape)
        h_s = torch.cat([h_lines[line_of.reshape(-1, 2)].flatten(1), h_acts[past].flatten(1)], dim=-1)
        h_a = self.of_action(h_acts)[act_of[past.size :]]
        joint = self.of_state(h_s)[which.reshape(-1)[of]] + h_a
        return self.score(joint.relu()).squeeze(-1)

    def _encode(self, gru: nn.GRU, texts: _Texts, ids: np.ndarray) -> Tensor:
        """The last hidden state of each text: [texts, hidden]."""
        tokens = [texts.tokens[i] for i in ids]
        states, _ = gru(self.words(pad_sequence(tokens)))  # padded at the end: no real word sees it
        return states[torch.tensor([len(t) for t in tokens]) - 1, torch.arange(len(tokens))]


class _Texts:
    """Every text met so far, tokenised once, by number. Number 0 is the empty text."""

    def __init__(self, history_turns: int) -> None:
        self.history_turns = history_turns
        self.tokens = [_hash_words("")]  # int64 [words] each
        self._numbers = {"": 0}
        self._read: dict[TextState, _Read] = {}

    def read(self, state: TextState) -> _Read:
        if state not in self._read:
            past = [action for _, action in reversed(state.history)][: self.history_turns]
            past += [""] * (self.history_turns - len(past))
            parts = tuple(map(self._number, (state.task, state.observation, *past)))
            self._read[state] = _Read(parts, np.array([self._number(a) for a in state.actions]))
        return self._read[state]

    def save(self) -> list[str]:
        return list(self._numbers)

    def restore(self, saved: Iterable[str]) -> None:
        for text in saved:
            self._number(text)

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self.tokens)
            self.tokens.append(_hash_words(text))
        return self._numbers[text]


def _hash_words(text: str) -> Tensor:
    """int64 [words], at least one."""
    words = re.findall(r"\w+|[^\w\s.,;:!?]", text.casefold()) or [""]
    return torch.tensor([zlib.crc32(word.encode()) % ROWS for word in words])


class _Memory:
    """The last `capacity` transitions."""

    def __init__(self, capacity: int, positive_share: float, rng: np.random.Generator) -> None:
        self.capacity, self.positive_share, self.rng = capacity, positive_share, rng
        self.kept: list[_Kept] = []
        self._next = 0
        self._positive = np.zeros(capacity, dtype=bool)

    def add(self, kept: _Kept) -> None:
        if len(self.kept) < self.capacity:
            self.kept.append(kept)
        else:
            self.kept[self._next] = kept
        self._positive[self._next] = kept.ret > 0
        self._next = (self._next + 1) % self.capacity

    def save(self) -> dict[str, Any]:
        """Saves the next states, of different sizes, end to end; a terminal one has no action."""
        after = [k.after or _Read((0,) * len(k.parts), np.zeros(0, dtype=np.int64)) for k in self.kept]
        return {
            "parts": np.array([k.parts for k in self.kept], dtype=np.int64),
            "action": np.array([k.action for k in self.kept], dtype=np.int64),
            "ret": np.array([k.ret for k in self.kept]),
            "discount": np.array([k.discount for k in self.kept]),
            "after": np.array([read.parts for read in after], dtype=np.int64),
            "sizes": np.array([read.actions.size for read in after], dtype=np.int64),
            "actions": np.concatenate([read.actions for read in after] or [np.zeros(0, dtype=np.int64)]),
            "next": self._next,
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        ends = np.cumsum(saved["sizes"])
        for i, parts in enumerate(saved["parts"].tolist()):
            actions = saved["actions"][ends[i] - saved["sizes"][i] : ends[i]]
            after = _Read(tuple(saved["after"][i].tolist()), actions) if actions.size else None
            action, ret, discount = (saved[name][i].item() for name in ("action", "ret", "discount"))
            self.kept.append(_Kept(tuple(parts), action, ret, discount, after))
        self._positive[: len(self.kept)] = saved["ret"] > 0
        self._next = saved["next"]
        self.rng.bit_generator.state = saved["rng"]

    def sample(self, batch: int) -> list[_Kept]:
        positive = np.flatnonzero(self._positive)
        preferred = round(self.positive_share * batch) if positive.size else 0
        rows = self.rng.integers(len(self.kept), size=batch - preferred).tolist()
        if preferred:
            rows += positive[self.rng.integers(positive.size, size=preferred)].tolist()
        return [self.kept[i] for i in rows]


def _owners(sizes: Sequence[int]) -> np.ndarray:
    """0 as often as the first size says, then 1, ..."""
    return np.repeat(np.arange(len(sizes)), sizes)
