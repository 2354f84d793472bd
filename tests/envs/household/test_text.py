"""What is told, word for word; and that it is a function of what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from envs.household.test_home import COOL, PUT, TAKE, after, home
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.envs.household.game import Game, Goal, Object
from llmrl.envs.household.generate import random_game
from llmrl.envs.household.home import MIDDLE, Home, HomeState
from llmrl.envs.household.text import Memory, Words, task
from llmrl.envs.household.types import MAY_HOLD

ALL = "Not looked into yet: kitchen: cabinet 1, countertop 1, fridge 1, microwave 1, sidetable 1, sinkbasin 1."
LEFT = "Not looked into yet: kitchen: cabinet 1, countertop 1, microwave 1, sidetable 1, sinkbasin 1."


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        (Goal("pick", "Apple", "CounterTop"), "Find an apple and leave it on a countertop."),
        (Goal("examine", "Book", None), "Find a book and hold it at a lamp that is switched on."),
        (Goal("clean", "Mug", "Cabinet"), "Find a mug, clean it and leave it in a cabinet."),
        (Goal("heat", "Egg", "Fridge"), "Find an egg, heat it and leave it in a fridge."),
        (Goal("cool", "Pan", "StoveBurner"), "Find a pan, cool it and leave it on a stoveburner."),
        (Goal("pick_two", "Pen", "Desk"), "Find a pen and another pen and leave both on one desk."),
    ],
)
def test_instructions(goal: Goal, told: str) -> None:
    assert task(goal) == told


@pytest.mark.parametrize(
    ("commands", "memory", "told"),
    [
        ((), "wanted", f"You stand in the middle of the home. Your hands are empty.\n{ALL}"),
        ((), "none", f"You stand in the middle of the home. Your hands are empty.\n{ALL}"),
        (TAKE[:1], "none", "You stand at fridge 1 in the kitchen. It is shut. Your hands are empty."),
        (TAKE[:1], "wanted", f"You stand at fridge 1 in the kitchen. It is shut. Your hands are empty.\n{ALL}"),
        (
            TAKE[:2],
            "wanted",
            "You stand at fridge 1 in the kitchen. It is open; in it: apple 1. Your hands are empty.\n"
            f"Found: apple 1 at fridge 1.\n{LEFT}",
        ),
        (
            (*TAKE, COOL),
            "all",
            "You stand at fridge 1 in the kitchen. It is open; in it: nothing. You hold apple 1 (cold).\n"
            f"Found: fridge 1: nothing.\n{LEFT}",
        ),
        (
            (*TAKE, COOL, *PUT),
            "none",
            "You stand at countertop 1 in the kitchen. On it: apple 1 (cold), mug 2. Your hands are empty.",
        ),
    ],
)
def test_observations(commands: tuple[str, ...], memory: Memory, told: str) -> None:
    h = home()
    assert Words(h, memory).observation(after(h, *commands)) == told


def test_lamps_are_remembered_where_they_are_wanted() -> None:
    commands = ("go to sidetable 1", "use desklamp 1", "go to countertop 1")
    told = {goal.task: Words(home(goal), "wanted").observation(after(home(goal), *commands)) for goal in GOALS}
    assert "Found: book 1 at sidetable 1, desklamp 1 (on) at sidetable 1." in told["examine"]
    assert "Found" not in told["pick"]


GOALS = (Goal("examine", "Book", None), Goal("pick", "Apple", "CounterTop"))


def test_when_everything_was_looked_into_nothing_is_left() -> None:
    h = home()
    every = [f"go to {r.name}" for r in h.receptacles if not r.openable]
    every += [f"{verb} {r.name}" for r in h.receptacles if r.openable for verb in ("go to", "open")]
    assert "Not looked into" not in Words(h, "wanted").observation(after(h, *every))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 23), st.lists(st.integers(0, 10_000), max_size=25), st.randoms(use_true_random=False))
def test_what_was_not_seen_is_not_told(index: int, choices: list[int], random: object) -> None:
    """The same commands in a home whose other contents were taken away or moved about tell the same, at every step."""
    game = random_game("mixed", "dev", index)
    h = Home(game)
    states, commands = [h.initial()], []
    for choice in choices:
        menu = h.menu(states[-1])
        commands.append(menu.texts[choice % len(menu.texts)])
        states.append(h.apply(states[-1], menu.commands[choice % len(menu.texts)]))
    other = Home(_changed(game, states[-1].searched, random))
    s = other.initial()
    for memory in get_args(Memory):
        mine, others = Words(h, memory), Words(other, memory)
        s = other.initial()
        for step, state in enumerate(states):
            assert others.observation(s) == mine.observation(state)
            assert other.menu(s).texts == h.menu(state).texts
            if step < len(commands):
                menu = other.menu(s)
                s = other.apply(s, menu.commands[menu.texts.index(commands[step])])


def _changed(game: Game, searched: int, random: object) -> Game:
    """What lies in receptacles that were not looked into is elsewhere among them, or gone."""
    hidden = [i for i in range(len(game.layout.receptacles)) if not searched >> i & 1]
    objects: list[Object] = []
    for thing in game.objects:
        if thing.place not in hidden:
            objects.append(thing)
        elif random.random() < 0.7:  # type: ignore[attr-defined]
            places = [i for i in hidden if thing.type in MAY_HOLD[game.layout.receptacles[i].type]]
            objects.append(replace(thing, place=random.choice(places)))  # type: ignore[attr-defined]
    return replace(game, objects=tuple(objects))


def test_what_is_hidden_does_differ() -> None:
    """The test above compares homes that are not the same."""
    import random

    game = random_game("mixed", "dev", 0)
    assert _changed(game, 0, random.Random(0)).objects != game.objects
    assert HomeState(MIDDLE, 0, (), 0, 0) != Home(game).initial()
