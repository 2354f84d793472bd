"""Estimates over seeds, with two-level bootstrap intervals that stay honest where seeds are censored. Pure numpy.

Two levels: seeds are drawn again, with replacement, and so are the episodes of each sampled evaluation. A seed that did
not get somewhere within its budget is censored: all that is known is that it needs at least the budget. It is kept, as
the pair of bounds (budget, infinity), and every figure made of it is a pair of bounds as well, so that what is printed
as a lower bound is one.

Shapes: S seeds, T evaluations, L replicates of a seed's evaluations, R resamples of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose, log10
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000  # of seeds
REPLICATES = 1000  # of a seed's episodes, for resamples to choose from
CONFIDENCE = 0.95
_SAME = 1e-9  # a success that was computed may miss a round threshold by rounding


@dataclass(frozen=True)
class SeedCurve:
    """One seed's evaluations, in order."""

    x_T: np.ndarray  # what was spent until then: decisions, prompts, seconds; never decreases
    success_T: np.ndarray  # 0 to 1
    episodes_T: np.ndarray  # how many were sampled; 0: the success is exact


@dataclass(frozen=True)
class Figures:
    """A figure of each seed, between two bounds: column 0 as measured, the others with the episodes drawn again."""

    low_SL: np.ndarray
    high_SL: np.ndarray  # equal to low where nothing is censored


@dataclass(frozen=True)
class Estimate:
    """A figure of a group, or of two, and its 95 % interval, which always holds it.

    The figure lies between `low` and `high`: they are equal unless censored seeds decide it, and `high` is infinite
    where nothing bounds it. So may be `interval_high`.
    """

    low: float
    high: float
    interval_low: float
    interval_high: float


def draw_episodes(curves: Sequence[SeedCurve], rng: np.random.Generator) -> list[np.ndarray]:
    """Per seed [1 + REPLICATES, T]: its successes, and what they might have been, were they the true chances."""
    drawn = []
    for curve in curves:
        n_T, p_T = curve.episodes_T.astype(int), np.clip(curve.success_T, 0.0, 1.0)
        again_LT = rng.binomial(n_T, p_T, size=(REPLICATES, p_T.size)) / np.maximum(n_T, 1)
        drawn.append(np.vstack([curve.success_T, np.where(n_T > 0, again_LT, curve.success_T)]))
    return drawn


def final(drawn: Sequence[np.ndarray]) -> Figures:
    """The success at the last evaluation; never at the best."""
    last_SL = np.array([success_LT[:, -1] for success_LT in drawn])
    return Figures(last_SL, last_SL)


def area(curves: Sequence[SeedCurve], drawn: Sequence[np.ndarray], grid: np.ndarray, log: bool) -> Figures:
    """The mean height of the curve over `grid` [G], 0 to 1: its area by the trapezoidal rule over the grid's length.

    Between evaluations the curve is straight. `log`: the length is measured in log x, and the grid is positive.
    """
    at = np.log(grid) if log else grid
    steps = np.diff(at) / 2
    share_G = (np.append(steps, 0) + np.append(0, steps)) / (at[-1] - at[0])
    heights = []
    for curve, success_LT in zip(curves, drawn, strict=True):
        share_T = np.array([np.interp(grid, curve.x_T, unit) for unit in np.eye(curve.x_T.size)]) @ share_G
        heights.append(success_LT @ share_T)
    return Figures(np.array(heights), np.array(heights))


def reached(curves: Sequence[SeedCurve], drawn: Sequence[np.ndarray], level: float) -> Figures:
    """What was spent until the first of two consecutive evaluations at or above `level`.

    A seed without one is censored at its last evaluation: (what was spent there, infinity).
    """
    low, high = [], []
    for curve, success_LT in zip(curves, drawn, strict=True):
        above = success_LT >= level - _SAME
        twice = np.pad(above[:, :-1] & above[:, 1:], ((0, 0), (0, 1)))  # the last one has no successor
        high.append(np.where(twice.any(1), curve.x_T[twice.argmax(1)], np.inf))
        low.append(np.minimum(high[-1], curve.x_T[-1]))
    return Figures(np.array(low), np.array(high))


def after_start(figures: Figures, curves: Sequence[SeedCurve]) -> Figures:
    """`reached` for ratios: what was there at 0 came somewhere between 0 and the first evaluation after it."""
    first = max(float(curve.x_T[curve.x_T > 0][0]) for curve in curves)
    return Figures(figures.low_SL, np.where(figures.high_SL == 0, first, figures.high_SL))


def mean(figures: Figures) -> Estimate:
    """Of figures without censoring."""
    return estimate(*_measured(figures, np.mean), *_resampled(figures, np.mean, _rng()))


def median(figures: Figures) -> Estimate:
    """Of an even number of seeds: the mean of the two in the middle, unknown above if one of them is censored."""
    return estimate(*_measured(figures, np.median), *_resampled(figures, np.median, _rng()))


def difference(a: Figures, b: Figures, paired: bool) -> Estimate:
    """Mean of `a` minus mean of `b`, neither censored. `paired`: row i of both is the same seed, drawn together."""
    (a_R, _), (b_R, _) = _both(a, b, np.mean, paired)
    point = a.low_SL[:, 0].mean() - b.low_SL[:, 0].mean()
    return estimate(point, point, a_R - b_R, a_R - b_R)


def ratio(a: Figures, b: Figures, paired: bool) -> Estimate:
    """Median of `b` over median of `a`: how many times fewer `a` needs. Figures of `after_start`.

    The lower bound takes b's censored seeds at their budget and a's at infinity, the upper bound the other way round.
    """
    (a_low, a_high), (b_low, b_high) = _measured(a, np.median), _measured(b, np.median)
    (a_low_R, a_high_R), (b_low_R, b_high_R) = _both(a, b, np.median, paired)
    return estimate(_over(b_low, a_high), _over(b_high, a_low), _over(b_low_R, a_high_R), _over(b_high_R, a_low_R))


def detectable_difference(a: Figures, b: Figures, power: float = 0.8) -> float | None:
    """The smallest true difference of means that such groups would show with this chance.

    By the normal approximation, two-sided at 95 %: (z_0.975 + z_power) sqrt(s_a^2 / n_a + s_b^2 / n_b). None where a
    group has one seed, or no seed of either differs from another: the variance is then unknown.
    """
    a_S, b_S = a.low_SL[:, 0], b.low_SL[:, 0]
    if min(a_S.size, b_S.size) < 2:
        return None
    error = float(np.sqrt(a_S.var(ddof=1) / a_S.size + b_S.var(ddof=1) / b_S.size))
    normal = NormalDist()
    return (normal.inv_cdf((1 + CONFIDENCE) / 2) + normal.inv_cdf(power)) * error if error > _SAME else None


def digits(value: float, direction: int = 0) -> str:
    """`value`, finite, in three digits and all those before the point; -1 rounds down, 1 up, 0 to the nearest.

    A lower bound that was rounded up would be none: 9.998 is at least 9.99, not at least 10.
    """
    decimals = max(0, 2 - floor(log10(abs(value)))) if value else 0
    scale = 10.0**decimals
    scaled = value * scale
    whole = round(scaled) if direction == 0 or isclose(scaled, round(scaled), rel_tol=1e-12) else None
    if whole is None:
        whole = ceil(scaled) if direction > 0 else floor(scaled)
    text = f"{whole / scale:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def common_grid(xs: Sequence[np.ndarray], log: bool = False) -> np.ndarray | None:
    """Where curves that were measured at `xs` are compared: at the points they share.

    Where they share too few (prompts, seconds: at most half of the points of the shortest curve, such as its two ends),
    100 points of the range that all of them cover, equally spaced, with `log` in log x. `log` leaves out what is not
    positive. None where no range is covered by all.
    """
    xs = [x[x > 0] if log else x for x in xs]
    if any(x.size == 0 for x in xs):
        return None
    distinct = [set(x.tolist()) for x in xs]
    shared = sorted(set.intersection(*distinct))
    if len(shared) >= 2 and 2 * len(shared) > min(map(len, distinct)):
        return np.array(shared)
    low, high = max(x[0] for x in xs), min(x[-1] for x in xs)
    if low >= high:
        return None
    return np.geomspace(low, high, 100) if log else np.linspace(low, high, 100)


Statistic = Callable[..., np.ndarray]  # a mean or a median, over the axis named
Bounds = tuple[np.ndarray, np.ndarray]  # low and high: [R] and [R], or numbers


def _rng() -> np.random.Generator:
    """The same draws for every figure, so that none depends on what else is asked for."""
    return np.random.default_rng(0)


def _measured(figures: Figures, statistic: Statistic) -> Bounds:
    return statistic(figures.low_SL[:, 0], axis=0), statistic(figures.high_SL[:, 0], axis=0)


def _resampled(
    figures: Figures, statistic: Statistic, rng: np.random.Generator, index_RS: np.ndarray | None = None
) -> Bounds:
    seeds, replicates = figures.low_SL.shape
    if index_RS is None:
        index_RS = rng.integers(seeds, size=(RESAMPLES, seeds))
    replicate_RS = rng.integers(1, replicates, size=index_RS.shape)
    low, high = (statistic(bound[index_RS, replicate_RS], axis=1) for bound in (figures.low_SL, figures.high_SL))
    return low, high


def _both(a: Figures, b: Figures, statistic: Statistic, paired: bool) -> tuple[Bounds, Bounds]:
    assert not paired or len(a.low_SL) == len(b.low_SL)
    rng = _rng()  # one for both: two that begin alike would pair what is not a pair
    index_RS = rng.integers(len(a.low_SL), size=(RESAMPLES, len(a.low_SL))) if paired else None
    return _resampled(a, statistic, rng, index_RS), _resampled(b, statistic, rng, index_RS)


def _over(b: np.ndarray | float, a: np.ndarray | float) -> np.ndarray:
    """b / a, where a bound of 0 below leaves the ratio unbounded, and an infinite one leaves nothing of it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isinf(b) | (np.asarray(a) == 0), np.inf, np.asarray(b) / a)


def estimate(low: np.ndarray | float, high: np.ndarray | float, low_R: np.ndarray, high_R: np.ndarray) -> Estimate:
    """Quantiles that were drawn, the outer ones: between a number and infinity there is nothing to interpolate.

    The percentile interval of a median may miss it; it is then extended to hold it.
    """
    tail = (1 - CONFIDENCE) / 2
    outer_low = np.quantile(low_R, tail, method="lower")
    outer_high = np.quantile(high_R, 1 - tail, method="higher")
    return Estimate(float(low), float(high), float(min(outer_low, low)), float(max(outer_high, high)))
