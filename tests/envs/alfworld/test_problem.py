from __future__ import annotations

import re
from collections import defaultdict

import pytest
from envs.alfworld.small import small_game

from llmrl.envs.alfworld.problem import Names, pddl_problem
from llmrl.envs.alfworld.shadow import Shadow, game_from, record_of
from llmrl.envs.household.game import TASKS, Game, Layout, Object, Receptacle
from llmrl.envs.household.generate import random_game


@pytest.mark.parametrize("task", TASKS)
def test_a_game_survives_being_written_as_plain_data(task: str) -> None:
    game = random_game(task, "train", 3)  # type: ignore[arg-type]
    assert game_from(record_of(game)) == game


def test_a_problem_says_what_lies_where_and_what_is_wanted() -> None:
    text = pddl_problem(small_game())
    assert text.count("(") == text.count(")")
    assert "(inReceptacle Apple_bar_0999 Fridge_bar_0999)" in text
    assert "(heatable Mug_bar_0998)" in text
    assert "(canContain CabinetType MugType)" in text
    assert "(canContain CoffeeMachineType MugType)" not in text  # there is none
    assert "(openable Fridge_bar_0999)" in text
    assert "(openable CounterTop_bar_0999)" not in text
    (goal,) = re.findall(r"\(:goal (.*)\)", text)
    assert (
        "(objectType ?o MugType) (receptacleType ?r CabinetType) (inReceptacle ?o ?r) (heatable ?o) (isHot ?o)" in goal
    )


def test_numbers_of_the_engine_are_ours_where_ours_run_from_one() -> None:
    """Of things of a type, the engine calls the first in the order of identifiers the last."""
    game = random_game("pick", "train", 0)
    things = [*game.layout.receptacles, *game.objects]
    assert all(Names(game).theirs(f"go to {thing.name}") == f"go to {thing.name}" for thing in things)
    ids = re.findall(r"^    (\w+) - (?:receptacle|object)$", pddl_problem(game), re.MULTILINE)
    by_kind: dict[str, list[str]] = defaultdict(list)
    for identifier in ids:
        by_kind[kind_of(identifier)].append(identifier)
    for thing, identifier in zip(things, ids, strict=True):
        same = sorted(by_kind[kind_of(identifier)])
        assert f"{kind_of(identifier)} {len(same) - same.index(identifier)}" == thing.name


def kind_of(identifier: str) -> str:
    """As the engine's names begin: what stands before the first separator, and "basin" where that is in it anywhere."""
    return identifier.lower().partition("_bar_")[0] + "basin" * ("basin" in identifier.lower())


def test_other_numbers_are_translated_both_ways() -> None:
    layout = Layout(("kitchen",), (Receptacle("Shelf", 4, "kitchen"), Receptacle("Shelf", 7, "kitchen")))
    goal = small_game().goal
    game = Game("odd", layout, (Object("Mug", 2, 0), Object("Mug", 12, 1)), goal)
    names = Names(game)
    assert names.theirs("move mug 12 to shelf 4") == "move mug 2 to shelf 1"
    assert names.ours("move mug 2 to shelf 1") == "move mug 12 to shelf 4"
    assert names.theirs("look") == "look"


def test_a_shadow_follows_commands_and_knows_what_an_expert_does() -> None:
    shadow = Shadow(small_game())
    decisions = 0
    while not shadow.done():
        best = shadow.expert_actions()
        assert best <= set(shadow.commands())
        shadow.step(min(best))
        decisions += 1
    assert decisions == 7  # go, take, go, heat, go, open, move: the microwave need not be opened
