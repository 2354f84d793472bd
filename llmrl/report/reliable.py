"""Robust statistics over seeds, and over tasks where there are several (Agarwal et al., 2021, arXiv:2108.13264).

- The interquartile mean leaves out the lowest and the highest quarter of all runs (section 4.3).
- The probability of improvement is that of a random run of X above a random run of Y in the same task, ties counted
  half, averaged over tasks: the Mann-Whitney statistic over all pairs (section 4.3).
- A performance profile is the share of all runs whose score is above each threshold (section 4.2).
- Intervals are 95 % percentile intervals of the stratified bootstrap: seeds are drawn again in each task, those of one
  task apart from those of another (section 4.1). Of fewer than MIN_SEEDS there is none. They are narrower than those of
  `llmrl.report.statistics`: they know of nothing that did not occur.

Shapes: S seeds, K tasks, R resamples, H thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import numpy as np

from llmrl.report import statistics
from llmrl.report.statistics import MIN_SEEDS, Estimate, estimate

TRIMMED = 0.25  # of all runs, at either end


def interquartile_mean(score_SK: np.ndarray) -> Estimate:
    """The mean of all runs without the lowest and the highest S K / 4 of them, rounded down."""
    return _bootstrap(_trimmed_mean, score_SK)


def probability_of_improvement(x_SK: np.ndarray, y_SK: np.ndarray) -> Estimate:
    """That a run of `x` is above one of `y`. They may have different numbers of seeds, and have the same tasks."""
    if x_SK.shape[1] != y_SK.shape[1]:
        raise ValueError(f"{x_SK.shape[1]} tasks and {y_SK.shape[1]}: an improvement is one in the same task")
    return _bootstrap(_above, x_SK, y_SK)


def performance_profile(score_SK: np.ndarray, threshold_H: np.ndarray) -> list[Estimate]:
    """The share of runs above each threshold, with pointwise intervals."""
    return [_bootstrap(lambda score_RSK, at=at: (score_RSK > at).mean((1, 2)), score_SK) for at in threshold_H]


def _trimmed_mean(score_RSK: np.ndarray) -> np.ndarray:
    flat = np.sort(score_RSK.reshape(len(score_RSK), -1), axis=1)
    cut = int(TRIMMED * flat.shape[1])
    return flat[:, cut : flat.shape[1] - cut].mean(1)


def _above(x_RSK: np.ndarray, y_RSK: np.ndarray) -> np.ndarray:
    tasks = []
    for k in range(x_RSK.shape[2]):
        x, y = x_RSK[:, :, None, k], y_RSK[:, None, :, k]
        tasks.append((x > y).mean((1, 2)) + (x == y).mean((1, 2)) / 2)
    return np.mean(tasks, axis=0)


def _bootstrap(figure: Callable[..., np.ndarray], *sides: np.ndarray) -> Estimate:
    point = float(figure(*(side[None] for side in sides))[0])
    if min(len(side) for side in sides) < MIN_SEEDS:
        return Estimate(point, point, nan, nan)
    rng = np.random.default_rng(0)
    again = []
    for side in sides:
        index_RSK = rng.integers(len(side), size=(statistics.RESAMPLES, *side.shape))
        again.append(np.take_along_axis(side[None], index_RSK, axis=1))
    figure_R = figure(*again)
    return estimate(point, point, figure_R, figure_R)
