"""The chances of actions over draws of candidates, against adding up all draws there are."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.core.candidates import Proposal, greedy_over_draws, posterior_over_draws
from llmrl.schema.priors import LARGEST_K

ACTIONS = st.integers(1, 4)


@st.composite
def cases(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[np.ndarray, np.ndarray, int]:
    size = draw(ACTIONS)
    weights = np.array(draw(st.lists(st.integers(0, 5), min_size=size, max_size=size).filter(any)), dtype=np.float64)
    return weights / weights.sum(), np.array(draw(st.lists(values, min_size=size, max_size=size))), draw(ACTIONS)


def over_all_draws(p: np.ndarray, k: int, chosen) -> np.ndarray:
    """The mean of `chosen(counts)` [A] over the A^k draws."""
    total = np.zeros(p.size)
    for drawn in product(range(p.size), repeat=k):
        if chance := p[list(drawn)].prod():
            total += chance * chosen(np.bincount(drawn, minlength=p.size))
    return total


@given(cases(st.floats(-60, 60)))
@settings(max_examples=150, deadline=None)
def test_the_posterior_is_the_mean_over_all_draws(case) -> None:
    p, ell, k = case

    def chosen(counts: np.ndarray) -> np.ndarray:
        weights = counts * np.exp(ell - ell[counts > 0].max())
        return np.where(counts > 0, weights, 0) / weights[counts > 0].sum()

    (found,) = posterior_over_draws([Proposal(p, k)], [ell])
    assert found == pytest.approx(over_all_draws(p, k, chosen), abs=2e-8)


@given(cases(st.integers(-2, 2).map(float)))  # few values, so that there are equals
@settings(max_examples=150, deadline=None)
def test_greedy_is_the_mean_over_all_draws(case) -> None:
    p, values, k = case

    def chosen(counts: np.ndarray) -> np.ndarray:
        best = counts * (values == values[counts > 0].max())
        return best / best.sum()

    (found,) = greedy_over_draws([Proposal(p, k)], [values])
    assert found == pytest.approx(over_all_draws(p, k, chosen), abs=1e-12)


def test_without_draws_the_posterior_is_the_weighted_softmax_and_greedy_the_best() -> None:
    p, ell = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.0, 2.0, 2.0, 900.0])
    weights = np.array([0.5, 0.3 * np.exp(2), 0.2 * np.exp(2), 0])
    assert posterior_over_draws([Proposal(p, None)], [ell])[0] == pytest.approx(weights / weights.sum())
    assert greedy_over_draws([Proposal(p, None)], [ell])[0] == pytest.approx([0, 0.6, 0.4, 0])


@given(cases(st.floats(-60, 60)))
@settings(deadline=None)
def test_one_draw_and_equal_likelihoods_are_the_prior(case) -> None:
    p, ell, k = case
    assert posterior_over_draws([Proposal(p, 1)], [ell])[0] == pytest.approx(p, abs=1e-8)
    assert greedy_over_draws([Proposal(p, 1)], [ell])[0] == pytest.approx(p)
    assert posterior_over_draws([Proposal(p, k)], [np.full(p.size, 7.0)])[0] == pytest.approx(p, abs=1e-8)


@pytest.mark.parametrize("k", [1, 5, 1000, 20_000, LARGEST_K])
@pytest.mark.parametrize(("p", "gap"), [(0.3, 1.0), (0.5, 0.0), (1e-4, -8.0), (0.999, 20.0), (1e-5, -60.0)])
def test_between_two_actions_any_number_of_draws_is_a_sum_over_counts(k: int, p: float, gap: float) -> None:
    """E[n / (n + (k - n) exp(gap))], n of k draws being the first: binomial, from logarithms of factorials."""
    n = np.arange(k + 1)
    log_factorial = np.array([math.lgamma(i + 1) for i in range(k + 1)])
    log_chance = log_factorial[k] - log_factorial - log_factorial[::-1] + n * math.log(p) + (k - n) * math.log1p(-p)
    expected = float((np.exp(log_chance) * n / (n + (k - n) * math.exp(gap))).sum())
    (found,) = posterior_over_draws([Proposal(np.array([p, 1 - p]), k)], [np.array([0.0, gap])])
    assert found == pytest.approx([expected, 1 - expected], abs=1e-8)
    (greedy,) = greedy_over_draws([Proposal(np.array([p, 1 - p]), k)], [np.array([0.0, gap])])
    best = {-1: 1 - (1 - p) ** k, 0: p, 1: p**k}[int(np.sign(gap))]
    assert greedy == pytest.approx([best, 1 - best], abs=1e-9)


@given(cases(st.floats(-60, 60)))
@settings(max_examples=60, deadline=None)
def test_very_many_draws_are_the_scored_prior(case) -> None:
    p, ell, _ = case
    (limit,) = posterior_over_draws([Proposal(p, None)], [ell])
    errors = [np.abs(posterior_over_draws([Proposal(p, k)], [ell])[0] - limit).max() for k in (20_000, LARGEST_K)]
    # n_i is within a few sqrt(k) of k p_i, and 1/5 is the smallest weight there is: what is left is of order 1/k.
    assert errors[0] < 20 / 20_000
    assert errors[1] < 20 / LARGEST_K


def test_many_draws_approach_the_weighted_softmax() -> None:
    p, ell = np.array([0.6, 0.3, 0.1]), np.array([0.0, 1.0, 1.5])
    (limit,) = posterior_over_draws([Proposal(p, None)], [ell])
    errors = [np.abs(posterior_over_draws([Proposal(p, k)], [ell])[0] - limit).max() for k in (4, 16, 64, 256)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-3


def test_states_of_different_shapes_keep_their_places() -> None:
    rng = np.random.default_rng(0)
    shapes = [(int(rng.integers(1, 7)), [None, 1, 3, 5][rng.integers(4)]) for _ in range(300)]
    proposals = [Proposal(rng.dirichlet(np.ones(size)), k) for size, k in shapes]
    values = [rng.normal(size=size) * 3 for size, _ in shapes]
    for rule in (posterior_over_draws, greedy_over_draws):
        together = rule(proposals, values)
        for proposal, value, found in zip(proposals, values, together, strict=True):
            assert found == pytest.approx(rule([proposal], [value])[0], abs=1e-8)
    assert posterior_over_draws([], []) == []


def test_gaps_of_any_size_among_many_actions() -> None:
    p = np.full(40, 1 / 40)
    (found,) = posterior_over_draws([Proposal(p, 3)], [np.arange(40) * 1e4])
    assert np.isfinite(found).all()
    assert found == pytest.approx(greedy_over_draws([Proposal(p, 3)], [np.arange(40.0)])[0], abs=1e-8)
