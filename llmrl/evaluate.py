"""Evaluation: whole episodes on streams of its own, with the behaviour policy and with the greedy one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrl.envs.pool import EnvPool
from llmrl.envs.state import TextState
from llmrl.learners.learner import Learner
from llmrl.priors.candidates import ActionPrior, Candidates
from llmrl.rollout import Episode, Rollout
from llmrl.run.seeding import stream


@dataclass(frozen=True)
class Evaluation:
    """Means over episodes."""

    ret: float
    success: float  # a share, 0 to 1
    length: float  # decisions
    episodes: int | None  # None: computed, not sampled

    def metrics(self, prefix: str) -> dict[str, float]:
        means = {f"{prefix}/return": self.ret, f"{prefix}/success": self.success, f"{prefix}/length": self.length}
        return means if self.episodes is not None else means | {f"{prefix}/exact": True}


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
) -> Evaluation:
    """`episodes` episodes as of decision `step`. Nothing of the training is touched.

    Tasks take turns from number `first_task` on: where there are more tasks than episodes, later evaluations go on with
    the others.
    """
    name = ("evaluation", "greedy" if greedy else "behaviour", step)
    rng = stream(seed, *name)
    prior.start_evaluation(*name)

    def choose(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        return learner.evaluate(states, candidates, rng, greedy)

    rollout = Rollout(pool, prior, seed, *name, history_turns=history_turns, use="evaluation", first_in_turn=first_task)
    finished: list[Episode] = []
    while len(finished) < episodes:
        rollout.start()
        active = list(range(min(pool.num_envs, episodes - len(finished))))
        while active:
            ended = rollout.tick(choose, active, learning=False).episodes
            finished += ended
            active = [e for e in active if e not in {episode.env for episode in ended}]
    return Evaluation(
        float(np.mean([e.ret for e in finished])),
        float(np.mean([e.success for e in finished])),
        float(np.mean([e.decisions for e in finished])),
        len(finished),
    )
