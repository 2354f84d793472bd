from __future__ import annotations

from collections import deque

import pytest

from llmrl.envs.kitchen.expert import distance, enumerate_states, expert_actions, lower_bound
from llmrl.envs.kitchen.layouts import TOMATO, TOMATO_LETTUCE, overcooked_a, random_kitchen
from llmrl.envs.kitchen.world import Kitchen, KitchenState

FLOOR = frozenset((r, c) for r in range(1, 4) for c in range(1, 4))
# Three boards around one corner: a cook there is beside two of them, and which it chops on depends on what lies there.
CORNER = Kitchen(
    "corner",
    floor=FLOOR,
    start=(2, 2),
    foods=("beet", "leek", "kale"),
    food_homes=((4, 1), (4, 2), (4, 3)),
    bowl_home=(2, 4),
    boards=((0, 1), (1, 0), (0, 3)),
    delivery=(1, 4),
    dish=frozenset({0, 2}),
    radius=1,
)
KITCHENS = {
    "tomato": overcooked_a(TOMATO),
    "salad": overcooked_a(TOMATO_LETTUCE),
    "corner": CORNER,
    **{f"random-{size}-{index}": random_kitchen("train", index, size) for size in (1, 2) for index in range(4)},
}


def exact_distances(kitchen: Kitchen) -> dict[KitchenState, int]:
    """Breadth first from the served states, against the arrows, over every single state."""
    states = enumerate_states(kitchen)
    before: dict[KitchenState, list[KitchenState]] = {state: [] for state in states}
    for state in states:
        if not state.served:
            for action in range(kitchen.num_actions):
                before[kitchen.apply(state, action).state].append(state)
    decisions = {state: 0 for state in states if state.served}
    queue = deque(decisions)
    while queue:
        state = queue.popleft()
        for previous in before[state]:
            if previous not in decisions:
                decisions[previous] = decisions[state] + 1
                queue.append(previous)
    return decisions


@pytest.mark.parametrize("name", KITCHENS)
def test_agrees_with_exhaustive_search_everywhere(name):
    kitchen = KITCHENS[name]
    exact = exact_distances(kitchen)
    states = enumerate_states(kitchen)
    assert len(exact) == len(states)
    # Far states first, then near ones, so that what one search leaves behind serves the next in both directions.
    for state in sorted(states, key=lambda s: -exact[s])[::2] + states:
        assert distance(kitchen, state) == exact[state]
        best = {a for a in range(kitchen.num_actions) if not state.served
                and exact[kitchen.apply(state, a).state] == exact[state] - 1}  # fmt: skip
        assert expert_actions(kitchen, state) == best


@pytest.mark.parametrize("name", KITCHENS)
def test_one_decision_lowers_the_bound_by_one_at_most(name):
    kitchen = KITCHENS[name]
    for state in enumerate_states(kitchen):
        if not state.served:
            after = min(lower_bound(kitchen, kitchen.apply(state, a).state) for a in range(kitchen.num_actions))
            assert lower_bound(kitchen, state) <= after + 1


def test_two_ingredients_on_one_board_cannot_be_done():
    """A chopped food waits on the board or in the bowl, and the bowl in hand or on the board: one board is too few."""
    one_board = Kitchen(
        "one-board", FLOOR, (2, 2), ("beet", "leek"), ((4, 1), (4, 2)), (2, 4), ((0, 1),), (1, 4), frozenset({0, 1})
    )
    for state in enumerate_states(one_board):
        assert not state.served
        assert distance(one_board, state) is None
        assert expert_actions(one_board, state) == frozenset()


def test_a_served_dish_needs_nothing_more():
    kitchen = KITCHENS["tomato"]
    served = next(state for state in enumerate_states(kitchen) if state.served)
    assert distance(kitchen, served) == 0
    assert expert_actions(kitchen, served) == frozenset()


@pytest.mark.parametrize("index", range(6))
def test_following_any_expert_action_serves_three_ingredients_in_time(index):
    kitchen = random_kitchen("dev", index, 3)
    for pick in (min, max):
        state = kitchen.initial()
        for left in range(distance(kitchen, state), 0, -1):
            assert distance(kitchen, state) == left
            state = kitchen.apply(state, pick(expert_actions(kitchen, state))).state
        assert state.served
