"""How many transitions a learner needs: from finished offline runs of several sizes, with honest bounds. Pure numpy.

Success over log N is fitted by the closest curve that never falls (isotonic regression of the mean over seeds), and N*
is where that curve reaches a level. The estimate takes it to be straight between sizes in log N, which learning curves
are not: all that was measured is that N* is above one size, and at most the next. Intervals go from the one to the
other. Below the smallest size and above the largest one nothing was measured: N* is then between 0 and the smallest, or
between the largest and infinity. Intervals are 95 % percentile intervals over resamples of seeds, none from fewer than
five; of a ratio, both sides are given the same seeds (they drew the same data).

Shapes: S seeds, N sizes, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmrl.report.statistics import MIN_SEEDS, RESAMPLES, Estimate, digits, estimate

LEVELS = (0.5, 0.8, 0.95)
TEN = 10.0  # times fewer, that is 90 % fewer
FEW = 10  # seeds; with fewer nothing is claimed
_SAME = 1e-9


@dataclass(frozen=True)
class Arm:
    """Success of each seed at each size, all measured; sizes ascend."""

    label: str
    seeds: list[int]
    sizes: np.ndarray  # [N]
    success_SN: np.ndarray  # 0 to 1
    episodes: int = 0  # that each success is the mean of; 0: it is exact


@dataclass(frozen=True)
class Needed:
    """N* to one level. `alone`: the prior without data is at or above the level, so that N* says nothing; None: it may
    be, since it was not measured.
    """

    level: float
    transitions: Estimate
    alone: bool | None


def monotone(y_RN: np.ndarray) -> np.ndarray:
    """The isotonic regression of each row, of equal weights: max over i <= j of min over k >= j of mean(y_i..y_k)."""
    n = y_RN.shape[1]
    sums = np.concatenate([np.zeros((len(y_RN), 1)), y_RN.cumsum(1)], axis=1)
    fit = np.full(y_RN.shape, -np.inf)
    for i in range(n):
        means = (sums[:, i + 1 :] - sums[:, i : i + 1]) / np.arange(1, n - i + 1)  # of i..k, k = i, i + 1, ...
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]  # over k >= j, for j >= i
        fit[:, i:] = np.maximum(fit[:, i:], least)
    return fit


Bounds = tuple[np.ndarray, np.ndarray]  # [R] and [R]


def find_crossing(sizes: np.ndarray, fit_RN: np.ndarray, level: float) -> Bounds:
    """N* for each row: the same twice where it lies between two sizes, else what bounds it."""
    above = fit_RN >= level - _SAME
    first = above.argmax(1)
    rows, x = np.arange(len(fit_RN)), np.log(sizes)
    before = np.maximum(first - 1, 0)
    low, high = fit_RN[rows, before], fit_RN[rows, first]
    share = np.where(high > low, (level - low) / np.where(high > low, high - low, 1.0), 0.0)
    between = np.exp(x[before] + np.clip(share, 0.0, 1.0) * (x[first] - x[before]))
    never, at_once = ~above.any(1), above[:, 0]
    lower = np.where(never, sizes[-1], np.where(at_once, 0.0, between))
    upper = np.where(never, np.inf, np.where(at_once, sizes[0], between))
    return lower, upper


def bound_crossing(sizes: np.ndarray, fit_RN: np.ndarray, level: float) -> Bounds:
    """The bounds of N* for each row: the largest size that is too small, or 0, and the next, or infinity."""
    above = fit_RN >= level - _SAME
    first = np.where(above.any(1), above.argmax(1), sizes.size)
    return np.append(0.0, sizes)[first], np.append(sizes, np.inf)[first]


def estimate_needed(arm: Arm, level: float, alone: float = 0.0) -> Needed:
    """`alone`: the success of the arm's prior without any data; 0 where it has none, NaN where it was not measured."""
    low, high = find_crossing(arm.sizes, monotone(arm.success_SN.mean(0, keepdims=True)), level)
    low_R, high_R = _resample(arm, level)
    there = None if np.isnan(alone) else bool(alone >= level - _SAME)
    return Needed(level, estimate(low[0], high[0], low_R, high_R), there)


def ratio(a: Arm, b: Arm, level: float) -> Estimate:
    """N* of `b` over N* of `a`: how many times fewer `a` needs. Raises ValueError unless both have the same seeds."""
    if a.seeds != b.seeds:
        raise ValueError(f"{a.label} and {b.label} have other seeds, and are compared by seeds that drew the same data")
    (a_low, a_high), (b_low, b_high) = (
        find_crossing(arm.sizes, monotone(arm.success_SN.mean(0, keepdims=True)), level) for arm in (a, b)
    )
    (a_low_R, a_high_R), (b_low_R, b_high_R) = (_resample(arm, level) for arm in (a, b))
    return estimate(
        _over(b_low, a_high)[0], _over(b_high, a_low)[0], _over(b_low_R, a_high_R), _over(b_high_R, a_low_R)
    )


def claim(a: Arm, b: Arm, found: Estimate, to: Needed, against: Needed) -> str:
    """The claim, from the end of the interval and never from the estimate. `to` is of `a`, `against` of `b`."""
    level = f"to {100 * to.level:g} %"
    for arm, own in ((a, to), (b, against)):
        if own.alone:
            return f"{level}: no claim (the prior of {arm.label} alone is there without data)"
        if own.alone is None:
            return f"{level}: no claim (the success of {arm.label}'s prior without data was not measured)"
    if len(a.seeds) < FEW:
        return f"{level}: no claim ({len(a.seeds)} of {FEW} seeds)"
    if found.interval_low > TEN:
        return f"{level}: {a.label} needs over 90 % fewer transitions than {b.label}"
    if found.interval_low > 1:
        return f"{level}: {a.label} needs at least {digits(found.interval_low, -1)} times fewer than {b.label}"
    if found.interval_high < 1:
        return f"{level}: {a.label} needs at least {digits(1 / found.interval_high, -1)} times more than {b.label}"
    return f"{level}: no claim (the interval of the ratio holds 1)"


def common(arms: Sequence[Arm]) -> list[Arm]:
    """The arms with the seeds that all of them have. Raises ValueError where there is none."""
    seeds = sorted(set.intersection(*(set(arm.seeds) for arm in arms)))
    if not seeds:
        raise ValueError(f"no seed is complete in all of {', '.join(arm.label for arm in arms)}")
    return [replace(arm, seeds=seeds, success_SN=arm.success_SN[[arm.seeds.index(s) for s in seeds]]) for arm in arms]


def _resample(arm: Arm, level: float) -> Bounds:
    """`bound_crossing` for resamples of seeds: the same for all arms of so many seeds, one where seeds are too few."""
    seeds = len(arm.seeds)
    resamples = RESAMPLES if seeds >= MIN_SEEDS else 1
    counts_RS = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return bound_crossing(arm.sizes, monotone(counts_RS @ arm.success_SN / seeds), level)


def _over(b: np.ndarray, a: np.ndarray) -> np.ndarray:
    """b / a between bounds: nothing bounds it above where a may be 0, and below nothing is left where a is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isinf(a), 0.0, np.where(np.isinf(b) | (a == 0), np.inf, b / a))
