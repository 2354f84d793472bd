"""Run folders as `llmrl train` leaves them, without training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from llmrl.config.compose import compose
from llmrl.run.folder import RunFolder
from llmrl.run.identity import identify_run
from llmrl.run.load import RunInfo

Success = Callable[[int], float | None]  # of the behaviour policy, by decisions


def make_run(root: Path, overrides: list[str], success: Success, steps: int = 1000, every: int = 250) -> RunInfo:
    """A finished run with the given success at each evaluation; a decision takes 10 ms."""
    cfg = compose(overrides)
    return _write(root, identify_run(cfg).name, identify_run(cfg).id, cfg, success, steps, every)


def make_runs(
    root: Path,
    overrides: list[str],
    seeds: Sequence[int],
    success: Callable[[int], Success],
    steps: int,
    every: int,
    *,
    dirty: bool = False,
    exact: bool = True,
    status: str = "complete",
) -> list[RunInfo]:
    """One run per seed, `success(seed)` being its curve."""
    composed = _composed(tuple(overrides))
    runs = []
    for seed in seeds:
        cfg = composed.copy()
        OmegaConf.set_readonly(cfg, False)
        cfg.seed = seed
        name = hashlib.sha256(OmegaConf.to_yaml(cfg).encode()).hexdigest()
        folder = f"{cfg.env.name}-{cfg.learner.name}-{cfg.prior.name}-s{seed}-{name[:8]}"
        runs.append(_write(root, folder, name, cfg, success(seed), steps, every, dirty, exact, status))
    return runs


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """Hydra takes as long as everything else here."""
    return compose(list(overrides))


def _write(
    root: Path,
    name: str,
    identity: str,
    cfg: DictConfig,
    success: Success,
    steps: int,
    every: int,
    dirty: bool = True,
    exact: bool = False,
    status: str = "complete",
) -> RunInfo:
    with RunFolder.open(root, name, identity) as folder:
        folder.start_at(None, {})
        folder.write_config(cfg)
        folder.write_json("provenance.json", {"git": {"commit": "a" * 40, "dirty": dirty}, "model": None})
        folder.write_json("cost.json", {"lm/calls": 3, "seconds": 61.5})
        for step in range(0, steps + 1, every):
            row = {"env_steps": step, "eval/success": success(step), "lm/distinct_prompts": step * (cfg.seed + 1)}
            folder.append("metrics.jsonl", row | ({"eval/exact": True} if exact else {}))
            folder.append(
                "timing.jsonl", {"env_steps": step, "seconds": 0.5 + step / 100, "training_seconds": step / 100}
            )
        last = {"success": success(steps), "return": 0.12345, "length": 31.2}
        summary = {"status": status, "env_steps": steps, "eval": last, "eval_greedy": {**last, "success": 1.0}}
        folder.write_summary({**summary, "lm": {"queries": 4321}})
    return RunInfo(folder.path)
