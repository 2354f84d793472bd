from __future__ import annotations

import pytest
from envs.household.test_home import COOL, TAKE, after, home
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.envs.household.drawing import MAX_WIDTH, UNKNOWN, YOU, draw
from llmrl.envs.household.generate import random_game
from llmrl.envs.household.home import MIDDLE, Home


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 11), st.lists(st.integers(0, 10_000), max_size=25))
def test_fits_and_names_what_was_seen_alone(index: int, choices: list[int]) -> None:
    h = Home(random_game("mixed", "train", index))
    s = h.initial()
    for choice in choices:
        menu = h.menu(s)
        s = h.apply(s, menu.commands[choice % len(menu.texts)])
    drawing = draw(h, s)
    rooms, _, legend = drawing.partition("\n\n")
    assert max(map(len, drawing.splitlines())) <= MAX_WIDTH
    assert rooms.count(YOU) == (s.at != MIDDLE)
    assert rooms.count(UNKNOWN) == len(h.receptacles) - s.searched.bit_count()
    assert f"searched  {s.searched.bit_count()} of {len(h.receptacles)}" in legend
    assert "[" not in drawing  # would be read as markup by what prints it
    for receptacle in h.receptacles:
        assert receptacle.name in rooms
    for thing, name in enumerate(h.names):
        assert h.seen(s, thing) or f"{name}," not in f"{rooms},".replace("\n", ",")


@pytest.mark.parametrize(
    ("commands", "line"),
    [
        ((), " ■ cabinet 1     ?                       ■ microwave 1   ?"),
        (TAKE[:2], "@□ fridge 1      !apple 1                  sinkbasin 1   ?"),
        (TAKE[:1], "@■ fridge 1      ?                         sinkbasin 1   ?"),
        ((*TAKE, COOL), "  in hand   !apple 1~"),
        ((*TAKE, COOL, "go to countertop 1"), "@  countertop 1  mug 2                     sidetable 1   ?"),
    ],
)
def test_lines(commands: tuple[str, ...], line: str) -> None:
    h = home()
    assert [drawn.split() for drawn in draw(h, after(h, *commands)).splitlines() if drawn.split() == line.split()]
