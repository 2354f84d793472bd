from __future__ import annotations

from itertools import pairwise
from math import inf, isfinite

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.report import statistics
from llmrl.report.statistics import Figures, SeedCurve, digits

X = np.array([0.0, 100, 200, 300, 400])


def seed(success: list[float], episodes: int = 0, x: np.ndarray = X) -> SeedCurve:
    x = x[: len(success)]
    return SeedCurve(x, np.array(success), np.full(x.size, episodes))


def measured(values: list[float], budget: float = 400.0) -> Figures:
    """Seeds of which exactly this is known; infinite: censored at the budget."""
    high = np.array([values, values]).T
    return Figures(np.minimum(high, budget), high)


def reached(curve: SeedCurve, level: float = 0.8) -> tuple[float, float]:
    figures = statistics.reached([curve], statistics.draw_episodes([curve], np.random.default_rng(0)), level)
    return float(figures.low_SL[0, 0]), float(figures.high_SL[0, 0])


# ---- decisions to a threshold ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("success", "expected"),
    [
        ([0, 0.8, 0.9, 0, 0], (100, 100)),
        ([0, 0.8, 0.7, 0.8, 0.8], (300, 300)),  # one evaluation alone is luck
        ([0.9, 0.9, 0, 0, 0], (0, 0)),
        ([0, 0, 0, 0, 0.9], (400, inf)),  # the last one has no second: censored
        ([0, 0.9, 0, 0.9, 0], (400, inf)),
        ([0.9], (0, inf)),
        ([0, 0.8 - 1e-12, 0.8, 0, 0], (100, 100)),
    ],
)
def test_a_threshold_is_reached_by_two_evaluations(success: list[float], expected: tuple[float, float]) -> None:
    assert reached(seed(success)) == expected


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.floats(0.1, 1))
def test_reaching_is_as_by_hand(success: list[float], level: float) -> None:
    above = [s >= level - 1e-9 for s in success]
    hits = [X[i] for i, pair in enumerate(pairwise(above)) if all(pair)]
    expected = (hits[0], hits[0]) if hits else (X[len(success) - 1], inf)
    assert reached(seed(success), level) == expected


def test_what_was_there_at_the_start_came_before_the_first_evaluation_after_it() -> None:
    curves = [seed([1, 1, 1]), seed([0, 1, 1])]
    figures = statistics.reached(curves, statistics.draw_episodes(curves, np.random.default_rng(0)), 0.8)
    ranged = statistics.after_start(figures, curves)
    assert ranged.low_SL[:, 0].tolist() == [0, 100]
    assert ranged.high_SL[:, 0].tolist() == [100, 100]
    # as quick as one can tell: at least 400 / 100, and nobody knows how much more
    r = statistics.ratio(Figures(ranged.low_SL[:1], ranged.high_SL[:1]), measured([400.0]), False)
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
    """Three seeds a side: 27 x 27 equally likely resamples, counted."""
    a, b = [100.0, 200.0, 300.0], [400.0, 800.0, inf]
    index = np.stack(np.meshgrid(*[range(3)] * 3), -1).reshape(-1, 3)
    medians_a, medians_b = np.median(np.array(a)[index], axis=1), np.median(np.array(b)[index], axis=1)
    low = np.sort((np.minimum(medians_b, 1000)[:, None] / medians_a).ravel())
    found = statistics.ratio(measured(a), measured(b, budget=1000), False)
    share_below = np.mean(low < found.interval_low)
    assert share_below <= 0.025 <= np.mean(low <= found.interval_low)
    assert found.interval_high == inf


times = st.lists(st.sampled_from([50.0, 100, 200, 300, 400, inf]), min_size=1, max_size=7)


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
@given(st.lists(st.sampled_from([50.0, 100, 200, 300]), min_size=1, max_size=7), st.floats(500, 5000), st.data())
def test_a_longer_run_confirms_the_bounds_of_a_shorter_one(b: list[float], budget: float, data: st.DataObject) -> None:
    """Whatever a censored seed would have needed lies within what was said of it."""
    truth = [data.draw(st.floats(400, budget)) if data.draw(st.booleans()) else value for value in b]
    seen = [value if value < 400 else inf for value in truth]
    a = measured([100.0, 200.0, 200.0])
    said, true = statistics.ratio(a, measured(seen), False), statistics.ratio(a, measured(truth, budget), False)
    assert said.low <= true.low <= said.high
    assert said.interval_low <= true.interval_low
    assert true.interval_high <= said.interval_high


def test_equal_groups_compared_by_seed_have_a_ratio_of_one() -> None:
    a = measured([100.0, 150.0, 200.0, 250.0, 300.0])
    paired, unpaired = statistics.ratio(a, a, True), statistics.ratio(a, a, False)
    assert (paired.interval_low, paired.low, paired.interval_high) == (1, 1, 1)
    assert unpaired.interval_low < 1 < unpaired.interval_high
    assert statistics.difference(a, a, True) == statistics.Estimate(0, 0, 0, 0)


@pytest.mark.parametrize("truth", [1.0, 3.0])
def test_lower_ends_are_rarely_above_the_truth(truth: float) -> None:
    """Ten seeds a side, log-normal times, evaluations every 200 decisions, some censored: 2.5 % were meant."""
    rng, above = np.random.default_rng(3), 0

    def times(median: float) -> Figures:
        spent = np.ceil(median * np.exp(rng.normal(0, 0.6, 10)) / 200) * 200
        return measured(np.where(spent <= 8000, spent, inf).tolist(), budget=8000)

    for _ in range(80):
        above += statistics.ratio(times(1600), times(1600 * truth), False).interval_low > truth
    assert above <= 5


# ---- the second level: episodes ----------------------------------------------------------------------------------


def test_sampled_episodes_widen_and_exact_ones_do_not() -> None:
    curves = {n: [seed([0, 0.5, 0.5, 0.5, 0.5], n)] * 4 for n in (0, 30, 300)}
    drawn = {n: statistics.draw_episodes(c, np.random.default_rng(0)) for n, c in curves.items()}
    width = {}
    for n in curves:
        found = statistics.mean(statistics.final(drawn[n]))
        assert found.low == found.high == 0.5
        width[n] = found.interval_high - found.interval_low
    assert width[0] == 0
    assert width[30] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 30 / 4), rel=0.1)
    assert width[300] == pytest.approx(width[30] / np.sqrt(10), rel=0.15)


def test_evaluations_of_one_curve_may_be_sampled_or_exact() -> None:
    curve = SeedCurve(X[:3], np.array([0.5, 0.5, 0.5]), np.array([30, 0, 30]))
    (drawn_LT,) = statistics.draw_episodes([curve], np.random.default_rng(0))
    assert (drawn_LT[0] == 0.5).all()
    assert (drawn_LT[:, 1] == 0.5).all()
    assert drawn_LT[1:, 0].std() == pytest.approx(np.sqrt(0.25 / 30), rel=0.1)
    assert abs(np.corrcoef(drawn_LT[1:, 0], drawn_LT[1:, 2])[0, 1]) < 0.15


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says() -> None:
    """Seeds of their own true success, sampled by 30 episodes: at least 90 of 100, and not always."""
    rng, held = np.random.default_rng(1), 0
    for i in range(100):
        truth = np.clip(rng.normal(0.6, 0.15, size=12), 0, 1)
        curves = [seed([0.0, s], 30) for s in rng.binomial(30, truth) / 30]
        found = statistics.mean(statistics.final(statistics.draw_episodes(curves, np.random.default_rng(i))))
        held += found.interval_low <= 0.6 <= found.interval_high
    assert 88 <= held < 100


# ---- areas, grids, power -----------------------------------------------------------------------------------------


def area(curve: SeedCurve, grid: np.ndarray, log: bool = False) -> float:
    drawn = statistics.draw_episodes([curve], np.random.default_rng(0))
    return float(statistics.area([curve], drawn, grid, log).low_SL[0, 0])


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


def test_the_detectable_difference_is_the_textbooks() -> None:
    a = Figures(np.array([[0.4], [0.6]] * 10), np.array([[0.4], [0.6]] * 10))
    variance = 0.01 * 20 / 19
    assert statistics.detectable_difference(a, a) == pytest.approx((1.959964 + 0.841621) * np.sqrt(2 * variance / 20))
    one, same = Figures(a.low_SL[:1], a.high_SL[:1]), Figures(np.ones((5, 1)), np.ones((5, 1)))
    assert statistics.detectable_difference(a, one) is None
    assert statistics.detectable_difference(same, same) is None


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
