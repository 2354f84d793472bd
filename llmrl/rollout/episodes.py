"""Evaluation: whole episodes on streams of its own, with the behaviour policy and with the greedy one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llmrl.core.candidates import ActionPrior, Candidates
from llmrl.core.seeding import draw_from, stream
from llmrl.core.state import TextState
from llmrl.envs.pool import EnvPool
from llmrl.learners.learner import Learner
from llmrl.rollout.rollout import Episode, Rollout


@dataclass(frozen=True)
class Evaluation:
    """Means over episodes."""

    ret: float
    success: float  # a share, 0 to 1
    length: float  # decisions
    episodes: int | None  # None: computed, not sampled

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Evaluation:
        return cls(
            float(np.mean([e.ret for e in episodes])),
            float(np.mean([e.success for e in episodes])),
            float(np.mean([e.decisions for e in episodes])),
            len(episodes),
        )

    def metrics(self, prefix: str) -> dict[str, float]:
        means = {f"{prefix}/return": self.ret, f"{prefix}/success": self.success, f"{prefix}/length": self.length}
        return means if self.episodes is not None else means | {f"{prefix}/exact": True}


# expert: it knows the way and takes the best of what the prior proposes: what a learner could reach with these
# candidates, at least. (Where none is good it takes any, and one that plans around that may do better.)
Policy = Literal["behaviour", "greedy", "expert"]


@dataclass
class Played:
    """Whole episodes, in the order in which they ended."""

    episodes: list[Episode]
    covered: int = 0  # decisions at which an expert's action was among the candidates
    with_expert: int = 0  # decisions at which the expert's actions were known


def evaluate(
    pool: EnvPool,
    prior: ActionPrior,
    learner: Learner,
    *,
    seed: int,
    step: int,
    episodes: int,
    greedy: bool,
    history_turns: int,
    first_task: int = 0,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """`episodes` episodes as of decision `step`. Nothing of the training is touched.

    Tasks take turns from number `first_task` on: where there are more tasks than episodes, later evaluations go on with
    the others. `told` hears how many are done of how many.
    """
    told(0, episodes)
    policy: Policy = "greedy" if greedy else "behaviour"
    name = ("evaluation", policy, step)
    played = play_out(
        pool, prior, learner, name, seed=seed, episodes=episodes, policy=policy, history_turns=history_turns,
        first_task=first_task, told=lambda done: told(done, episodes),
    )  # fmt: skip
    return Evaluation.of(played.episodes)


def play_out(
    pool: EnvPool,
    prior: ActionPrior,
    learner: Learner,
    name: tuple[str | int, ...],
    *,
    seed: int,
    episodes: int,
    policy: Policy,
    history_turns: int,
    first_task: int = 0,
    told: Callable[[int], None] = lambda done: None,
) -> Played:
    """Episodes with tasks in turn, on the streams of `name`. `told` hears how many are done."""
    rng = stream(seed, *name)
    prior.start_evaluation(*name)
    active: list[int] = []

    def choose(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        if policy == "expert":
            return _best_of(states, candidates, rollout.experts(active), rng)
        return learner.evaluate(states, candidates, rng, policy == "greedy")

    rollout = Rollout(pool, prior, seed, *name, history_turns=history_turns, use="evaluation", first_in_turn=first_task)
    played = Played([])
    while len(played.episodes) < episodes:
        rollout.start()
        active = list(range(min(pool.num_envs, episodes - len(played.episodes))))
        while active:
            tick = rollout.tick(choose, active, learning=False)
            played.episodes += tick.episodes
            played.covered += tick.covered
            played.with_expert += tick.with_expert
            active = [e for e in active if e not in {episode.env for episode in tick.episodes}]
            if tick.episodes:
                told(len(played.episodes))
    return played


def _best_of(
    states: Sequence[TextState],
    candidates: Sequence[Candidates],
    experts: Sequence[frozenset[str] | None],
    rng: np.random.Generator,
) -> np.ndarray:
    """An expert's action where one is proposed, by weight where they are several; else any, by weight."""
    chosen = []
    for state, c, known in zip(states, candidates, experts, strict=True):
        if known is None:
            raise ValueError(
                f"--policy expert: this world names no expert's actions at {state.observation[:60]!r}; choose "
                "--policy behaviour or greedy"
            )
        weights = np.exp(c.log_weights)
        good = weights * np.array([state.actions[i] in known for i in c.actions])
        weights = good if good.sum() > 0 else weights
        chosen.append(int(c.actions[draw_from(weights.cumsum(), rng.random())]))
    return np.array(chosen)
