"""Success, return and length of a policy computed instead of sampled, for worlds whose states can be listed.

An episode is a Markov chain over (state of the world, what the texts remember of its history), because a policy depends
on what it is shown and its candidates are drawn anew at each visit. The chain is followed decision by decision until it
is cut off; where primitive steps are limited too, how many were taken is carried along. There is no sampling error.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from llmrl.core.candidates import Proposal
from llmrl.core.state import TextState
from llmrl.envs.model import WorldModel
from llmrl.learners.learner import HasPolicy, Learner
from llmrl.priors.prior import Prior
from llmrl.rollout.episodes import Evaluation

NEGLIGIBLE = 1e-12  # of all episodes: a count of primitive steps this rare is left out

_Experts = frozenset[str] | None
_Node = tuple[Hashable, tuple[tuple[str, str], ...]]  # state of the world, history


class Exact:
    """The tasks of a world, each listed whole."""

    def __init__(self, tables: Sequence[_Table]) -> None:
        self._tables = tables
        self._followed: dict[int, tuple[np.ndarray, tuple[float, float, float]]] = {}  # the last policy of each task

    @classmethod
    def of(cls, models: Iterable[WorldModel | None], history_turns: int, at_most: int) -> Exact | None:
        """None where a task has no model, or where they have more than `at_most` states in all."""
        tables: list[_Table] = []
        for model in models:
            left = at_most - sum(len(table.text_of) for table in tables)
            table = None if model is None else _list_states(model, history_turns, left)
            if table is None:
                return None
            tables.append(table)
        return cls(tables)

    def anew(self) -> Exact:
        """The same lists, for another run."""
        return Exact(self._tables)

    @property
    def states(self) -> int:
        return sum(len(table.text_of) for table in self._tables)

    def texts(self) -> Iterator[TextState]:
        """All texts that the agent may be shown, in every state."""
        for table in self._tables:
            yield from table.texts

    def some(self, at_most: int) -> list[tuple[TextState, _Experts]]:
        """States from the beginnings to the ends of what is listed, and the actions of an expert in each."""
        known = [pair for table in self._tables for pair in zip(table.texts, table.experts, strict=True)]
        return known[:: -(-len(known) // at_most)]

    def alone(self, prior: Prior) -> tuple[float, float] | None:
        """The success of an agent that draws its actions from the prior, and of one that draws from the menu uniformly.

        The means over tasks; None where the prior has no formula. A limit on primitive steps is left out, which takes
        most of the time: where one binds, both are upper bounds.
        """
        found: list[list[float]] = []
        for table in self._tables:
            if (proposals := prior.proposals(table.texts, table.experts)) is None:
                return None
            says = [proposal.weights for proposal in proposals]
            alike = [np.full(p.size, 1 / p.size) for p in says]
            unhurried = replace(table, max_primitive_steps=None)
            found.append([_follow(unhurried, _pad(rows))[1] for rows in (says, alike)])
        success, uniform = np.mean(found, axis=0).tolist()
        return success, uniform

    def evaluate(self, prior: Prior, learner: Learner, greedy: bool) -> Evaluation | None:
        """The mean over tasks; None where the prior or the learner has no formula."""
        found = self.each(prior, learner, greedy)
        if found is None:
            return None
        ret, success, length = np.mean(found, axis=0).tolist()
        return Evaluation(ret, success, length, episodes=None)

    def each(self, prior: Prior, learner: Learner, greedy: bool) -> list[tuple[float, float, float]] | None:
        """(return, success, decisions) of each task; None where the prior or the learner has no formula."""
        found: list[tuple[float, float, float]] = []
        for task, table in enumerate(self._tables):
            proposals = prior.proposals(table.texts, table.experts)
            if proposals is None or not isinstance(learner, HasPolicy):
                return None
            if (policy := learner.policy(table.texts, proposals, greedy)) is None:
                return None
            found.append(self._follow_once(task, _pad(policy)))
        return found

    def _follow_once(self, task: int, pi_TA: np.ndarray) -> tuple[float, float, float]:
        """Follows one policy where behaviour is greedy already, since both evaluations are then of it."""
        before = self._followed.get(task)
        if before is None or not np.array_equal(before[0], pi_TA):
            before = self._followed[task] = pi_TA, _follow(self._tables[task], pi_TA)
        return before[1]

    def ceiling(self, prior: Prior) -> float | None:
        """The success of an expert that plays the best of the candidates it is given at each visit.

        Between 0 and 1, the mean over tasks; None where the prior has no formula. A limit on primitive steps is left
        out, so that where one binds this is an upper bound.
        """
        found = []
        for table in self._tables:
            proposals = prior.proposals(table.texts, table.experts)
            if proposals is None:
                return None
            found.append(_best_within(table, proposals))
        return float(np.mean(found))


@dataclass(frozen=True)
class _Table:
    """N states, T texts, E edges: an edge is one outcome of one action. Arrays are float64 and int64."""

    texts: list[TextState]
    experts: list[_Experts]
    text_of: np.ndarray  # [N]
    start: np.ndarray  # [N], probabilities
    source: np.ndarray  # [E]
    action: np.ndarray  # [E]
    target: np.ndarray  # [E]; -1 where the episode terminates
    probability: np.ndarray  # [E]
    reward: np.ndarray  # [E]
    duration: np.ndarray  # [E], primitive steps
    success: np.ndarray  # [E], 1 where it terminates in success
    max_decisions: int
    max_primitive_steps: int | None  # None also where it cannot be reached within `max_decisions`


def _list_states(model: WorldModel, turns: int, at_most: int) -> _Table | None:
    texts: dict[tuple[TextState, _Experts], int] = {}
    nodes: dict[_Node, int] = {}
    start: list[float] = []
    for probability, state in model.initial():
        nodes.setdefault((state, ()), len(nodes))
        start += [0.0] * (len(nodes) - len(start))
        start[nodes[state, ()]] += probability
    text_of: list[int] = []
    edges: list[tuple[float, ...]] = []
    for (state, history), node in (queue := _Growing(nodes)):
        shown = model.shown(state)
        text = TextState(model.task, shown.observation, shown.actions, history)
        text_of.append(texts.setdefault((text, shown.expert_actions), len(texts)))
        for action, name in enumerate(shown.actions):
            after = text.history_after(name, turns)
            for o in model.outcomes(state, action):
                target = -1 if o.terminated else queue.number((o.state, after))
                success = float(o.terminated and o.success)
                edges.append((node, action, target, o.probability, o.reward, o.duration, success))
        if len(nodes) > at_most:
            return None
    columns = [np.array(column) for column in zip(*edges, strict=True)]
    source, action_of, target_of, probability_of, reward_of, duration, success_of = columns
    cap = model.max_primitive_steps
    return _Table(
        [text for text, _ in texts],
        [experts for _, experts in texts],
        np.array(text_of),
        np.array([*start, *[0.0] * (len(nodes) - len(start))]),
        source.astype(np.int64),
        action_of.astype(np.int64),
        target_of.astype(np.int64),
        probability_of,
        reward_of,
        duration.astype(np.int64),
        success_of,
        model.max_decisions,
        None if cap is None or duration.max() * model.max_decisions < cap else cap,
    )


class _Growing:
    """Walks over the numbered nodes while they become more."""

    def __init__(self, nodes: dict[_Node, int]) -> None:
        self._nodes, self._queue = nodes, list(nodes.items())

    def __iter__(self) -> Iterator[tuple[_Node, int]]:
        yield from self._queue  # a list may be extended while it is walked over

    def number(self, node: _Node) -> int:
        number = self._nodes.get(node)
        if number is None:
            number = self._nodes[node] = len(self._nodes)
            self._queue.append((node, number))
        return number


def _follow(table: _Table, pi_TA: np.ndarray) -> tuple[float, float, float]:
    """(return, success, decisions) expected of an episode."""
    n = len(table.text_of)
    weight_E = pi_TA[table.text_of[table.source], table.action] * table.probability
    reward_N = torch.from_numpy(np.bincount(table.source, weight_E * table.reward, n))
    success_N = torch.from_numpy(np.bincount(table.source, weight_E * table.success, n))
    moves = _moves(table, weight_E)
    limit = table.max_primitive_steps or 1  # of columns P: primitive steps taken so far; one where nothing limits them
    widest = max((steps for steps, _ in moves), default=0)
    mass_NP, first = torch.from_numpy(table.start).unsqueeze(-1), 0  # columns: `first`, `first` + 1, ... taken
    ret = success = length = 0.0
    for _ in range(table.max_decisions):
        alive_N = mass_NP.sum(-1)
        ret += float(alive_N @ reward_N)
        success += float(alive_N @ success_N)
        length += float(alive_N.sum())
        columns = min(mass_NP.shape[1] + widest, limit - first)
        after_NP = torch.zeros(n, columns, dtype=torch.float64)
        for steps, matrix in moves:
            kept = min(mass_NP.shape[1], columns - steps)
            if kept > 0:
                after_NP[:, steps : steps + kept] += torch.sparse.mm(matrix, mass_NP[:, :kept])
        some = torch.nonzero(after_NP.sum(0) > NEGLIGIBLE).flatten()
        if not some.numel():
            break
        mass_NP, first = after_NP[:, some[0] : some[-1] + 1], first + int(some[0])
    return ret, success, length


def _moves(table: _Table, weight_E: np.ndarray) -> list[tuple[int, Tensor]]:
    """(columns to the right, sparse [N, N] from source to target) per duration."""
    n = len(table.text_of)
    goes_on = (table.target >= 0) & (weight_E > 0)
    shift_E = table.duration if table.max_primitive_steps is not None else np.zeros_like(table.duration)
    moves = []
    for steps in np.unique(shift_E[goes_on]):
        chosen = goes_on & (shift_E == steps)
        places = torch.from_numpy(np.stack([table.target[chosen], table.source[chosen]]))
        matrix = torch.sparse_coo_tensor(places, torch.from_numpy(weight_E[chosen]), (n, n), check_invariants=False)
        moves.append((int(steps), matrix.coalesce()))
    return moves


def _best_within(table: _Table, proposals: Sequence[Proposal]) -> float:
    """V_r(n) = E max_{a among the candidates} sum_o p(o) V_{r-1}(n'), r decisions before the end; V_0 = 0."""
    n = len(table.text_of)
    p_NA = torch.from_numpy(_pad([proposal.weights for proposal in proposals])[table.text_of])
    (k,) = {proposal.k for proposal in proposals}
    slots = p_NA.shape[1]
    slot_E = torch.from_numpy(table.source * slots + table.action)
    at_once_S = torch.zeros(n * slots, dtype=torch.float64)
    at_once_S.index_add_(0, slot_E, torch.from_numpy(table.probability * table.success))
    goes_on = torch.from_numpy(table.target >= 0)
    slot_E, target_E = slot_E[goes_on], torch.from_numpy(table.target)[goes_on]
    probability_E = torch.from_numpy(table.probability)[goes_on]
    value_N = torch.zeros(n, dtype=torch.float64)
    for _ in range(table.max_decisions):
        q_S = at_once_S.index_add(0, slot_E, probability_E * value_N[target_E])
        value_N = _expected_best(q_S.view(n, slots), p_NA, k)
    return float(torch.from_numpy(table.start) @ value_N)


def _expected_best(q_NA: Tensor, p_NA: Tensor, k: int | None) -> Tensor:
    """[N]: the mean of the largest of k draws; without k, the largest of positive weight."""
    if k is None:
        return q_NA.masked_fill(p_NA == 0, -torch.inf).amax(-1)
    ordered, order = q_NA.sort(dim=-1)
    at_most = p_NA.gather(-1, order).cumsum(-1).clamp(max=1.0) ** k
    chance = torch.diff(at_most, dim=-1, prepend=torch.zeros_like(at_most[:, :1]))
    return (ordered * chance).sum(-1)


def _pad(rows: Sequence[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(rows), max(row.size for row in rows)))
    for i, row in enumerate(rows):
        out[i, : row.size] = row
    return out
