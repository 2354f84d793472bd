"""What offline learners are given: n-step returns, candidates and what covers them."""

from __future__ import annotations

import numpy as np
import pytest
from data.datasets import any_rows, built
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.data.replay import NStepWindow
from llmrl.data.training_set import OfflineData, Supports, join


def uniform(size: int) -> Proposal:
    return Proposal(np.full(size, 1 / size), None)


@settings(max_examples=40, deadline=None)
@given(any_rows(), st.integers(1, 4), st.booleans())
def test_returns_are_those_of_the_window_that_acting_learners_have(rows: list, n: int, primitive: bool) -> None:
    rows = [row | {"reward": float(i % 5), "duration": 1 + i % 3} for i, row in enumerate(rows)]
    data = built(rows)
    last = np.append(np.diff(data["episode"]) != 0, True)
    after = np.where(data["terminated"], -1, np.arange(len(data)) + 1000)
    state = TextState("", "", ("a",))
    offline = OfflineData(
        [state], Supports([uniform(1)]), np.zeros(len(data), int), np.zeros(len(data), int), data["reward"],
        data["duration"], after, last, data["success"] == 1, last | True,
    )  # fmt: skip
    returns, discounts, ends = offline.n_step(n, 0.9, primitive)
    window = NStepWindow(n, 0.9, primitive)
    seen = TextState("", "", ("a",))
    one = Candidates(np.zeros(1, dtype=np.int64), np.zeros(1))
    told = []
    for i, row in enumerate(rows):
        t = Transition(i, seen, 0, row["reward"], row["duration"], row["terminated"], row["truncated"], seen, one)
        told += list(window.add(Transition(**{**t.__dict__, "env": 0, "state": TextState("", str(i), ("a",))})))
    by_row = {int(step.first.state.observation): step for step in told}
    assert returns == pytest.approx([by_row[i].ret for i in range(len(rows))])
    assert discounts == pytest.approx([by_row[i].discount for i in range(len(rows))])
    assert [int(e) for e in ends] == [
        -1 if by_row[i].last.terminated else int(by_row[i].last.state.observation) + 1000 for i in range(len(rows))
    ]


def test_candidates_that_are_drawn_are_drawn_as_the_prior_says() -> None:
    p = np.array([0.6, 0.3, 0.1])
    supports = Supports([Proposal(np.array([0.5, 0.5]), 4), Proposal(p, 4)])
    log_w = supports.draw(np.array([1] * 4000 + [0] * 10), np.random.default_rng(0))
    counts = np.exp(log_w) * 4
    assert counts.sum(-1) == pytest.approx(4)
    assert counts == pytest.approx(counts.round())
    assert counts[:4000].mean(0) / 4 == pytest.approx(p, abs=0.01)
    assert (counts[4000:, 2] == 0).all()  # the menu of state 0 has two actions


def test_candidates_that_are_not_drawn_are_the_same_each_time() -> None:
    supports = Supports([Proposal(np.array([0.5, 0.5]), None), Proposal(np.array([0.7, 0.0, 0.3]), None)])
    log_w = supports.draw(np.array([1, 0]), np.random.default_rng(0))
    assert np.exp(log_w).tolist() == [[pytest.approx(0.7), 0, pytest.approx(0.3)], [0.5, 0.5, 0]]


@pytest.mark.parametrize("k", [None, 3])
def test_the_candidates_alone_are_those_that_weigh_something(k: int | None) -> None:
    supports = Supports([Proposal(np.array([0.5, 0.5]), k), Proposal(np.array([0.7, 0.0, 0.3]), k)])
    states = np.array([1, 0] * 20)
    log_w = supports.draw(states, np.random.default_rng(0))
    assert np.array_equal(supports.among(states, np.random.default_rng(0)), log_w > -np.inf)


def test_what_joins_weighs_as_the_lightest_there_was() -> None:
    with np.errstate(divide="ignore"):
        log_w = np.log(np.array([[0.8, 0.2, 0.0], [1.0, 0.0, 0.0]]))
    also = np.array([[False, True, True], [True, False, False]])
    assert np.exp(join(log_w, also)) == pytest.approx(np.array([[0.8, 0.2, 0.2], [1.2, 0, 0]]) / 1.2)


def test_coverage_is_the_chance_that_a_rows_own_action_is_proposed() -> None:
    def covered(k: int | None, *weights: float) -> float:
        state, zero = TextState("", "", ("a", "b")), np.zeros(1, int)
        supports = Supports([Proposal(np.array(weights), k)])
        return OfflineData(
            [state], supports, zero, zero + 1, zero * 1.0, zero + 1, zero - 1, zero == 0, zero == 0, zero == 0
        ).coverage

    assert covered(None, 0.9, 0.1) == 1
    assert covered(None, 1.0, 0.0) == 0
    assert covered(2, 0.9, 0.1) == pytest.approx(1 - 0.9**2)
