"""What holds in every kitchen, whatever the cook does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.layouts import TOMATO, TOMATO_LETTUCE, overcooked_a, random_kitchen
from llmrl.envs.kitchen.world import NOTHING, Kitchen, KitchenState

KITCHENS = [
    overcooked_a(TOMATO),
    overcooked_a(TOMATO_LETTUCE),
    *(random_kitchen("train", index) for index in range(20)),
]


@given(st.sampled_from(KITCHENS), st.lists(st.integers(0, 100), max_size=60))
def test_random_play(kitchen, choices):
    state = kitchen.initial()
    check(kitchen, state)
    for choice in choices:
        if state.served:
            break
        action = choice % kitchen.num_actions
        effect = kitchen.apply(state, action)
        check(kitchen, effect.state)
        assert effect == kitchen.apply(state, action)
        assert effect.steps >= 1
        assert (effect.delivery == 1) == effect.state.served
        if effect.chopped != NOTHING:
            assert effect.state.chopped == state.chopped | 1 << effect.chopped
        state = effect.state


def check(kitchen: Kitchen, s: KitchenState) -> None:
    assert s.cell in kitchen.floor
    for item in range(kitchen.bowl + 1):
        places = [s.hand == item, *(item == lying for lying in s.boards), item < kitchen.bowl and s.in_bowl >> item & 1]
        assert sum(map(bool, places)) <= 1  # else it is at home
    assert s.in_bowl & ~s.chopped == 0  # the bowl takes chopped food only
    carried = [s.hand, *s.boards]
    if not s.served:
        assert s.in_bowl == 0 or kitchen.bowl in carried  # a bowl at home is empty
        for food in range(len(kitchen.foods)):  # what is at home is raw
            assert not s.chopped >> food & 1 or food in carried or s.in_bowl >> food & 1
    menu = text.menu(kitchen, s)
    assert len(menu) == len(set(menu)) == kitchen.num_actions
