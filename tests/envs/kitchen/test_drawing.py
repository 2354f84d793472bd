from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.envs.kitchen.drawing import MAX_WIDTH, draw
from llmrl.envs.kitchen.layouts import TOMATO_LETTUCE, overcooked_a, random_kitchen

KITCHENS = [overcooked_a(TOMATO_LETTUCE), *(random_kitchen("train", index) for index in range(20))]


@given(st.sampled_from(KITCHENS), st.lists(st.integers(0, 100), max_size=25))
def test_fits_and_shows_everything_once(kitchen, choices):
    state = kitchen.initial()
    for choice in choices:
        if not state.served:
            state = kitchen.apply(state, choice % kitchen.num_actions).state
    drawing = draw(kitchen, state)
    the_map, _, facts = drawing.partition("\n\n")
    assert max(map(len, drawing.splitlines())) <= MAX_WIDTH
    assert the_map.count("@") == 1
    assert the_map.count("serve") == 1
    assert "[" not in drawing  # would be read as markup by what prints it
    everything = the_map + (facts if state.in_bowl else "")
    for name in (*kitchen.foods, *(["bowl"] if not state.served else [])):
        assert name in everything


def test_map_a_at_the_start():
    assert draw(KITCHENS[0], KITCHENS[0].initial()).splitlines()[:3] == [
        "░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ tomato ░░░░░░░░░░░",
        " board 1 ░              ·         ·         @         ·      lettuce ░",
        " board 2 ░              ·         ·         ·         ·     ░ onion ░░",
    ]


@pytest.mark.parametrize(
    ("choices", "fact"),
    [
        ([0], "in hand      tomato"),
        ([0, 4, 7], "board 1      tomato*"),
        ([0, 4, 7, 0, 3], "in the bowl  tomato*"),
        ([0, 4, 7, 0, 3, 5], "board 2      bowl"),
    ],
)
def test_says_what_lies_where(choices, fact):
    kitchen = KITCHENS[0]
    state = kitchen.initial()
    for choice in choices:
        state = kitchen.apply(state, choice).state
    assert f"  {fact}\n" in draw(kitchen, state)
