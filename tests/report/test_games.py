"""Intervals over seeds and games."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrl.report.games import difference, mean_success

SHARES = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.sampled_from([0, 0.5, 1]))


@settings(max_examples=25)
@given(SHARES)
def test_an_interval_holds_its_mean(share_SG: np.ndarray) -> None:
    found = mean_success(share_SG)
    assert found.low == found.high == pytest.approx(share_SG.mean())
    if found.known:
        assert 0 <= found.interval_low <= found.low <= found.interval_high <= 1
        assert found.interval_low < found.interval_high


def test_games_count_as_well_as_seeds() -> None:
    """Ten seeds that agree on every game are no more than one: games are what is uncertain; and the other way round."""
    games, seeds = np.tile([1.0, 0.0] * 4, (10, 1)), np.tile([[1.0], [0.0]] * 4, (1, 10))
    for share_SG in (games, seeds):
        found = mean_success(share_SG)
        assert found.interval_high - found.interval_low > 0.8  # a mean of eight coins
    assert mean_success(games) == mean_success(seeds.T)


def test_the_spread_is_that_of_crossed_samples() -> None:
    """By hand, where pseudo-observations are few among many: the two samples' squared errors add up."""
    rng = np.random.default_rng(1)
    share_SG = 0.5 + 0.05 * rng.normal(size=(200, 1)) + 0.1 * rng.normal(size=(1, 300))
    found = mean_success(share_SG)
    spread = np.hypot(share_SG.mean(1).std() / np.sqrt(200), share_SG.mean(0).std() / np.sqrt(300))
    assert (found.interval_high - found.interval_low) / 2 == pytest.approx(1.97 * spread, rel=0.15)


def test_what_is_paired_is_compared_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    a_SG = rng.random((10, 20)) / 2
    paired, alone = difference(a_SG + 0.125, a_SG), mean_success(a_SG)
    assert paired.low == pytest.approx(0.125)
    assert difference(a_SG, a_SG) == difference(0 * a_SG, 0 * a_SG)  # whatever the spread of what they share
    assert alone.known


def test_few_seeds_have_no_interval_and_one_has_that_of_its_games() -> None:
    games = np.array([[1.0, 0.0, 1.0, 0.0, 1.0, 1.0]])
    assert mean_success(games).known
    assert not mean_success(games[:, :4]).known
    for seeds in (2, 4):
        assert not mean_success(np.repeat(games, seeds, axis=0)).known
        assert not difference(np.repeat(games, seeds, axis=0), np.zeros((seeds, 6))).known
    assert mean_success(np.repeat(games[:, :3], 5, axis=0)).known


@pytest.mark.parametrize("games", [1, 26])
def test_what_never_happened_may_still_happen(games: int) -> None:
    never, always = mean_success(np.zeros((10, games))), mean_success(np.ones((10, games)))
    assert never.interval_high == pytest.approx(1 - always.interval_low)
    assert never.interval_low == never.low == 0
    assert 0.1 < never.interval_high < 0.3
    same = difference(np.ones((10, games)), np.ones((10, games)))
    assert same.interval_low == pytest.approx(-same.interval_high)
    assert same.interval_high > 0.05
