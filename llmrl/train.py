"""One run, from config to summary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from llmrl.build import Parts, build, build_exact, build_pool
from llmrl.config import check, run_id, run_name
from llmrl.envs.pool import EnvPool
from llmrl.evaluate import Evaluation, evaluate
from llmrl.priors.cache import AnswerCounts
from llmrl.progress import Progress, Reporter, Silent
from llmrl.report.plots import run_curve
from llmrl.rollout import Episode, Rollout
from llmrl.run.folder import RunFolder
from llmrl.run.provenance import provenance
from llmrl.schema import EvaluationConfig

EVALUATION_ENVS = 32  # at most so many evaluation episodes at once


def train(cfg: DictConfig, reporter: Reporter | None = None) -> dict[str, Any]:
    """Runs `cfg` (see `llmrl.compose`) and returns its summary; a finished run is not run again.

    Everything is in the run's folder when this returns, and whatever an error or Ctrl-C left of it when it does not.
    Raises ValueError for what a person can mend, LanguageModelError and WorldError for what failed.
    """
    cfg = check(cfg)
    reporter = reporter or Silent()
    torch.set_num_threads(cfg.threads)
    with RunFolder.open(Path(cfg.paths.runs), run_name(cfg), run_id(cfg)) as folder:
        if folder.note:
            reporter.note(folder.note)
        if not folder.finished:
            Training(cfg, folder, reporter).run()
        reporter.done(folder.summary, folder.cost, _written(folder.path))
        return folder.summary


class Training:
    """The spine: ticks until the budget is spent, with evaluations and checkpoints on their way."""

    def __init__(self, cfg: DictConfig, folder: RunFolder, reporter: Reporter) -> None:
        self.cfg, self.folder, self.reporter = cfg, folder, reporter
        folder.write_config(cfg)
        folder.write_json("provenance.json", provenance(cfg))
        self.parts: Parts = build(cfg)
        self.pool: EnvPool = build_pool(cfg, cfg.rollout.num_envs, cfg.rollout.workers)
        self.evaluation_pool = build_pool(cfg, min(cfg.evaluation.episodes, EVALUATION_ENVS), cfg.rollout.workers)
        self.rollout = Rollout(self.pool, self.parts.prior, cfg.seed, "train", history_turns=self.parts.history_turns)
        self.exact = build_exact(cfg, self.parts.history_turns)
        self.grid = evaluation_grid(cfg.evaluation)
        self.evaluation_due = next(self.grid)
        self.env_steps = self.primitive_steps = self.episodes = self.evaluations = 0
        self.recent: deque[bool] = deque(maxlen=20)
        self.since = _Since()
        self.last_row: dict[str, Any] = {}
        self.known_ceiling: float | None = None
        self.started = time.monotonic()
        self.evaluating = 0.0  # seconds

    def run(self) -> None:
        cfg = self.cfg
        try:
            self.reporter.begin(self.folder.path.name, self.folder.path, cfg.env_steps)
            self.rollout.start()
            self.evaluate()
            while self.env_steps < cfg.env_steps:
                before = self.env_steps
                self.tick()
                finished = self.env_steps == cfg.env_steps
                if finished or self.env_steps >= self.evaluation_due:
                    self.evaluate()
                while self.evaluation_due <= self.env_steps:
                    self.evaluation_due = next(self.grid)
                if finished or _crossed(before, self.env_steps, cfg.checkpoint_every):
                    self.checkpoint()
        finally:
            try:
                self.write_cost()
            finally:
                self.close()
        run_curve(self.folder.path)
        self.folder.write_summary(self.summary("complete"))  # last: nothing that fails comes after it

    def tick(self) -> None:
        left = self.cfg.env_steps - self.env_steps
        tick = self.rollout.tick(self.parts.learner.act, range(min(self.pool.num_envs, left)))
        self.parts.learner.observe(tick.transitions)
        metrics = self.parts.learner.update()
        self.env_steps += len(tick.transitions)
        self.primitive_steps += sum(t.duration for t in tick.transitions)
        for episode in tick.episodes:
            self.episodes += 1
            self.recent.append(episode.success)
            self.folder.append("episodes", {"env_steps": self.env_steps, **_episode_row(episode)})
        self.since.add(tick.episodes, tick.covered, tick.with_expert, metrics)
        self.report()

    def evaluate(self) -> None:
        """The behaviour policy and the greedy one, and a line of metrics."""
        start = time.monotonic()
        blocks: dict[str, float] = {}
        for prefix, greedy in (("eval", False), ("eval_greedy", True)):
            found = self.exact.evaluate(self.parts.prior, self.parts.learner, greedy) if self.exact else None
            blocks |= (found or self.sample(greedy)).metrics(prefix)
        blocks |= self.ceiling()
        row = {
            "env_steps": self.env_steps,
            "primitive_steps": self.primitive_steps,
            "episodes": self.episodes,
            **self.since.metrics(),
            **blocks,
            **self.parts.prior.lm_metrics(),
        }
        self.folder.append("metrics", row)
        self.since, self.last_row = _Since(), row
        self.evaluations += 1
        self.evaluating += time.monotonic() - start
        tokens = self.parts.answers.counts.scored_tokens if self.parts.answers else 0
        self.folder.append("timing", {"env_steps": self.env_steps, "lm/tokens": tokens, **self.seconds()})
        self.reporter.evaluated(row)
        self.report()

    def ceiling(self) -> dict[str, float]:
        """`prior/ceiling`, which learning does not change: it is computed once."""
        if self.exact is not None and self.known_ceiling is None:
            self.known_ceiling = self.exact.ceiling(self.parts.prior)
        return {} if self.known_ceiling is None else {"prior/ceiling": self.known_ceiling}

    def sample(self, greedy: bool) -> Evaluation:
        """Whole episodes; of the greedy policy one per task, where it does the same each time."""
        cfg = self.cfg
        repeats_itself = self.evaluation_pool.deterministic and self.parts.prior.frozen_in_evaluation
        one_each = repeats_itself and self.parts.learner.greedy_is_deterministic
        return evaluate(
            self.evaluation_pool,
            self.parts.prior,
            self.parts.learner,
            seed=cfg.seed,
            step=self.env_steps,
            episodes=max(1, len(self.evaluation_pool.task_ids)) if greedy and one_each else cfg.evaluation.episodes,
            greedy=greedy,
            history_turns=self.parts.history_turns,
            first_task=self.evaluations * cfg.evaluation.episodes,
        )

    def checkpoint(self) -> None:
        counters = {"env_steps": self.env_steps, "primitive_steps": self.primitive_steps, "episodes": self.episodes}
        weights = self.parts.learner.state_dict()
        self.folder.checkpoint(self.env_steps, {"weights.safetensors": weights, "counters.json": counters})

    def report(self) -> None:
        answers = self.parts.answers
        self.reporter.progress(
            Progress(
                self.env_steps,
                self.episodes,
                float(np.mean(self.recent)) if self.recent else None,
                self.last_row.get("eval/success"),
                self.parts.prior.counts.queries,
                answers.counts.computed if answers else 0,
                answers.counts.hits if answers else 0,
                self.env_steps / max(1e-9, self.seconds()["training_seconds"]),
            )
        )

    def close(self) -> None:
        self.pool.close()
        self.evaluation_pool.close()
        if self.parts.answers is not None:
            self.parts.answers.close()

    def seconds(self) -> dict[str, float]:
        total = time.monotonic() - self.started
        return {"seconds": round(total, 3), "training_seconds": round(total - self.evaluating, 3)}

    def summary(self, status: str) -> dict[str, Any]:
        row = self.last_row
        return {
            "status": status,
            "env_steps": self.env_steps,
            "eval": _block(row, "eval/"),
            "eval_greedy": _block(row, "eval_greedy/"),
            "lm": _block(row, "lm/"),
        }

    def write_cost(self) -> None:
        answers = self.parts.answers
        counts = answers.counts if answers else AnswerCounts()
        self.folder.write_json(
            "cost.json",
            {
                "lm/calls": counts.calls,
                "lm/computed": counts.computed,
                "lm/cache_hits": counts.hits,
                "lm/tokens": counts.scored_tokens,
                **self.seconds(),
            },
        )


class _Since:
    """What happened since the last evaluation."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []
        self.covered = self.with_expert = 0
        self.values: dict[str, list[float]] = {}

    def add(self, episodes: list[Episode], covered: int, with_expert: int, metrics: Mapping[str, float]) -> None:
        self.episodes += episodes
        self.covered += covered
        self.with_expert += with_expert
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def metrics(self) -> dict[str, float | None]:
        return {
            "train/return": _mean([e.ret for e in self.episodes]),
            "train/success": _mean([e.success for e in self.episodes]),
            "prior/coverage": self.covered / self.with_expert if self.with_expert else None,
            **{name: _mean(values) for name, values in self.values.items()},
        }


def evaluation_grid(cfg: EvaluationConfig) -> Iterator[int]:
    """After how many decisions a run is evaluated, besides at its start and at its end; never decreases.

    linear: every, 2 every, 3 every, ...  log: round(every 2^(i / per_doubling)), i = 0, 1, 2, ...
    """
    for i in count():
        yield (i + 1) * cfg.every if cfg.grid == "linear" else round(cfg.every * 2 ** (i / cfg.per_doubling))


def _episode_row(e: Episode) -> dict[str, Any]:
    return {
        "env": e.env,
        "episode": e.number,
        "task": e.task_id,
        "return": e.ret,
        "success": e.success,
        "length": e.decisions,
        "primitive_steps": e.primitive_steps,
    }


def _written(folder: Path) -> list[Path]:
    names = ("summary.json", "metrics.jsonl", "episodes.jsonl", "curve.png")
    return [folder / name for name in names if (folder / name).exists()]


def _crossed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _block(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _mean(values: list[Any]) -> float | None:
    return float(np.mean(values)) if values else None
