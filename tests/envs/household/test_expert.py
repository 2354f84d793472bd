"""The expert against a search through every state of small homes: nothing is approximated."""

from __future__ import annotations

import pytest
from envs.household.small import distances, small_game, successors

from llmrl.envs.household.expert import Expert, solution
from llmrl.envs.household.game import Game, Goal, Task
from llmrl.envs.household.home import Home

EVERY = 7  # states of each home that are looked at: one in so many
CASES = [  # small enough: (task, seed, receptacles, objects)
    ("pick", 1, 4, 3), ("pick", 2, 4, 3), ("examine", 2, 4, 3), ("examine", 3, 4, 3), ("clean", 1, 4, 3),
    ("clean", 4, 4, 3), ("heat", 4, 4, 3), ("heat", 5, 4, 3), ("cool", 4, 4, 3), ("pick_two", 2, 4, 3),
    ("pick_two", 3, 4, 3),
]  # fmt: skip


@pytest.mark.parametrize(("task", "seed", "receptacles", "objects"), CASES)
def test_distances_and_actions_are_those_of_a_full_search(
    task: Task, seed: int, receptacles: int, objects: int
) -> None:
    home = Home(small_game(task, seed, receptacles, objects))
    expert, left = Expert(home), distances(home)
    assert len(left) > 1000
    for s in sorted(left)[::EVERY]:
        plan = expert.plan(s)
        assert plan.distance == left[s], s
        best = {text for text, after in successors(home, s) if left.get(after._replace(searched=0)) == left[s] - 1}
        assert plan.commands == (best if left[s] else frozenset()), s


def test_a_game_without_what_is_wanted_cannot_be_solved() -> None:
    game = small_game("pick", 1)
    empty = Game("empty", game.layout, (), Goal("pick", "Mug", game.goal.receptacle))
    with pytest.raises(ValueError, match="empty cannot be solved: after nothing there is no way"):
        solution(empty)
