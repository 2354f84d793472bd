"""`llmrl evaluate`: what a trained agent does in other games, or with another model. Nothing is learned there.

Success is computed where a run computes it (evaluation.exact_up_to), else every task of the world is played as often,
so that there are at least 100 episodes. An evaluation is named by a hash of all that its result depends
on: the settings, the run and its checkpoint, the policy, and how many episodes. It is kept in the run's folder, whole
or not at all:

    RUN/evaluations/WORLD-POLICY-HASH/  config.yaml  episodes.jsonl  summary.json  provenance.json  cost.json

Runs of different learners with one seed play the same games with the same resets, so that they can be paired.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from llmrl.build import Parts, build, build_exact, build_pool
from llmrl.config.checks import refuse_keyless
from llmrl.core.files import publish_folder, to_json
from llmrl.envs.pool import EnvPool
from llmrl.lm.serve import serve_for_block, served_for
from llmrl.report.progress import Speaker
from llmrl.rollout.episodes import Evaluation, Policy, play_out
from llmrl.rollout.rollout import Episode
from llmrl.run.checkpoint import checkpoint_steps
from llmrl.run.evaluations import FOLDER, Judged
from llmrl.run.folder import read_object
from llmrl.run.identity import RunIdentity, identify_run
from llmrl.run.load import RunInfo
from llmrl.run.provenance import provenance
from llmrl.training.evaluator import ENVS
from llmrl.training.record import episode_row
from llmrl.training.trained_agent import changed_config, load_weights

FORMAT = 1  # raised when the same settings would give other episodes
ENOUGH = 100  # episodes, where nothing is computed


@dataclass(frozen=True)
class Asked:
    """The request for an evaluation of a run."""

    overrides: tuple[str, ...] = ()
    per_task: int | None = None  # episodes of each task; None: computed, or at least ENOUGH episodes in all
    policy: Policy = "behaviour"


@dataclass(frozen=True)
class Planned:
    """An evaluation, before anything is played."""

    run: RunInfo
    asked: Asked
    cfg: DictConfig
    identity: RunIdentity  # of a run with these settings
    checkpoint: int
    id: str

    @property
    def path(self) -> Path:
        return self.run.path / FOLDER / f"{self.cfg.env.name}-{self.asked.policy}-{self.id[:8]}"

    def find_known(self) -> Judged | None:
        """The result of an earlier evaluation, where there is one."""
        summary = read_object(self.path / "summary.json")
        return Judged(self.run, self.path, summary) if summary.get("evaluation_id") == self.id else None


def plan(run: RunInfo, asked: Asked, config_dir: Path | None = None) -> Planned:
    """Raises ConfigError and ValueError for what a person can mend."""
    cfg = changed_config(run, asked.overrides, config_dir)
    if cfg.data is not None:  # what it learned from is not looked at any more, and may be elsewhere
        OmegaConf.set_readonly(cfg, False)
        cfg.data = None
        OmegaConf.set_readonly(cfg, True)
    steps = checkpoint_steps(run.path)
    if not steps:
        raise ValueError(f"{run.name} has no checkpoint yet, so that nothing is there to evaluate")
    identity = identify_run(cfg)
    what = {
        "format": FORMAT, "settings": identity.settings, "run": run.summary["run_id"], "checkpoint": steps[-1],
        "policy": asked.policy, "per_task": asked.per_task,
    }  # fmt: skip
    return Planned(run, asked, cfg, identity, steps[-1], hashlib.sha256(to_json(what).encode()).hexdigest())


def plan_all(runs: Sequence[RunInfo], asked: Asked, config_dir: Path | None = None) -> list[Planned]:
    """Before the first is played. Raises ValueError that names the runs that have no checkpoint."""
    without = [run.name for run in runs if not checkpoint_steps(run.path)]
    if without and len(runs) > 1:
        raise ValueError(
            f"{len(without)} of {len(runs)} runs have no checkpoint yet, such as {without[0]}: train them further, or "
            "name the others alone"
        )
    return [plan(run, asked, config_dir) for run in runs]


def evaluate_run(planned: Planned, tell: Callable[[str], None] = lambda text: None) -> Judged:
    """Plays what is asked, or reads it where it was played before. Raises what a model or a world raises."""
    return planned.find_known() or _play(planned, tell)


def evaluate_all(planned: Sequence[Planned], tell: Callable[[str], None] = lambda text: None) -> list[Judged]:
    """`evaluate_run` of each; those with the same `lm.serve` share its server."""
    new = [each.cfg for each in planned if each.find_known() is None]
    for cfg in new:
        refuse_keyless(cfg)
    with served_for(new, tell):
        return [evaluate_run(each, tell) for each in planned]


def _play(planned: Planned, tell: Callable[[str], None]) -> Judged:
    run, asked, cfg = planned.run, planned.asked, planned.cfg
    refuse_keyless(cfg)
    torch.set_num_threads(cfg.threads)
    started = time.monotonic()
    with ExitStack() as opened:
        speaker = opened.enter_context(Speaker(tell))
        cfg = opened.enter_context(serve_for_block(cfg, speaker.note))
        pool = build_pool(cfg, ENVS, cfg.rollout.workers)
        opened.callback(pool.close)
        parts = build(cfg, planned.identity)
        for part in (parts.cache, parts.answers):
            if part is not None:
                opened.callback(part.close)
        if parts.answers is not None:
            parts.answers.tell(speaker.note, speaker.doing, cfg.lm.name)
        load_weights(parts, run.path / "checkpoints" / str(planned.checkpoint))
        names = list(pool.task_ids) or [cfg.env.name]
        what = f"episodes of {run.name}"
        found, how, episodes = _measure(
            cfg, parts, pool, names, asked, lambda done, many: speaker.doing(what, done, many)
        )
        cost: dict[str, Any] = {"seconds": round(time.monotonic() - started, 3)}
        if parts.answers is not None:
            counts = parts.answers.counts
            cost |= {"lm/computed": counts.computed, "lm/cache_hits": counts.hits}
        origin = provenance(cfg, planned.identity, pool.provenance)
    summary = {
        "evaluation_id": planned.id,
        "run_id": run.summary["run_id"],
        "checkpoint": planned.checkpoint,
        "policy": asked.policy,
        "tasks": len(names),
        "success": found.success,
        "return": found.ret,
        "length": found.length,
        **how,
    }
    files = {
        "config.yaml": OmegaConf.to_yaml(cfg),
        "episodes.jsonl": "".join(to_json(episode_row(e)) + "\n" for e in episodes),
        "provenance.json": to_json(origin) + "\n",
        "cost.json": to_json(cost) + "\n",
        "summary.json": to_json(summary) + "\n",
    }
    publish_folder(planned.path, files)
    return Judged(run, planned.path, summary)


def _measure(
    cfg: DictConfig, parts: Parts, pool: EnvPool, names: Sequence[str], asked: Asked, told: Callable[[int, int], None]
) -> tuple[Evaluation, dict[str, Any], list[Episode]]:
    """Success, how it was found, and the episodes that were played for it."""
    exact = _compute(cfg, parts, asked)
    if exact is not None:
        ret, success, length = np.mean(exact, axis=0).tolist()
        how: dict[str, Any] = {"exact": {name: each[1] for name, each in zip(names, exact, strict=True)}}
        return Evaluation(ret, success, length, None), how, []
    per_task = asked.per_task or -(-ENOUGH // len(names))
    many = len(names) * per_task
    told(0, many)
    played = play_out(
        pool, parts.prior, parts.learner, ("evaluate", asked.policy), seed=cfg.seed,
        episodes=many, policy=asked.policy, history_turns=parts.history_turns, told=lambda done: told(done, many),
    )  # fmt: skip
    coverage = played.covered / played.with_expert if played.with_expert else None
    return Evaluation.of(played.episodes), {"per_task": per_task, "prior/coverage": coverage}, played.episodes


def _compute(cfg: DictConfig, parts: Parts, asked: Asked) -> list[tuple[float, float, float]] | None:
    """(return, success, decisions) of each task, where they can be computed, and nothing else was asked for."""
    if asked.per_task is not None or asked.policy == "expert":
        return None
    exact = build_exact(cfg, parts.history_turns)
    return exact.each(parts.prior, parts.learner, asked.policy == "greedy") if exact else None
