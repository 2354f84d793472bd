"""How many transitions are needed: fits that never fall, bounds where nothing was measured, ratios by seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.report.statistics import Estimate
from llmrl.report.transitions import Arm, bound_crossing, claim, common, estimate_needed, find_crossing, monotone, ratio

SIZES = np.array([100.0, 1000.0, 10000.0])


def arm(label: str, *curves: list[float], seeds: list[int] | None = None) -> Arm:
    return Arm(label, seeds or list(range(len(curves))), SIZES, np.array(curves))


def pooled(y: list[float]) -> list[float]:
    """Pool adjacent violators, one after another."""
    blocks: list[list[float]] = []
    for value in y:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [float(np.mean(block)) for block in blocks for _ in block]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=4))
def test_the_fit_is_that_of_pooling_adjacent_violators(rows: list[list[float]]) -> None:
    found = monotone(np.array(rows))
    assert found == pytest.approx(np.array([pooled(row) for row in rows]), abs=1e-12)
    assert (np.diff(found, axis=1) >= -1e-12).all()


def test_a_level_is_reached_between_sizes_in_log_n() -> None:
    low, high = find_crossing(
        SIZES, np.array([[0.0, 0.4, 0.8], [0.6, 0.7, 0.8], [0.0, 0.1, 0.2], [0.0, 0.5, 0.5]]), 0.5
    )
    assert low == pytest.approx([1000 * 10**0.25, 0, 10000, 1000])
    assert high == pytest.approx([1000 * 10**0.25, 100, np.inf, 1000])


def test_needed_holds_its_estimate_and_says_when_the_prior_is_there_already() -> None:
    found = estimate_needed(arm("a", [0.0, 0.4, 0.8], [0.1, 0.6, 0.9], *[[0.0, 0.5, 0.7]] * 3), 0.5, alone=0.3)
    assert found.transitions.interval_low <= found.transitions.low == found.transitions.high
    assert found.transitions.high <= found.transitions.interval_high
    assert not found.alone
    assert estimate_needed(arm("a", [0.0, 0.4, 0.8]), 0.5, alone=0.5).alone
    assert not estimate_needed(arm("a", [0.0, 0.4, 0.8]), 0.5).alone


def test_a_ratio_of_curves_that_are_shifted_by_ten_is_ten_whatever_the_seeds() -> None:
    fast = arm("fast", *[[0.0, 1.0, 1.0], [0.2, 0.9, 1.0], [0.4, 0.8, 1.0]] * 2)
    slow = arm("slow", *[[0.0, 0.0, 1.0], [0.0, 0.2, 0.9], [0.0, 0.4, 0.8]] * 2)
    found = ratio(fast, slow, 0.6)
    assert (found.low, found.high) == pytest.approx((10, 10), rel=0.2)
    assert 1 <= found.interval_low <= found.interval_high <= 100


def test_what_is_censored_is_a_bound() -> None:
    never, soon = arm("never", [0.0, 0.1, 0.2]), arm("soon", [0.0, 0.5, 1.0])
    found = ratio(soon, never, 0.5)
    assert (found.low, found.high) == (pytest.approx(10), np.inf)
    back = ratio(never, soon, 0.5)
    assert (back.low, back.high) == (0, pytest.approx(0.1))
    at_once = arm("at once", [0.9, 1.0, 1.0])
    found = ratio(at_once, soon, 0.5)
    assert (found.low, found.high) == (pytest.approx(10), np.inf)
    assert ratio(never, never, 0.5).low == 0
    assert ratio(never, never, 0.5).high == np.inf


def test_other_seeds_are_not_compared_but_the_common_ones_are() -> None:
    a = arm("a", [0, 0, 0.1], [0, 0, 0.2], seeds=[0, 1])
    b = arm("b", [0, 0, 0.3], [0, 0, 0.4], seeds=[1, 2])
    with pytest.raises(ValueError, match="other seeds"):
        ratio(a, b, 0.5)
    x, y = common([a, b])
    assert (x.seeds, y.seeds) == ([1], [1])
    assert (x.success_SN[0, -1], y.success_SN[0, -1]) == (0.2, 0.3)
    with pytest.raises(ValueError, match="no seed is complete"):
        common([a, arm("c", [0, 0, 0], seeds=[7])])


def test_an_interval_ends_at_sizes_that_were_measured() -> None:
    """Between two sizes nothing was: equal seeds leave it open where the curve crosses there."""
    fast, slow = arm("fast", *[[0.0, 1.0, 1.0]] * 5), arm("slow", *[[0.0, 0.0, 1.0]] * 5)
    found = estimate_needed(fast, 0.5).transitions
    assert (found.interval_low, found.interval_high) == (100, 1000)
    both = ratio(fast, slow, 0.5)
    assert both.low == pytest.approx(10)
    assert (both.interval_low, both.interval_high) == (1, 100)


def test_fewer_than_five_seeds_have_no_interval() -> None:
    few = arm("few", *[[0.0, 0.5, 1.0]] * 4)
    assert not estimate_needed(few, 0.4).transitions.known
    assert not ratio(few, few, 0.4).known


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted), st.floats(0.05, 1))
def test_what_was_measured_holds_the_estimate(success: list[float], level: float) -> None:
    fit = np.array([success])
    low, high = find_crossing(SIZES, fit, level)
    least, most = bound_crossing(SIZES, fit, level)
    assert least[0] <= low[0] * (1 + 1e-9)
    assert low[0] <= high[0] <= most[0] * (1 + 1e-9)
    assert np.isinf(most[0]) == np.isinf(high[0])


@pytest.mark.parametrize(
    ("low", "high", "alone", "other", "seeds", "said"),
    [
        (10.5, 40, 0.0, 0.0, 10, "to 80 %: a needs over 90 % fewer transitions than b"),
        (9.99, 40, 0.0, 0.0, 10, "to 80 %: a needs at least 9.99 times fewer than b"),
        (0.5, 40, 0.0, 0.0, 10, "no claim (the interval of the ratio holds 1)"),
        (0.1, 0.5, 0.0, 0.0, 10, "to 80 %: a needs at least 2 times more than b"),
        (10.5, 40, 0.9, 0.0, 10, "no claim (the prior of a alone is there without data)"),
        (0.1, 0.5, 0.0, 0.8, 10, "no claim (the prior of b alone is there without data)"),
        (10.5, 40, np.nan, 0.0, 10, "no claim (the success of a's prior without data was not measured)"),
        (10.5, 40, 0.0, 0.0, 9, "no claim (9 of 10 seeds)"),
    ],
)
def test_claims_come_from_the_end_of_the_interval(
    low: float, high: float, alone: float, other: float, seeds: int, said: str
) -> None:
    a, b = (arm(label, *[[0.0, 0.5, 1.0]] * seeds) for label in "ab")
    assert said in claim(
        a, b, Estimate(20, 20, low, high), estimate_needed(a, 0.8, alone), estimate_needed(b, 0.8, other)
    )
