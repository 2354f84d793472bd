"""The rules, on a home that is written down here, and on generated ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.envs.household.game import Game, Goal, Layout, Object, Receptacle
from llmrl.envs.household.generate import random_game
from llmrl.envs.household.home import HELD, MIDDLE, NOTHING, Home, HomeState

KINDS = ("Cabinet", "CounterTop", "Fridge", "Microwave", "SideTable", "SinkBasin")
LAYOUT = Layout(("kitchen",), tuple(Receptacle(kind, 1, "kitchen") for kind in KINDS))
THINGS = (
    Object("Apple", 1, 2), Object("Mug", 1, 0), Object("Mug", 2, 1), Object("DeskLamp", 1, 4), Object("Book", 1, 4),
)  # fmt: skip


def home(goal: Goal = Goal("pick", "Apple", "CounterTop")) -> Home:  # noqa: B008  (frozen)
    return Home(Game("written", LAYOUT, THINGS, goal))


def after(h: Home, *commands: str) -> HomeState:
    s = h.initial()
    for text in commands:
        menu = h.menu(s)
        s = h.apply(s, menu.commands[menu.texts.index(text)])
    return s


def offered(h: Home, s: HomeState, *verbs: str) -> set[str]:
    return {text for text in h.menu(s).texts if text.startswith(verbs)}


def test_at_first_the_agent_may_go_anywhere_and_do_nothing_else() -> None:
    h = home()
    assert h.menu(h.initial()).texts == (
        "go to cabinet 1", "go to countertop 1", "go to fridge 1", "go to microwave 1", "go to sidetable 1",
        "go to sinkbasin 1", "help", "inventory", "look",
    )  # fmt: skip


def test_what_is_shut_is_opened_first() -> None:
    h = home()
    at = after(h, "go to fridge 1")
    assert offered(h, at, "open", "close", "take", "examine") == {"open fridge 1", "examine fridge 1"}
    opened = after(h, "go to fridge 1", "open fridge 1")
    assert offered(h, opened, "open", "close", "take") == {"close fridge 1", "take apple 1 from fridge 1"}
    assert "go to fridge 1" not in h.menu(opened).texts
    shut = after(h, "go to fridge 1", "open fridge 1", "close fridge 1")
    assert h.menu(shut) == h.menu(at)


def test_one_object_is_held_and_put_where_it_may_be() -> None:
    h = home()
    s = after(h, "go to fridge 1", "open fridge 1", "take apple 1 from fridge 1")
    assert (s.hand, s.places[s.hand]) == (0, HELD)
    assert offered(h, s, "examine") == {"examine apple 1", "examine fridge 1"}
    assert not offered(h, after(h, *TAKE, "go to cabinet 1", "open cabinet 1"), "move", "take")  # no food in cabinets
    assert offered(h, after(h, *TAKE, "go to sidetable 1"), "move", "take") == {"move apple 1 to sidetable 1"}
    assert not offered(h, after(h, *TAKE, "go to microwave 1"), "move")  # shut


TAKE = ("go to fridge 1", "open fridge 1", "take apple 1 from fridge 1")


def test_held_objects_are_treated_where_that_can_be_done_shut_or_not() -> None:
    h = home()
    hot = after(h, *TAKE, "go to microwave 1", "heat apple 1 with microwave 1")
    assert (hot.hot, hot.cool, hot.clean) == (1, 0, 0)
    cold = after(h, *TAKE, "go to microwave 1", "heat apple 1 with microwave 1", *("go to fridge 1",), COOL)
    assert (cold.hot, cold.cool, cold.clean) == (0, 1, 0)
    clean = after(h, *TAKE, COOL, "go to sinkbasin 1", "clean apple 1 with sinkbasin 1")
    assert (clean.hot, clean.cool, clean.clean) == (0, 1, 1)
    book = after(h, "go to sidetable 1", "take book 1 from sidetable 1", "go to microwave 1")
    assert not offered(h, book, "heat", "cool", "clean")


COOL = "cool apple 1 with fridge 1"


def test_a_lamp_is_used_where_it_stands_and_stays_on() -> None:
    h = home(Goal("examine", "Book", None))
    s = after(h, "go to sidetable 1")
    assert offered(h, s, "use", "take") == {"use desklamp 1", "take book 1 from sidetable 1"}
    assert after(h, "go to sidetable 1", "use desklamp 1", "use desklamp 1").lit.bit_count() == 1
    assert not h.done(after(h, "go to sidetable 1", "use desklamp 1"))
    assert h.done(after(h, "go to sidetable 1", "take book 1 from sidetable 1", "use desklamp 1"))
    elsewhere = ("go to sidetable 1", "take book 1 from sidetable 1", "use desklamp 1", "go to countertop 1")
    assert not h.done(after(h, *elsewhere))


def test_looking_changes_nothing() -> None:
    h = home()
    s = after(h, *TAKE)
    for text in ("look", "inventory", "help", "examine apple 1", "examine fridge 1"):
        assert after(h, *TAKE, text) == s


PUT = ("go to countertop 1", "move apple 1 to countertop 1")


@pytest.mark.parametrize(
    ("goal", "short", "last"),
    [
        (Goal("pick", "Apple", "CounterTop"), (*TAKE, PUT[0]), PUT[1]),
        (Goal("cool", "Apple", "CounterTop"), (*TAKE, COOL, PUT[0]), PUT[1]),
        (
            Goal("clean", "Apple", "SideTable"),
            (*TAKE, "go to sinkbasin 1", "clean apple 1 with sinkbasin 1", "go to sidetable 1"),
            "move apple 1 to sidetable 1",
        ),
    ],
)
def test_the_goal_is_reached_with_the_last_move(goal: Goal, short: tuple[str, ...], last: str) -> None:
    h = home(goal)
    assert not h.done(after(h, *short))
    assert h.done(after(h, *short, last))


def test_what_was_not_treated_does_not_count() -> None:
    assert not home(Goal("cool", "Apple", "CounterTop")).done(after(home(), *TAKE, *PUT))
    reheated = (*TAKE, COOL, "go to microwave 1", "heat apple 1 with microwave 1", *PUT)
    assert not home(Goal("cool", "Apple", "CounterTop")).done(after(home(), *reheated))


def test_two_have_to_lie_in_the_same_place() -> None:
    h = home(Goal("pick_two", "Mug", "CounterTop"))
    assert not h.done(h.initial())  # one is there already
    mug = ("go to cabinet 1", "open cabinet 1", "take mug 1 from cabinet 1")
    assert h.done(after(h, *mug, "go to countertop 1", "move mug 1 to countertop 1"))
    both = Home(
        Game(
            "two",
            Layout(("kitchen",), (*LAYOUT.receptacles, Receptacle("CounterTop", 2, "kitchen"))),
            THINGS,
            Goal("pick_two", "Mug", "CounterTop"),
        )
    )
    assert not both.done(after(both, *mug, "go to countertop 2", "move mug 1 to countertop 2"))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 11), st.lists(st.integers(0, 10_000), max_size=40))
def test_commands_are_sorted_and_states_hold_together(index: int, choices: list[int]) -> None:
    h = Home(random_game("mixed", "dev", index))
    s = h.initial()
    for choice in choices:
        menu = h.menu(s)
        assert list(menu.texts) == sorted(set(menu.texts))
        assert len(menu.commands) == len(menu.texts)
        s = h.apply(s, menu.commands[choice % len(menu.texts)])
        assert (s.hand == NOTHING) == (HELD not in s.places)
        assert s.places.count(HELD) <= 1
        assert all(place == HELD or h.holds(place, thing) for thing, place in enumerate(s.places))
        assert s.at == MIDDLE or not s.open >> s.at & 1 or s.searched >> s.at & 1  # who stands before it looks


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Goal("heat", "Book", "SideTable"), "heat: this cannot be done to a Book"),
        (lambda: Goal("pick", "Book", "Fridge"), "a Fridge does not hold a Book"),
        (lambda: Goal("pick", "DeskLamp", "SideTable"), "DeskLamp is not an object that can be picked up"),
        (lambda: Goal("examine", "Book", "SideTable"), "`examine` has none"),
        (lambda: Goal("pick", "Book", None), "the others have one"),
        (lambda: Goal("juggle", "Book", "Desk"), "task='juggle': choose one of pick"),
        (lambda: Layout(("kitchen",), (Receptacle("Oven", 1, "kitchen"),)), "Oven is not a type of receptacle"),
        (lambda: Layout(("bedroom",), LAYOUT.receptacles), "stands in a kitchen, and the home has none"),
        (lambda: Layout(("kitchen",), LAYOUT.receptacles[:1] * 2), "two things of one name: cabinet 1"),
        (lambda: Game("x", LAYOUT, (Object("Book", 1, 5),), home().game.goal), "sinkbasin 1 does not hold a Book"),
        (lambda: Game("x", LAYOUT, (Object("Book", 1, 9),), home().game.goal), "book 1 lies in receptacle 9 of 6"),
        (lambda: Game("x", LAYOUT, (Object("Brick", 1, 0),), home().game.goal), "Brick is not a type of object"),
        (lambda: Game("x", LAYOUT, THINGS[:1] * 2, home().game.goal), "two things of one name: apple 1"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
