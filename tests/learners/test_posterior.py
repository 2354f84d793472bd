"""From values to choices, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.core.candidates import Candidates, Proposal
from llmrl.learners.posterior import choice_probabilities, choose, posterior

VALUES = st.lists(st.floats(-5, 5), min_size=4, max_size=4).map(np.array)
COUNTS = st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any)


def counted(counts: list[int]) -> Candidates:
    """As k draws are told: what was drawn, weighted by how often."""
    actions = np.flatnonzero(counts)
    return Candidates(actions, np.log(np.array(counts)[actions] / np.sum(counts)))


@given(VALUES, COUNTS, st.floats(0.01, 10))
def test_the_posterior_multiplies_weight_and_likelihood(values: np.ndarray, counts: list[int], alpha: float) -> None:
    c = counted(counts)
    found = posterior(values, c, alpha)
    expected = np.exp(c.log_weights) * np.exp((values[c.actions] - values.max()) / alpha)
    assert found.actions.tolist() == c.actions.tolist()
    assert np.exp(found.log_weights) * expected.sum() == pytest.approx(expected, abs=1e-12)


def test_zero_temperature_keeps_the_best_and_ties_go_by_weight() -> None:
    found = posterior(np.array([1.0, 9.0, 2.0, 2.0]), counted([1, 0, 1, 3]), 0.0)
    assert np.exp(found.log_weights) == pytest.approx([0, 0.25, 0.75])


def test_what_has_no_weight_is_never_chosen() -> None:
    c = Candidates(np.array([0, 1]), np.array([-np.inf, 0.0]))
    for alpha in (0.0, 0.1):
        assert choose([np.array([9.0, 0.0])] * 20, [c] * 20, alpha, np.random.default_rng(0)).tolist() == [1] * 20


def test_a_draw_inverts_the_cumulative_posterior() -> None:
    values, c = np.array([0.0, 0.3, 0.1]), counted([1, 1, 1])
    pi = np.exp(posterior(values, c, 0.2).log_weights)
    drawn = choose([values] * 50, [c] * 50, 0.2, np.random.default_rng(3))
    u = np.random.default_rng(3).random(50)
    assert drawn.tolist() == np.searchsorted(pi.cumsum(), u, side="right").tolist()


@given(VALUES, st.sampled_from([0.0, 0.3]))
def test_two_draws_are_averaged_over(values: np.ndarray, alpha: float) -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4])
    expected = np.zeros(4)
    for i in range(4):
        for j in range(4):
            c = counted(np.bincount([i, j], minlength=4).tolist())
            expected[c.actions] += p[i] * p[j] * np.exp(posterior(values, c, alpha).log_weights)
    (found,) = choice_probabilities([values], [Proposal(p, 2)], alpha)
    assert found == pytest.approx(expected, abs=1e-6)


def test_without_draws_it_is_the_posterior_itself() -> None:
    values, p = np.array([0.1, 0.5, 0.2], dtype=np.float32), np.array([0.2, 0.3, 0.5])
    (found,) = choice_probabilities([values], [Proposal(p, None)], 0.1)
    expected = posterior(values, Candidates(np.arange(3), np.log(p)), 0.1)
    assert found == pytest.approx(np.exp(expected.log_weights))
