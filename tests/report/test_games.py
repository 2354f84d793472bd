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
    assert 0 <= found.interval_low <= found.low <= found.interval_high <= 1


def test_games_count_as_well_as_seeds() -> None:
    """Ten seeds that agree on every game are no more than one: games are what is uncertain; and the other way round."""
    games = np.tile([1.0, 0.0, 1.0, 0.0], (10, 1))
    seeds = np.tile([[1.0], [0.0], [1.0], [0.0]], (1, 10))
    for share_SG in (games, seeds):
        found = mean_success(share_SG)
        # The mean of 4 coins, 10,000 times: 0 and 1 each have a chance of 1/16, more than the 2.5 % that are cut off.
        assert (found.interval_low, found.interval_high) == (0, 1)


def test_the_spread_is_that_of_crossed_samples() -> None:
    rng = np.random.default_rng(1)
    share_SG = rng.normal(size=(8, 1)) + rng.normal(size=(1, 30))
    found = difference(share_SG, np.zeros((8, 30)))
    spread = np.hypot(share_SG.mean(1).std() / np.sqrt(8), share_SG.mean(0).std() / np.sqrt(30))
    assert (found.interval_high - found.interval_low) / 2 == pytest.approx(1.96 * spread, rel=0.1)


def test_what_is_paired_is_drawn_together() -> None:
    rng = np.random.default_rng(0)
    a_SG = rng.random((10, 20))
    found = difference(a_SG + 0.125 + 1e-6 * rng.random((10, 20)), a_SG)
    assert found.interval_low == pytest.approx(0.125, abs=1e-5)
    assert found.interval_high == pytest.approx(0.125, abs=1e-5)


@pytest.mark.parametrize("games", [1, 26])
def test_what_never_happened_may_still_happen(games: int) -> None:
    never, always = mean_success(np.zeros((10, games))), mean_success(np.ones((10, games)))
    assert (1 - never.interval_high) ** games == pytest.approx(0.025)
    assert (never.low, always.high) == (0, 1)
    assert always.interval_low == pytest.approx(1 - never.interval_high)
    same = difference(np.ones((10, games)), np.ones((10, games)))
    assert (same.interval_low, same.interval_high) == (-never.interval_high, never.interval_high)


def test_one_seed_in_one_game_says_next_to_nothing() -> None:
    found = mean_success(np.array([[1 / 3]]))
    assert (found.low, found.interval_low, found.interval_high) == (1 / 3, 0, 1)
