"""Rows of a run's logs: the means since the last evaluation, and one line for each episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrl.answers.answers import AnswerCounts, Answers
from llmrl.rollout.rollout import Episode


class Since:
    """The sums since the last evaluation."""

    def __init__(self) -> None:
        self.returns: list[float] = []
        self.successes: list[bool] = []
        self.covered = self.with_expert = 0
        self.values: dict[str, list[float]] = {}

    def add(self, episodes: list[Episode], covered: int, with_expert: int, metrics: Mapping[str, float]) -> None:
        self.returns += [e.ret for e in episodes]
        self.successes += [e.success for e in episodes]
        self.covered += covered
        self.with_expert += with_expert
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def save(self) -> dict[str, Any]:
        return vars(self)

    def restore(self, saved: Mapping[str, Any]) -> None:
        vars(self).update(saved)

    def metrics(self) -> dict[str, float | None]:
        return {
            "train/return": _mean(self.returns),
            "train/success": _mean(self.successes),
            "prior/coverage": self.covered / self.with_expert if self.with_expert else None,
            **{name: _mean(values) for name, values in self.values.items()},
        }


def episode_row(e: Episode) -> dict[str, Any]:
    return {
        "env": e.env,
        "episode": e.number,
        "task": e.task_id,
        "return": e.ret,
        "success": e.success,
        "length": e.decisions,
        "primitive_steps": e.primitive_steps,
    }


def attempt_cost(answers: Answers | None, seconds: float, training_seconds: float) -> dict[str, Any]:
    """The cost of this attempt at a run; `training_seconds` leave evaluations out."""
    counts = answers.counts if answers else AnswerCounts()
    return {
        "attempts": 1,
        "lm/calls": counts.calls,
        "lm/computed": counts.computed,
        "lm/cache_hits": counts.hits,
        "lm/tokens": counts.scored_tokens,
        "lm/outages": 0,
        **(answers.counters() if answers else {}),
        "seconds": seconds,
        "training_seconds": training_seconds,
    }


def block(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _mean(values: list[Any]) -> float | None:
    return float(np.mean(values)) if values else None
