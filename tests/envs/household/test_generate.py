"""Splits that share nothing, games that can be solved, and that are the same every time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import cache
from typing import get_args

import pytest

from llmrl.envs.household.expert import Expert, solution
from llmrl.envs.household.game import TASKS, TREATED, Game
from llmrl.envs.household.generate import (
    LAYOUTS,
    OBJECTS_IN_A_HOME,
    POOLS,
    RECEPTACLES_IN_A_HOME,
    Split,
    game_name,
    of_corpus,
    pool_of,
    random_game,
    random_layout,
)
from llmrl.envs.household.home import Home
from llmrl.envs.household.types import LAMPS

SPLITS: tuple[Split, ...] = get_args(Split)
A_TASK = 15  # games of each split and task


@cache
def games(split: Split) -> list[Game]:
    return [random_game("mixed", split, index) for index in range(A_TASK * len(TASKS))]


def test_layouts_belong_to_one_pool() -> None:
    by_pool = {pool: {random_layout(pool, n).hash for n in range(size)} for pool, size in LAYOUTS.items()}
    assert sum(map(len, by_pool.values())) == len(set().union(*by_pool.values()))
    for pool, size in LAYOUTS.items():
        assert {pool_of(random_layout(pool, n)) for n in range(size)} == {pool}


@pytest.mark.parametrize("split", SPLITS)
def test_games_are_played_in_the_layouts_of_their_pool(split: Split) -> None:
    pool = POOLS[split]
    mine = {random_layout(pool, n).hash for n in range(LAYOUTS[pool])}
    assert {game.layout.hash for game in games(split)} <= mine


def test_no_two_games_are_alike() -> None:
    hashes = Counter(game.hash for split in SPLITS for game in games(split))
    assert len(hashes) == len(SPLITS) * A_TASK * len(TASKS)


def test_goals_of_the_corpus_are_asked_nowhere_else() -> None:
    for split in SPLITS:
        assert {of_corpus(game.goal) for game in games(split)} == {split == "corpus"}


@pytest.mark.parametrize("split", SPLITS)
def test_sizes_and_goals(split: Split) -> None:
    for game in games(split):
        home, goal = Home(game), game.goal
        assert RECEPTACLES_IN_A_HOME[0] <= len(game.layout.receptacles) <= RECEPTACLES_IN_A_HOME[1]
        assert OBJECTS_IN_A_HOME[0] <= len(game.objects) <= OBJECTS_IN_A_HOME[1]
        assert len(home.wanted) >= 1 + (goal.task == "pick_two")
        assert not any(game.layout.receptacles[home.objects[i].place].type == goal.receptacle for i in home.wanted)
        assert goal.task not in TREATED or home.treats
        assert goal.task != "examine" or any(thing.type in LAMPS for thing in game.objects)
        assert max(len(home.menu(home.initial()).texts), 10) <= 60


@pytest.mark.parametrize("split", SPLITS)
def test_every_game_is_solved_by_playing_it_and_no_sooner(split: Split) -> None:
    for game in games(split)[::2]:
        home = Home(game)
        expert, s = Expert(home), home.initial()
        commands = solution(game)
        assert len(commands) == expert.plan(s).distance > 2
        for text in commands:
            assert not home.done(s)
            assert text in expert.plan(s).commands
            menu = home.menu(s)
            s = home.apply(s, menu.commands[menu.texts.index(text)])
        assert home.done(s)


def test_homes_vary() -> None:
    found = games("train")
    assert len({game.goal for game in found}) > len(found) / 2
    assert len({game.layout.hash for game in found}) > 20
    assert len({len(solution(game)) for game in found}) >= 5


def test_mixed_takes_the_tasks_in_turn() -> None:
    assert [random_game("mixed", "dev", i).goal.task for i in range(7)] == [*TASKS, "pick"]
    assert random_game("mixed", "dev", 7) is random_game("examine", "dev", 1)
    assert [random_game("mixed", "dev", i).name for i in range(9)] == [game_name("mixed", "dev", i) for i in range(9)]


def test_games_are_the_same_in_every_process() -> None:
    code = "from llmrl.envs.household.generate import random_game as g; print(g('mixed', 'valid_seen', 3).hash)"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {random_game("mixed", "valid_seen", 3).hash}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cook", "dev", 0), "task='cook': choose one of pick, examine"),
        (("pick", "test", 0), "split='test': choose one of train, dev"),
        (("pick", "dev", -1), "index=-1: games are numbered from 0"),
    ],
)
def test_arguments_out_of_range(arguments: tuple[str, str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_game(*arguments)  # type: ignore[arg-type]
