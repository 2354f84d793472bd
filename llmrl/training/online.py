"""Training online: the learner acts in environments, and learns from what it meets. Decisions are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrl.build import build_pool
from llmrl.envs.pool import EnvPool
from llmrl.rollout.pipeline import Pipeline
from llmrl.rollout.rollout import Rollout
from llmrl.run.folder import EPISODES
from llmrl.training.base import Training
from llmrl.training.fit_report import prior_fit
from llmrl.training.record import episode_row


class OnlineTraining(Training):
    counters = ("env_steps", "primitive_steps", "episodes", "evaluations")

    @property
    def at(self) -> int:
        return self.env_steps

    @property
    def budget(self) -> int:
        return self.cfg.env_steps

    @property
    def over(self) -> bool:
        return super().over or self._enough(self.episodes)

    def _enough(self, episodes: int) -> bool:
        return self.cfg.episodes is not None and episodes >= self.cfg.episodes

    def open(self) -> None:
        cfg = self.cfg
        self.pool: EnvPool = build_pool(cfg, cfg.rollout.num_envs, cfg.rollout.workers)
        kind = Pipeline if cfg.rollout.pipeline else Rollout
        prior, turns = self.parts.prior, self.parts.history_turns
        self.rollout = kind(self.pool, prior, cfg.seed, "train", history_turns=turns, trust=prior.trust)

    def begin(self) -> None:
        if not self.last_row:
            self.rollout.start()
            self.evaluate()
            self.fit = prior_fit(self.parts.prior, self.evaluator.exact)
        self.judge()

    def tick(self) -> None:
        left = self.cfg.env_steps - self.env_steps
        tick = self.rollout.tick(self.parts.learner.act, self.rollout.due(left))
        is_last = tick.decisions == left or self._enough(self.episodes + len(tick.episodes))
        transitions = tick.transitions + (self.rollout.rest() if is_last else [])
        self.parts.learner.observe(transitions)
        metrics = self.parts.learner.update()
        self.env_steps += tick.decisions
        self.primitive_steps += tick.primitive_steps
        for episode in tick.episodes:
            self.episodes += 1
            self.recent.append(episode.success)
            self.folder.append(EPISODES, {"env_steps": self.env_steps, **episode_row(episode)})
        self.since.add(tick.episodes, tick.covered, tick.with_expert, metrics)
        self.report()

    def where(self) -> dict[str, int]:
        return {"env_steps": self.env_steps}

    def first_columns(self) -> dict[str, int]:
        return {**self.where(), "primitive_steps": self.primitive_steps, "episodes": self.episodes}

    def save_open(self) -> dict[str, Any]:
        return {"rollout": self.rollout.save()}

    def restore_open(self, saved: Mapping[str, Any]) -> list[int]:
        self.note(f"{self.folder.path} resumes from its checkpoint at {self.env_steps:,} decisions")
        lost = self.rollout.restore(saved["rollout"])
        if lost:
            self.parts.learner.forget(lost)
            self.note(
                f"world {self.cfg.env.name} does not replay: the same seed, task and actions led elsewhere in "
                f"{len(lost)} of {self.pool.num_envs} environments. Their episodes begin anew, and this run will not "
                "be byte-identical to one that was never interrupted; all else resumes exactly"
            )
        return lost

    def close_open(self) -> None:
        self.pool.close()
