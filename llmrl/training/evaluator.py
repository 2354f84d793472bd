"""The evaluations of a run: when they are, and what they measure. They change nothing that learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from omegaconf import DictConfig

from llmrl.build import Parts, build_exact, build_pool
from llmrl.envs.pool import EnvPool
from llmrl.rollout.episodes import Evaluation, evaluate
from llmrl.schema.run import EvaluationConfig

ENVS = 32  # at most so many episodes at once


def evaluation_grid(cfg: EvaluationConfig) -> Iterator[int]:
    """After how many decisions a run is evaluated, besides at its start and at its end; never decreases.

    linear: every, 2 every, 3 every, ...  log: round(every 2^(i / per_doubling)), i = 0, 1, 2, ...
    """
    for i in count():
        yield (i + 1) * cfg.every if cfg.grid == "linear" else round(cfg.every * 2 ** (i / cfg.per_doubling))


def evaluation_pool(cfg: DictConfig) -> EnvPool:
    return build_pool(cfg, min(cfg.evaluation.episodes, ENVS), cfg.rollout.workers)


class Evaluator:
    """`tell` hears how many episodes of how many are played; `pool` is closed with the run."""

    def __init__(self, cfg: DictConfig, parts: Parts, pool: EnvPool, tell: Callable[[int, int], None]) -> None:
        self.cfg, self.parts, self.pool, self.tell = cfg, parts, pool, tell
        self.exact = build_exact(cfg, parts.history_turns)
        self.known_ceiling: float | None = None

    def measure(self, step: int, number: int) -> dict[str, float]:
        """The metrics of the behaviour policy and the greedy one at `step`; `number`: of the run's evaluation."""
        found: dict[str, float] = {}
        for prefix, greedy in (("eval", False), ("eval_greedy", True)):
            exact = self.exact.evaluate(self.parts.prior, self.parts.learner, greedy) if self.exact else None
            found |= (exact or self._sample(greedy, step, number)).metrics(prefix)
        if self.exact is not None and (self.known_ceiling is None or self.parts.prior.trust is not None):
            self.known_ceiling = self.exact.ceiling(self.parts.prior)  # computed once where no learning changes it
        return found | ({} if self.known_ceiling is None else {"prior/ceiling": self.known_ceiling})

    def _sample(self, greedy: bool, step: int, number: int) -> Evaluation:
        """Whole episodes; of the greedy policy one per task, where it does the same each time."""
        repeats_itself = self.pool.deterministic and self.parts.prior.frozen_in_evaluation
        one_each = repeats_itself and self.parts.learner.greedy_is_deterministic
        episodes = self.cfg.evaluation.episodes
        return evaluate(
            self.pool,
            self.parts.prior,
            self.parts.learner,
            seed=self.cfg.seed,
            step=step,
            episodes=max(1, len(self.pool.task_ids)) if greedy and one_each else episodes,
            greedy=greedy,
            history_turns=self.parts.history_turns,
            first_task=number * episodes,
            told=self.tell,
        )
