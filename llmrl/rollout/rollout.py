"""Interaction in ticks: ask for all environments at once, act, step all, hand over the transitions in order.

The schedule is a function of counters, never of time, so a run is a function of its configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from llmrl.core.candidates import ActionPrior, Candidates, Use
from llmrl.core.seeding import integer, stream
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.envs.pool import EnvPool, Outcome, Reset, Step, WorldError


@dataclass(frozen=True)
class Episode:
    """One finished episode."""

    env: int
    number: int  # the environment's how-manieth, from 0
    task_id: str
    ret: float  # undiscounted sum of rewards
    success: bool
    decisions: int
    primitive_steps: int


@dataclass
class Tick:
    transitions: list[Transition]
    episodes: list[Episode]
    decisions: int  # that were taken in it
    primitive_steps: int  # that they took
    covered: int  # decisions at which an expert's action was among the behaviour's candidates
    with_expert: int  # decisions at which the expert's actions were known


class _Taken(NamedTuple):
    """A decision and what came of it, before the candidates at `next_state` are asked for."""

    transition: Transition
    expert: frozenset[str] | None  # an expert's actions at `next_state`

    @property
    def ended(self) -> bool:
        return self.transition.terminated or self.transition.truncated


class Chooser(Protocol):
    def __call__(self, states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray: ...


class Trust(Protocol):
    """Chooses for each episode whether it uses the prior, and hears what came of it."""

    def draw(self, *episode: str | int) -> bool: ...

    def hear(self, used: bool, outcome: float) -> None: ...


class Rollout:
    """Steps every environment of a pool once per tick.

    Environment e's n-th episode is reset with a seed and a task that are functions of (seed, name, e, n) alone.
    `history_turns`: how many (observation, action) pairs states carry, the most that any rendered text shows.
    `trust`: it chooses which episodes use the prior.
    `first_in_turn`: tasks are not drawn but take turns, from the one with this number on.
    """

    def __init__(
        self,
        pool: EnvPool,
        prior: ActionPrior,
        seed: int,
        *name: str | int,
        history_turns: int = 0,
        use: Use = "behaviour",
        first_in_turn: int | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.pool, self.prior, self.seed, self.name, self.use = pool, prior, seed, name, use
        self.history_turns, self.first_in_turn, self.trust = history_turns, first_in_turn, trust
        self.states: list[TextState] = []
        self.episode_of = [-1] * pool.num_envs
        self._sums: list[list[float]] = [[] for _ in range(pool.num_envs)]  # return, decisions, primitive steps
        self._expert: list[frozenset[str] | None] = [None] * pool.num_envs
        self._task_of = [""] * pool.num_envs
        self._taken: list[list[str]] = [[] for _ in range(pool.num_envs)]  # the actions of the running episode
        self._uses = [True] * pool.num_envs  # the prior, as `trust` chose

    def start(self) -> None:
        self._begin_all()

    def experts(self, envs: Sequence[int]) -> list[frozenset[str] | None]:
        """An expert's actions in each of these environments now; None where nobody knows them."""
        return [self._expert[e] for e in envs]

    def due(self, at_most: int) -> Sequence[int]:
        """The environments whose turn the next tick is, but no more than `at_most`."""
        return range(min(self.pool.num_envs, at_most))

    def tick(self, choose: Chooser, active: Sequence[int] | None = None, learning: bool = True) -> Tick:
        """One decision in each environment (or in the `active` ones)."""
        envs = list(range(self.pool.num_envs)) if active is None else list(active)
        tick, taken = self._act(choose, envs)
        if learning:
            tick.transitions += self._learned_from(taken)
            self._begin_again(taken)
        return tick

    def rest(self) -> list[Transition]:
        """The transitions not handed over yet: none, where each tick hands over all of its own."""
        return []

    def _act(self, choose: Chooser, envs: Sequence[int]) -> tuple[Tick, list[_Taken]]:
        states = [self.states[e] for e in envs]
        informed = {} if self.trust is None else {"informed": [self._uses[e] for e in envs]}
        candidates = self.prior.candidates(states, self.use, [self._expert[e] for e in envs], **informed)
        actions = [int(a) for a in choose(states, candidates)]
        tick = Tick([], [], len(envs), 0, 0, 0)
        for e, c, s in zip(envs, candidates, states, strict=True):
            expert = self._expert[e]
            if expert:
                tick.with_expert += 1
                tick.covered += any(s.actions[i] in expert for i in c.possible)
        outcomes = self.pool.run([Step(e, s.actions[a]) for e, s, a in zip(envs, states, actions, strict=True)])
        taken = []
        for e, s, c, a, o in zip(envs, states, candidates, actions, outcomes, strict=True):
            duration = int(o.info.get("duration", 1))
            after = s.after(s.actions[a], _describe(e, o), self.history_turns)
            t = Transition(e, s, a, o.reward, duration, o.terminated, o.truncated, after, None, c)
            taken.append(_Taken(t, o.info.get("expert_actions")))
            tick.primitive_steps += duration
            self._advance(e, s.actions[a], o, after)
            sums = self._sums[e]
            if o.terminated or o.truncated:
                success = bool(o.info.get("success", False))
                if self.trust is not None:
                    self.trust.hear(self._uses[e], float(success) if "success" in o.info else sums[0])
                tick.episodes.append(
                    Episode(e, self.episode_of[e], self._task_of[e], sums[0], success, int(sums[1]), int(sums[2]))
                )
        return tick, taken

    def _learned_from(self, taken: Sequence[_Taken]) -> list[Transition]:
        """The transitions, with the target's candidates at their next states."""
        alive = [t for t in taken if not t.transition.terminated]
        states, experts = [t.transition.next_state for t in alive], [t.expert for t in alive]
        target = iter(self.prior.candidates(states, "target", experts) if alive else [])
        return [
            t.transition if t.transition.terminated else replace(t.transition, next_candidates=next(target))
            for t in taken
        ]

    def _begin_again(self, taken: Sequence[_Taken]) -> None:
        ended = [t.transition.env for t in taken if t.ended]
        if ended:
            for e, outcome in zip(ended, self.pool.run([self._reset(e) for e in ended]), strict=True):
                self._begin(e, outcome)

    def save(self) -> Any:
        """Per environment: its episode, the actions taken in it so far, and a digest of where they led."""
        return [
            {
                "episode": self.episode_of[e],
                "actions": list(self._taken[e]),
                "seen": self._seen(e),
                **({} if self.trust is None else {"uses_prior": self._uses[e]}),
            }
            for e in range(self.pool.num_envs)
        ]

    def restore(self, saved: Any) -> list[int]:
        """Resets and replays every environment. Returns those that did not come to where they were.

        Their episode is lost, and their next one has begun: the world is not a function of seed, task and actions.
        """
        self.episode_of = [s["episode"] - 1 for s in saved]
        self._begin_all()
        self._uses = [s.get("uses_prior", True) for s in saved]
        lost: set[int] = set()
        for i in range(max(len(s["actions"]) for s in saved)):
            steps = []
            for e, s in enumerate(saved):
                if e in lost or i >= len(s["actions"]):
                    continue
                if s["actions"][i] in self.states[e].actions:
                    steps.append(Step(e, s["actions"][i]))
                else:
                    lost.add(e)
            for step, o in zip(steps, self.pool.run(steps), strict=True):
                e, state = step.env, self.states[step.env]
                self._advance(e, step.action, o, state.after(step.action, _describe(e, o), self.history_turns))
                if o.terminated or o.truncated:  # it had not ended when it was saved
                    lost.add(e)
        lost |= {e for e, s in enumerate(saved) if self._seen(e) != s["seen"]}
        again = sorted(lost)
        if again:
            for e, outcome in zip(again, self.pool.run([self._reset(e) for e in again]), strict=True):
                self._begin(e, outcome)
        return again

    def _begin_all(self) -> None:
        envs = range(self.pool.num_envs)
        self.states = [None] * self.pool.num_envs  # type: ignore[list-item]  # filled by _begin below
        for e, outcome in zip(envs, self.pool.run([self._reset(e) for e in envs]), strict=True):
            self._begin(e, outcome)

    def _seen(self, e: int) -> str:
        state = self.states[e]
        seen = [self._task_of[e], state.task, state.observation, state.actions, state.history, self._sums[e]]
        seen.append(sorted(self._expert[e] or ()))
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def _advance(self, e: int, action: str, o: Outcome, after: TextState) -> None:
        sums = self._sums[e]
        sums[0] += o.reward
        sums[1] += 1
        sums[2] += int(o.info.get("duration", 1))
        self._taken[e].append(action)
        self.states[e], self._expert[e] = after, o.info.get("expert_actions")

    def _reset(self, e: int) -> Reset:
        self.episode_of[e] += 1
        where = (*self.name, e, self.episode_of[e])
        return Reset(e, integer(self.seed, "reset", *where), self._task(e, where))

    def _task(self, e: int, where: tuple[str | int, ...]) -> str | None:
        tasks = self.pool.task_ids
        if not tasks:
            return None
        if self.first_in_turn is not None:
            return tasks[(self.first_in_turn + self.episode_of[e] * self.pool.num_envs + e) % len(tasks)]
        return tasks[int(stream(self.seed, "task", *where).integers(len(tasks)))]

    def _begin(self, e: int, o: Outcome) -> None:
        self.states[e] = TextState.of(_describe(e, o))
        self._sums[e] = [0.0, 0, 0]
        self._taken[e] = []
        self._expert[e] = o.info.get("expert_actions")
        self._task_of[e] = str(o.info.get("task_id", ""))
        if self.trust is not None:
            self._uses[e] = self.trust.draw(*self.name, e, self.episode_of[e])


def _describe(e: int, o: Outcome) -> dict[str, Any]:
    if not o.observation["actions"] and not o.terminated:
        raise WorldError(
            f"environment {e} offers no action in an episode that has not terminated; where it was cut off "
            "(truncated), the last state still needs its actions, since its value is learned from"
        )
    return o.observation
