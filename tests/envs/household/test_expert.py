"""The expert against a search through every state of small homes, and its speed's price: nothing is approximated."""

from __future__ import annotations

import pytest
from envs.household.small import distances, small_game, successors

from llmrl.envs.household.expert import Expert
from llmrl.envs.household.game import TASKS, Task
from llmrl.envs.household.home import Home

EVERY = 17  # states of each home that are looked at: one in so many


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(4))
def test_distances_and_actions_are_those_of_a_full_search(task: Task, seed: int) -> None:
    home = Home(small_game(task, seed))
    expert, left = Expert(home), distances(home)
    assert len(left) > 100
    for s in sorted(left)[::EVERY]:
        plan = expert.plan(s)
        assert plan.distance == left[s], s
        best = {text for text, after in successors(home, s) if left.get(after._replace(searched=0)) == left[s] - 1}
        assert plan.commands == (best if left[s] else frozenset()), s
