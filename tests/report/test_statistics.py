from __future__ import annotations

from math import inf, isfinite, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.report import statistics
from llmrl.report.statistics import KEPT, SeedCurve, Times, digits

X = np.array([0.0, 100, 200, 300, 400])


def seed(success: list[float], episodes: int = 0, x: np.ndarray = X) -> SeedCurve:
    x = x[: len(success)]
    return SeedCurve(x, np.array(success), np.full(x.size, episodes))


def measured(values: list[float], budget: float = 400.0, step: float = 0.0) -> Times:
    """Seeds of which this is known; infinite: censored at the budget. They were not there `step` before."""
    high = np.array(values, dtype=float)
    low = np.minimum(high, budget)
    return Times(np.where(np.isfinite(high), low - step, low), low, high)


def reached(curve: SeedCurve, level: float = 0.8) -> tuple[float, float, float]:
    """After, at, and certainly at."""
    times = statistics.find_times([curve], level)
    return float(times.after_S[0]), float(times.low_S[0]), float(times.high_S[0])


# ---- decisions to a threshold ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("success", "expected"),
    [
        ([0, 0.8, 0.9, 0.8, 0.9], (0, 100, 100)),
        ([0, 0.8, 0.7, 0.8, 0.8], (200, 300, 300)),  # not kept, on average, from 100 on
        ([0, 0.9, 0.75, 0.8, 0.8], (0, 100, 100)),  # kept on average, in spite of one below
        ([0.9, 0.9, 0.9, 0.9, 0.9], (0, 0, 0)),
        ([0.9, 0.9, 0, 0, 0], (400, 400, inf)),  # lost again
        ([0, 0, 0, 0, 0.9], (300, 400, inf)),  # perhaps: the last one has no second
        ([0, 0, 0, 0, 0], (400, 400, inf)),
        ([0.9], (0, 0, inf)),
        ([0, 0.8 - 1e-12, 0.8, 0.8, 0.8], (0, 100, 100)),
    ],
)
def test_a_threshold_is_reached_where_success_stays_above_it(
    success: list[float], expected: tuple[float, float, float]
) -> None:
    assert reached(seed(success)) == expected


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.floats(0.1, 1))
def test_the_crossing_is_that_of_isotonic_regression(success: list[float], level: float) -> None:
    from llmrl.report.transitions import monotone

    fit = monotone(np.array([success]))[0]
    above = fit >= level - 1e-9
    _, at, _ = reached(seed(success), level)
    near = np.abs(fit - level).min() < 1e-6  # rounding decides
    assert near or at == (X[above.argmax()] if above.any() else X[len(success) - 1])


def test_sampled_success_is_above_a_level_by_what_its_episodes_allow() -> None:
    """Four evaluations of n episodes at 0.85 exceed 0.8 by 0.2 in sum; the noise of that is sqrt(4 * 0.16 / n)."""
    enough = 4 * 0.16 * (KEPT / 0.2) ** 2
    for episodes, there in ((int(enough), False), (int(enough) + 1, True), (0, True)):
        after, at, sure = reached(seed([0, 0.85, 0.85, 0.85, 0.85], episodes))
        assert (after, at, isfinite(sure)) == (0, 100, there)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([10, 40, 160]), st.sampled_from([30, 100]))
def test_the_bounds_of_a_time_are_in_order(random: int, looks: int, episodes: int) -> None:
    rng = np.random.default_rng(random)
    x_T = np.arange(looks, dtype=float)
    curve = SeedCurve(x_T, rng.binomial(episodes, rng.random(looks)) / episodes, np.full(looks, episodes))
    after, at, sure = reached(curve)
    assert after <= at <= sure
    assert sure in (at, inf)


def test_what_was_there_at_the_start_came_before_the_first_evaluation_after_it() -> None:
    curves = [seed([1, 1, 1]), seed([0, 1, 1])]
    ranged = statistics.after_start(statistics.find_times(curves, 0.8), curves)
    assert ranged.after_S.tolist() == [0, 0]
    assert ranged.low_S.tolist() == [0, 100]
    assert ranged.high_S.tolist() == [100, 100]
    # as quick as one can tell: at least 400 / 100, and nobody knows how much more
    soon = Times(*(np.repeat(bound[:1], 5) for bound in (ranged.after_S, ranged.low_S, ranged.high_S)))
    r = statistics.ratio(soon, measured([400.0] * 5), False)
    assert (r.low, r.high, r.interval_low) == (4, inf, 4)


# ---- medians and ratios ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([100, 200, 300], 200, 200),
        ([100, 300], 200, 200),
        ([100, 200, inf], 200, 200),
        ([100, inf, inf], 400, inf),
        ([100, 200, inf, inf], 300, inf),  # between 200 and a censored one: more than (200 + 400) / 2
        ([inf], 400, inf),
    ],
)
def test_a_median_with_censored_seeds_is_a_number_or_a_bound(values: list[float], low: float, high: float) -> None:
    found = statistics.median(measured(values))
    assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ([100, 100, 100], [300, 300, 300], 3, 3),
        ([100, 100, 100], [300, inf, inf], 4, inf),
        ([100, inf, inf], [200, 200, 200], 0, 0.5),
        ([inf, inf], [inf, inf], 0, inf),
    ],
)
def test_a_ratio_of_censored_medians_is_what_is_known_of_it(
    a: list[float], b: list[float], low: float, high: float
) -> None:
    found = statistics.ratio(measured(a), measured(b), False)
    assert (found.low, found.high) == (low, high)


def test_the_interval_of_a_ratio_is_that_of_all_resamples() -> None:
    """Five seeds a side: 3,125 x 3,125 equally likely resamples, counted."""
    a, b = [100.0, 200.0, 300.0, 400.0, 500.0], [400.0, 800.0, 900.0, inf, inf]
    index = np.stack(np.meshgrid(*[range(5)] * 5), -1).reshape(-1, 5)
    (a_values, a_counts), (b_values, b_counts) = (
        np.unique(np.median(np.minimum(side, 1000)[index], axis=1), return_counts=True) for side in (a, b)
    )
    low = (b_values[:, None] / a_values).ravel()
    share = np.outer(b_counts, a_counts).ravel() / len(index) ** 2
    found = statistics.ratio(measured(a), measured(b, budget=1000), False)
    assert share[low < found.interval_low].sum() <= 0.025 <= share[low <= found.interval_low].sum()
    assert found.interval_high == inf


times = st.lists(st.sampled_from([50.0, 100, 200, 300, 400, inf]), min_size=5, max_size=8)


@settings(max_examples=40, deadline=None)
@given(times, times, st.booleans())
def test_intervals_hold_the_estimate(a: list[float], b: list[float], paired: bool) -> None:
    size = min(len(a), len(b))
    one, other = measured(a[:size] if paired else a), measured(b[:size] if paired else b)
    for found in (statistics.median(one), statistics.ratio(one, other, paired)):
        assert found.interval_low <= found.low <= found.high <= found.interval_high


@settings(max_examples=40, deadline=None)
@given(times, times, st.data())
def test_more_censoring_never_lowers_a_lower_bound(a: list[float], b: list[float], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(b) - 1))
    worse = [*b[:i], inf, *b[i + 1 :]]
    before, after = (statistics.ratio(measured(a), measured(side), False) for side in (b, worse))
    assert after.low >= before.low
    assert after.interval_low >= before.interval_low
    before, after = (statistics.median(measured(side)) for side in (b, worse))
    assert after.low >= before.low
    assert after.interval_low >= before.interval_low


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([50.0, 100, 200, 300]), min_size=5, max_size=8), st.floats(500, 5000), st.data())
def test_a_longer_run_confirms_the_bounds_of_a_shorter_one(b: list[float], budget: float, data: st.DataObject) -> None:
    """Whatever a censored seed would have needed lies within what was said of it."""
    truth = [data.draw(st.floats(400, budget)) if data.draw(st.booleans()) else value for value in b]
    seen = [value if value < 400 else inf for value in truth]
    a = measured([100.0, 100.0, 200.0, 200.0, 200.0])
    said, true = statistics.ratio(a, measured(seen), False), statistics.ratio(a, measured(truth, budget), False)
    assert said.low <= true.low <= said.high
    assert said.interval_low <= true.interval_low
    assert true.interval_high <= said.interval_high


def test_equal_groups_compared_by_seed_have_a_ratio_of_one() -> None:
    a = measured([100.0, 150.0, 200.0, 250.0, 300.0])
    paired, unpaired = statistics.ratio(a, a, True), statistics.ratio(a, a, False)
    assert (paired.interval_low, paired.low, paired.interval_high) == (1, 1, 1)
    assert unpaired.interval_low < 1 < unpaired.interval_high


def test_a_claim_allows_for_a_step_of_the_grid_on_both_sides() -> None:
    """Ten seeds a side that arrive at the same evaluation: all that is known lies within a step."""
    a, b = measured([126.0] * 10, 4000, 26), measured([1270.0] * 10, 4000, 262)
    found = statistics.ratio(a, b, False)
    assert found.low == found.high == pytest.approx(1270 / 126)
    assert found.interval_low == pytest.approx(1008 / 126)
    assert found.interval_high == pytest.approx(1270 / 100)
    needed = statistics.median(a)
    assert (needed.interval_low, needed.low, needed.interval_high) == (100, 126, 126)


# ---- shares ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "confidence", "table"),  # of the t table, two-sided
    [(1, 0.95, 12.706), (4, 0.95, 2.776), (9, 0.95, 2.262), (19, 0.99, 2.861), (4, 0.6, 0.941), (100_000, 0.95, 1.960)],
)
def test_quantiles_of_student(freedom: float, confidence: float, table: float) -> None:
    assert statistics.t_quantile(confidence, freedom) == pytest.approx(table, abs=6e-4)


@given(st.floats(1, 200), st.floats(0.05, 0.99))
def test_more_freedom_and_less_confidence_make_intervals_narrower(freedom: float, confidence: float) -> None:
    here = statistics.t_quantile(confidence, freedom)
    assert statistics.t_quantile(confidence, freedom + 1) <= here * (1 + 1e-6)
    assert statistics.t_quantile(confidence * 0.9, freedom) < here


def test_the_interval_of_a_mean_is_students_with_one_more_seed() -> None:
    """Seeds of 0.5 and 0.7, five each: by hand, with half a seed at 0 and half a one at 1."""
    found = statistics.mean(np.array([0.5, 0.7] * 5))
    middle = (5 * 0.5 + 5 * 0.7 + 0.5) / 11
    squares = 5 * (0.5 - middle) ** 2 + 5 * (0.7 - middle) ** 2 + 0.5 * middle**2 + 0.5 * (1 - middle) ** 2
    half = 2.26216 * sqrt(squares / 10 / 11)
    assert (found.low, found.high) == (pytest.approx(0.6), pytest.approx(0.6))
    assert (found.interval_low, found.interval_high) == pytest.approx((middle - half, middle + half), abs=1e-4)


def test_what_all_seeds_did_may_still_not_be_what_every_seed_does() -> None:
    widths = []
    for seeds in (5, 10, 20, 100):
        won, lost = (statistics.mean(np.full(seeds, end)) for end in (1.0, 0.0))
        assert won.low == won.interval_high == 1
        assert lost.interval_high == pytest.approx(1 - won.interval_low)
        same = statistics.difference(np.ones(seeds), np.ones(seeds), False)
        paired = statistics.difference(np.ones(seeds), np.ones(seeds), True)
        assert same.interval_low < 0 < same.interval_high
        assert paired.interval_low < 0 < paired.interval_high
        widths.append(1 - won.interval_low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.02


share = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(share, share)
def test_intervals_of_shares_hold_the_estimate_and_have_a_width(a: list[float], b: list[float]) -> None:
    size = min(len(a), len(b))
    found = [
        statistics.mean(np.array(a)),
        statistics.difference(np.array(a), np.array(b), False),
        statistics.difference(np.array(a[:size]), np.array(b[:size]), True),
    ]
    for each, seeds, least in zip(found, (len(a), size, size), (0, -1, -1), strict=True):
        assert each.low == each.high
        assert each.known == (seeds >= 5)
        if each.known:
            assert least <= each.interval_low <= each.low <= each.interval_high <= 1
            assert each.interval_low < each.interval_high


@given(st.lists(st.sampled_from([50.0, 100, 200, inf]), min_size=1, max_size=4))
def test_fewer_than_five_seeds_have_no_interval(values: list[float]) -> None:
    few, many = measured(values), measured([100.0] * 10)
    for found in (statistics.median(few), statistics.ratio(few, many, False), statistics.ratio(many, few, False)):
        assert not found.known
        assert found.low <= found.high
    assert statistics.detectable_difference(np.ones(len(values)), np.ones(10)) is None


def test_a_paired_difference_knows_what_both_sides_share() -> None:
    shared = np.linspace(0.2, 0.8, 10)
    paired, unpaired = (statistics.difference(shared + 0.1, shared, together) for together in (True, False))
    assert paired.low == pytest.approx(0.1)
    assert paired.interval_high - paired.interval_low < 0.7 * (unpaired.interval_high - unpaired.interval_low)


# ---- areas, grids, power -----------------------------------------------------------------------------------------


def area(curve: SeedCurve, grid: np.ndarray, log: bool = False) -> float:
    return float(statistics.area([curve], grid, log)[0])


def test_areas_of_known_curves() -> None:
    assert area(seed([1, 1, 1, 1, 1]), X) == pytest.approx(1)
    assert area(seed([0, 0.25, 0.5, 0.75, 1]), X) == pytest.approx(0.5)
    assert area(seed([0, 0, 1, 1, 1]), X) == pytest.approx(2.5 / 4)
    powers = np.array([0, 100, 200, 400, 800.0])
    assert area(seed([0, 0, 0, 1, 1], x=powers), powers[1:], log=True) == pytest.approx(0.5)
    assert area(seed([0, 0, 0, 1, 1], x=powers), powers) == pytest.approx((100 + 400) / 800)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.floats(0, 150), st.floats(200, 400))
def test_an_area_is_the_mean_of_the_line_between_evaluations(success: list[float], low: float, high: float) -> None:
    grid = np.linspace(low, high, 300)
    assert area(seed(success), grid) == pytest.approx(np.mean(np.interp(grid, X, success)), abs=0.01)


def test_a_grid_is_what_all_share_or_a_stretch_that_all_cover() -> None:
    assert statistics.common_grid([X, X[1:]]).tolist() == [100, 200, 300, 400]
    assert statistics.common_grid([X, X], log=True).tolist() == [100, 200, 300, 400]
    between = statistics.common_grid([np.array([1.0, 5, 9]), np.array([2.0, 8])])
    assert (between[0], between[-1], between.size) == (2, 8, 100)
    spaced = statistics.common_grid([np.array([1.0, 5, 9]), np.array([2.0, 8])], log=True)
    np.testing.assert_allclose(np.diff(np.log(spaced)), np.log(4) / 99)
    assert statistics.common_grid([np.array([1.0, 2]), np.array([3.0, 4])]) is None
    ends = statistics.common_grid([np.array([0.0, 9, 18, 21, 21]), np.array([0.0, 10, 17, 21, 21])])
    assert (ends[0], ends[-1], ends.size) == (0, 21, 100)  # two points in common are no grid
    assert statistics.common_grid([np.array([0.0, 9, 21, 21]), np.array([0.0, 10, 21])]).tolist() == [0, 21]


def test_the_detectable_difference_is_what_the_interval_would_show() -> None:
    """At this true difference the interval begins, on average, so far above 0 that 80 % of experiments stay there."""
    a_S = np.array([0.4, 0.6] * 50)
    found = statistics.difference(a_S, a_S, False)
    half = (found.interval_high - found.interval_low) / 2
    detectable = statistics.detectable_difference(a_S, a_S)
    assert detectable == pytest.approx(half * (1.972 + 0.843) / 1.972, rel=1e-3)
    textbook = (1.959964 + 0.841621) * sqrt(2 * 0.01 * 100 / 99 / 100)
    assert textbook < detectable < 1.2 * textbook


# ---- printing bounds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "down", "nearest", "up"),
    [
        (9.998, "9.99", "10", "10"),
        (2.25, "2.25", "2.25", "2.25"),
        (1234.5, "1,234", "1,234", "1,235"),
        (1000, "1,000", "1,000", "1,000"),
        (0.12345, "0.123", "0.123", "0.124"),
        (0, "0", "0", "0"),
        (20, "20", "20", "20"),
    ],
)
def test_a_bound_is_never_rounded_beyond_itself(value: float, down: str, nearest: str, up: str) -> None:
    assert (digits(value, -1), digits(value), digits(value, 1)) == (down, nearest, up)


@given(st.floats(1e-3, 1e6))
def test_rounded_bounds_hold_the_number(value: float) -> None:
    assert isfinite(value)
    low, high = (float(digits(value, direction).replace(",", "")) for direction in (-1, 1))
    assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
    assert high - low <= 0.011 * value + 1e-12 or value > 100
