"""Agents that do not learn: what they do, and how likely, by formula."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.learners.prior_only import PriorOnly
from llmrl.learners.random import Random
from llmrl.schema.learners import NoLearnerConfig

STATE = TextState("Find the door.", "A corridor.", ("left", "right", "up"))
P = np.array([0.5, 0.2, 0.3])


class Even:
    def random(self, size: int) -> np.ndarray:
        return (np.arange(size) + 0.5) / size


def shares(agent: PriorOnly, counts: np.ndarray, greedy: bool) -> np.ndarray:
    there = np.flatnonzero(counts)
    candidates = Candidates(there, np.log(counts[there] / counts.sum()))
    chosen = agent.evaluate([STATE] * 1000, [candidates] * 1000, Even(), greedy)  # type: ignore[arg-type]
    return np.bincount(chosen, minlength=3) / 1000


@pytest.mark.parametrize("kind", [PriorOnly, Random])
def test_one_of_k_draws_is_a_draw_from_the_prior(kind: type[PriorOnly]) -> None:
    agent = kind(NoLearnerConfig(), 0, None)
    expected = np.zeros(3)
    for drawn in product(range(3), repeat=3):
        expected += P[list(drawn)].prod() * shares(agent, np.bincount(drawn, minlength=3), greedy=False)
    (found,) = agent.policy([STATE], [Proposal(P, 3)], greedy=False)  # type: ignore[misc]
    assert found == pytest.approx(expected, abs=2e-3)


def test_greedy_takes_the_likeliest_of_all_and_has_no_formula_over_draws() -> None:
    agent = PriorOnly(NoLearnerConfig(), 0, None)
    (found,) = agent.policy([STATE], [Proposal(P, None)], greedy=True)  # type: ignore[misc]
    assert found.tolist() == shares(agent, P, greedy=True).tolist() == [1, 0, 0]
    assert agent.policy([STATE], [Proposal(P, 3)], greedy=True) is None


def test_a_random_agent_is_as_random_when_it_is_greedy() -> None:
    agent = Random(NoLearnerConfig(), 0, None)
    even = np.full(3, 1 / 3)
    (found,) = agent.policy([STATE], [Proposal(even, None)], greedy=True)  # type: ignore[misc]
    assert found == pytest.approx(even)
    assert shares(agent, even, greedy=True) == pytest.approx(even, abs=2e-3)
