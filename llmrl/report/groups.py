"""Runs that belong together: those that differ only in their seed, what sets such groups apart, and their curves."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from llmrl.config.compose import ConfigError, check
from llmrl.config.unread import find_unread
from llmrl.core.files import flatten, read_lines
from llmrl.run.identity import free_settings
from llmrl.run.load import RunInfo

TITLES = {
    "env_steps": "decisions",
    "gradient_steps": "gradient steps",
    "transitions": "transitions",
    "primitive_steps": "primitive steps",
    "training_seconds": "seconds of training",
    "eval/success": "success",
    "eval_greedy/success": "success of the greedy policy",
    "train/success": "success in training",
    "lm/queries": "states the model was asked about",
    "lm/distinct_prompts": "distinct prompts",
    "lm/tokens": "tokens",
}


LABELS = {"encoder.name", "prompt.id"}  # they change no result, and tell a person which part it is


def group_runs(runs: Iterable[RunInfo], apart_from: Sequence[str] = ()) -> dict[str, list[RunInfo]]:
    """Label -> the runs that differ only in their seed (and in settings that cannot change a result).

    `apart_from`: other settings in which they may differ.
    """
    groups: dict[Hashable, list[RunInfo]] = defaultdict(list)
    flats: dict[Hashable, dict[str, Any]] = {}
    for run in runs:
        flat = {key: value for key, value in settings(run).items() if key not in apart_from}
        key = repr(sorted(flat.items()))
        groups[key].append(run)
        flats[key] = flat
    known = sorted(flats, key=str)  # so that a label does not depend on the order of the runs
    labels = dict(zip(known, _labels([flats[key] for key in known]), strict=True))
    return {labels[key]: group for key, group in groups.items()}


def settings(run: RunInfo) -> dict[str, Any]:
    """Dotted key -> value of every setting that the run reads and that can change its result, the seed aside.

    A setting that is younger than the run is there too, at what was done before it. A run whose config is no longer
    accepted tells what it has. Raises ConfigError where none was written, ValueError where it cannot be read.
    """
    if not run.config:
        raise ConfigError(f"{run.path} has no config.yaml, so its settings are unknown: leave it out")
    own = ("seed", "paths", "progress")  # in which runs of one group may differ; without them they share the work
    return dict(_settings(json.dumps({key: value for key, value in run.config.items() if key not in own})))


def rows(run: RunInfo) -> list[dict[str, Any]]:
    """The run's metrics, one row per evaluation, each joined with what the clock and the cache said then."""
    timing = {_at(row): row for row in read_lines(run.path / "timing.jsonl")}
    return [timing.get(_at(row), {}) | row for row in run.metrics]


def points(run: RunInfo, metric: str, x: str) -> tuple[np.ndarray, np.ndarray]:
    """(x, metric) at each evaluation that has both, by x; [T] and [T]. The later one counts where x stood still."""
    found = [(row[x], row[metric]) for row in rows(run) if row.get(x) is not None and row.get(metric) is not None]
    points_T2 = np.array(sorted(dict(found).items()), dtype=float).reshape(-1, 2)
    return points_T2[:, 0], points_T2[:, 1]


def _at(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row.get("env_steps"), row.get("gradient_steps")


@lru_cache(maxsize=1024)
def _settings(text: str) -> dict[str, Any]:
    config: Any = json.loads(text)
    with suppress(ConfigError):
        config = OmegaConf.to_container(check(OmegaConf.create(config))) if config else {}
    free = (free_settings(config) | set(find_unread(config)) | {"seed"}) - LABELS
    return {key: value for key, value in flatten(config).items() if key not in free}


def _labels(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which the groups differ, as few as tell them apart; learner and world by name."""
    if len(flats) == 1:
        return [str(flats[0].get("learner.name", "run"))]
    keys = list(dict.fromkeys(key for flat in flats for key in flat))
    return [" ".join(_part(key, flat.get(key), keys) for key in telling(flats)) for flat in flats]


def telling(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which these differ, as few as tell them apart, and learner and world where they differ."""
    keys = list(dict.fromkeys(key for flat in flats for key in flat))
    differing = [key for key in keys if len({repr(flat.get(key)) for flat in flats}) > 1]
    first = ["learner.name", "env.name", "prior.name", "lm.model", "lm.name", "encoder.name", "prompt.id"]
    differing.sort(key=lambda key: first.index(key) if key in first else len(first))
    chosen: list[str] = []
    for key in differing:
        told = _told_apart(flats, chosen)
        if key in first[:2] or _told_apart(flats, [*chosen, key]) > told:
            chosen.append(key)
    return chosen


def _told_apart(flats: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    return len({repr([flat.get(key) for key in keys]) for flat in flats})


def _part(key: str, value: Any, keys: Sequence[str]) -> str:
    """dqn_prior, or alpha=0.1; the whole key where several end alike."""
    last = key.rpartition(".")[2]
    if last in ("name", "model", "id"):
        return str(value) if value is not None else f"no {key.partition('.')[0]}"
    shown = last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key
    return f"{shown}={'null' if value is None else value}"
