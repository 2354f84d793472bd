"""Held against the published definitions, written out over all runs and pairs."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmrl.report.reliable import interquartile_mean, performance_profile, probability_of_improvement

SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def scores(least: int = 1, tasks: int | None = None) -> st.SearchStrategy[np.ndarray]:
    many = st.integers(1, 4) if tasks is None else st.just(tasks)
    return arrays(np.float64, st.tuples(st.integers(least, 7), many), elements=SCORES)


@settings(max_examples=25, deadline=None)
@given(scores())
def test_the_interquartile_mean_is_that_of_the_middle_half(score_SK: np.ndarray) -> None:
    runs = sorted(map(Fraction, score_SK.ravel().tolist()))
    for _ in range(len(runs) // 4):
        runs = runs[1:-1]
    assert interquartile_mean(score_SK).low == pytest.approx(float(sum(runs) / len(runs)))


@settings(max_examples=25, deadline=None)
@given(scores(tasks=3), scores(tasks=3))
def test_an_improvement_is_counted_over_all_pairs(x_SK: np.ndarray, y_SK: np.ndarray) -> None:
    tasks = []
    for x, y in zip(x_SK.T, y_SK.T, strict=True):
        won = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(x, y)]
        tasks.append(sum(won) / len(won))
    found = probability_of_improvement(x_SK, y_SK)
    assert found.low == pytest.approx(sum(tasks) / 3)
    assert found.low + probability_of_improvement(y_SK, x_SK).low == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(scores(), st.lists(SCORES, min_size=1, max_size=3))
def test_a_profile_is_the_share_above_each_threshold(score_SK: np.ndarray, thresholds: list[float]) -> None:
    found = [each.low for each in performance_profile(score_SK, np.array(thresholds))]
    assert found == pytest.approx([sum(s > at for s in score_SK.ravel()) / score_SK.size for at in thresholds])


@settings(max_examples=15, deadline=None)
@given(scores(least=5))
def test_intervals_hold_their_figure(score_SK: np.ndarray) -> None:
    found = [interquartile_mean(score_SK), probability_of_improvement(score_SK, score_SK[:5] / 2)]
    for each in (*found, *performance_profile(score_SK, np.array([0.4]))):
        assert each.interval_low <= each.low <= each.interval_high
    assert not interquartile_mean(score_SK[:4]).known


def test_seeds_are_drawn_again_in_each_task_apart() -> None:
    """Five seeds that are 0 in one task and 1 in the other stay so, whichever are drawn: strata do not mix."""
    score_SK = np.tile([0.0, 1.0], (5, 1))
    (half,) = performance_profile(score_SK, np.array([0.5]))
    assert (half.interval_low, half.low, half.interval_high) == (0.5, 0.5, 0.5)


def test_the_interval_of_a_share_is_that_of_binomial_draws() -> None:
    """Of 20 seeds 10 are above: B(20, 1/2) has 2.07 % up to 5 and 5.77 % up to 6."""
    (found,) = performance_profile(np.repeat([0.0, 1.0], 10)[:, None], np.array([0.5]))
    assert (found.interval_low, found.interval_high) == (0.3, 0.7)


def test_other_tasks_are_no_improvement() -> None:
    with pytest.raises(ValueError, match="2 tasks and 3"):
        probability_of_improvement(np.zeros((5, 2)), np.zeros((5, 3)))
