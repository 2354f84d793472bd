"""Estimates over seeds, with intervals that hold where seeds are few, alike, or censored. Pure numpy.

Seeds are the unit: what episodes add to the spread of a figure is in the spread over seeds already. No interval is
given from fewer than MIN_SEEDS of them.

A time is known as an interval: after one evaluation, and no later than the next. A seed that did not get somewhere
within its budget is censored: all that is known is that it needs longer. Both are carried through every figure as
bounds, so that what is printed as a lower bound is one.

Shapes: S seeds, T evaluations, R resamples of seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, isclose, isnan, log10, nan, pi, sqrt, tan

import numpy as np

RESAMPLES = 10_000  # of seeds
CONFIDENCE = 0.95
MIN_SEEDS = 5  # of an interval
NO_INTERVAL = "no interval"  # is printed where there are fewer
PSEUDO = 0.5  # seeds at either end of the scale that a mean is given beside its own
KEPT = 1.645  # standard errors by which the success kept after a crossing has to be above a level: 95 %, one-sided
_SAME = 1e-9  # a success that was computed may miss a round threshold by rounding


@dataclass(frozen=True)
class SeedCurve:
    """One seed's evaluations, in order."""

    x_T: np.ndarray  # what was spent until then: decisions, prompts, seconds; never decreases
    success_T: np.ndarray  # 0 to 1
    episodes_T: np.ndarray  # how many were sampled; 0: the success is exact


@dataclass(frozen=True)
class Times:
    """The cost of each seed until it reached a level, as far as its evaluations tell."""

    after_S: np.ndarray  # the evaluation before: it spent more than this
    low_S: np.ndarray  # the evaluation at which it was there
    high_S: np.ndarray  # the same; infinite where it was not there, or not long enough to be sure


@dataclass(frozen=True)
class Estimate:
    """A figure of a group, or of two, and its 95 % interval, which always holds it.

    The figure lies between `low` and `high`: they are equal unless censored seeds decide it, and `high` is infinite
    where nothing bounds it. So may be `interval_high`. Both ends are NaN where no interval is given.
    """

    low: float
    high: float
    interval_low: float
    interval_high: float

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not isnan(self.interval_low)


def final(curves: Sequence[SeedCurve]) -> np.ndarray:
    """The success at the last evaluation [S]; never at the best."""
    return np.array([curve.success_T[-1] for curve in curves])


def area(curves: Sequence[SeedCurve], grid: np.ndarray, log: bool) -> np.ndarray:
    """[S]: the mean height of each curve over `grid` [G], 0 to 1: its area by the trapezoidal rule, over its length.

    Between evaluations the curve is straight. `log`: the length is measured in log x, and the grid is positive.
    """
    at = np.log(grid) if log else grid
    heights_SG = np.stack([np.interp(grid, curve.x_T, curve.success_T) for curve in curves])
    return np.trapezoid(heights_SG, at, axis=1) / (at[-1] - at[0])


def find_times(curves: Sequence[SeedCurve], level: float) -> Times:
    """The cost until success was at or above `level`, and stayed there on average until the last evaluation.

    That is where the isotonic regression of the curve, of equal weights, crosses the level. From that evaluation on,
    the sum of (success - level) is greatest. It favours neither steep nor flat curves, nor many evaluations. The seed
    has reached the level if at least two evaluations are left, and if the sum is large enough. It must be positive by
    KEPT standard errors of episodes sampled at that level; exact evaluations have none. Else the seed is censored
    there.
    """
    after, low, high = [], [], []
    for curve in curves:
        n_T = curve.episodes_T
        variance_T = np.where(n_T > 0, level * (1 - level) / np.maximum(n_T, 1), 0.0)
        excess_T, noise_T = (v[::-1].cumsum()[::-1] for v in (curve.success_T - level + _SAME, variance_T))
        first = int(excess_T.argmax())
        if excess_T[first] <= 0:
            after.append(curve.x_T[-1])
            low.append(curve.x_T[-1])
            high.append(np.inf)
            continue
        sure = first < curve.x_T.size - 1 and excess_T[first] >= KEPT * sqrt(noise_T[first])
        after.append(curve.x_T[first - 1] if first else 0.0)  # nothing says what was so before the first evaluation
        low.append(curve.x_T[first])
        high.append(curve.x_T[first] if sure else np.inf)
    return Times(*(np.array(bound, dtype=float) for bound in (after, low, high)))


def after_start(times: Times, curves: Sequence[SeedCurve]) -> Times:
    """`find_times` for ratios: what was there at 0 came somewhere between 0 and the first evaluation after it."""
    first = max(float(curve.x_T[curve.x_T > 0][0]) for curve in curves)
    return Times(times.after_S, times.low_S, np.where(times.high_S == 0, first, times.high_S))


def mean(share_S: np.ndarray) -> Estimate:
    """The mean of shares, from 0 to 1: Student's t, with one more seed, half of it at 0 and half at 1.

    So an interval has a width where all seeds are alike, as when all won. It allows for a kind of seed that has not
    occurred, such as one in ten that fails. scripts/bench/statistics.py simulates how often intervals hold.
    """
    point = float(share_S.mean())
    return around(point, moments(share_S, 0.0, 1.0, PSEUDO), 0.0) if share_S.size >= MIN_SEEDS else _alone(point)


def difference(a_S: np.ndarray, b_S: np.ndarray, paired: bool) -> Estimate:
    """Mean of `a` minus mean of `b`, both shares: Student's t, by seed where `paired` (row i of both is the same seed),
    else of Welch. Each side has half a seed more, as in `mean` (Agresti and Caffo, 2000, share them out so).
    """
    point = float(a_S.mean() - b_S.mean())
    enough = min(a_S.size, b_S.size) >= MIN_SEEDS
    return around(point, _difference(a_S, b_S, paired), -1.0) if enough else _alone(point)


def median(times: Times) -> Estimate:
    """The median over seeds. Of an even number it is the mean of the two in the middle.

    It is unknown above if one of those two is censored. The interval is that of resamples of seeds, from the
    evaluations before to those after.
    """
    (index_RS,) = _resample(times)
    low, high = (float(np.median(bound)) for bound in (times.low_S, times.high_S))
    return estimate(low, high, _medians(times.after_S, index_RS), _medians(times.high_S, index_RS))


def ratio(a: Times, b: Times, paired: bool) -> Estimate:
    """Median of `b` over median of `a`: how many times fewer `a` needs. Times of `after_start`.

    The lower bound takes b's censored seeds at their budget and a's at infinity, the upper bound the other way round.
    The ends of the interval also take the evaluation before on one side, and the one after on the other. `paired`: row
    i of both is the same seed, drawn together.
    """
    a_RS, b_RS = _resample(a) * 2 if paired else _resample(a, b)
    low = _over(np.median(b.low_S), np.median(a.high_S))
    high = _over(np.median(b.high_S), np.median(a.low_S))
    low_R = _over(_medians(b.after_S, b_RS), _medians(a.high_S, a_RS))
    high_R = _over(_medians(b.high_S, b_RS), _medians(a.after_S, a_RS))
    return estimate(low, high, low_R, high_R)


def detectable_difference(a_S: np.ndarray, b_S: np.ndarray, power: float = 0.8) -> float | None:
    """The smallest true difference of means that `difference` of such groups, not paired, would show with this chance:
    its standard error times (t_0.975 + t_power). None where it has no interval.
    """
    if min(a_S.size, b_S.size) < MIN_SEEDS:
        return None
    _, error, freedom = _difference(a_S, b_S, False)
    return error * (t_quantile(CONFIDENCE, freedom) + t_quantile(2 * power - 1, freedom))


@lru_cache(maxsize=1024)
def t_quantile(confidence: float, freedom: float) -> float:
    """The t at which Student's distribution has this share between -t and t; `freedom` is at least 1.

    With t = sqrt(freedom) tan(angle), the density of the angle is cos(angle) ** (freedom - 1).
    """
    angle = np.linspace(0, pi / 2, 20_001)
    density = np.cos(angle) ** (freedom - 1)
    share = np.append(0, np.cumsum(density[1:] + density[:-1]))
    return sqrt(freedom) * tan(float(np.interp(confidence, share / share[-1], angle)))


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


Moments = tuple[float, float, float]  # the middle of a mean, its standard error, and the degrees of freedom of that


def moments(value_S: np.ndarray, least: float, greatest: float, weight: float) -> Moments:
    """The mean and variance of seeds, with `weight` pseudo-observations at either end."""
    total = value_S.size + 2 * weight
    middle = (value_S.sum() + weight * (least + greatest)) / total
    squares = ((value_S - middle) ** 2).sum() + weight * ((least - middle) ** 2 + (greatest - middle) ** 2)
    return float(middle), sqrt(squares / (total - 1) / total), max(1, value_S.size - 1)


def _difference(a_S: np.ndarray, b_S: np.ndarray, paired: bool) -> Moments:
    if paired:
        return moments(a_S - b_S, -1.0, 1.0, PSEUDO / 4)  # of half a pair, half has both sides alike
    (a, a_error, a_freedom), (b, b_error, b_freedom) = (moments(v_S, 0.0, 1.0, PSEUDO / 2) for v_S in (a_S, b_S))
    square = a_error**2 + b_error**2
    return a - b, sqrt(square), square**2 / (a_error**4 / a_freedom + b_error**4 / b_freedom)


def around(point: float, found: Moments, least: float) -> Estimate:
    """The interval of these moments, from `least` to 1 at most."""
    middle, error, freedom = found
    half = t_quantile(CONFIDENCE, freedom) * error
    return Estimate(point, point, max(least, min(middle - half, point)), min(1.0, max(middle + half, point)))


def _alone(low: float, high: float | None = None) -> Estimate:
    """Without an interval."""
    return Estimate(low, low if high is None else high, nan, nan)


def _resample(*groups: Times) -> list[np.ndarray]:
    """Seeds drawn again [R, S], for each group; the same draws for every figure, whatever else is asked for."""
    rng = np.random.default_rng(0)
    sizes = [group.low_S.size for group in groups]
    return [rng.integers(seeds, size=(RESAMPLES if min(sizes) >= MIN_SEEDS else 1, seeds)) for seeds in sizes]


def _medians(value_S: np.ndarray, index_RS: np.ndarray) -> np.ndarray:
    return np.median(value_S[index_RS], axis=1)


def _over(b: np.ndarray | float, a: np.ndarray | float) -> np.ndarray:
    """b / a, where a bound of 0 below leaves the ratio unbounded, and an infinite one leaves nothing of it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isinf(b) | (np.asarray(a) == 0), np.inf, np.asarray(b) / a)


def estimate(low: np.ndarray | float, high: np.ndarray | float, low_R: np.ndarray, high_R: np.ndarray) -> Estimate:
    """Quantiles that were drawn, the outer ones: between a number and infinity there is nothing to interpolate.

    The percentile interval of a median may miss it; it is then extended to hold it. A single draw is no interval.
    """
    if low_R.size < 2:
        return _alone(float(low), float(high))
    tail = (1 - CONFIDENCE) / 2
    outer_low = np.quantile(low_R, tail, method="lower")
    outer_high = np.quantile(high_R, 1 - tail, method="higher")
    return Estimate(float(low), float(high), float(min(outer_low, low)), float(max(outer_high, high)))
