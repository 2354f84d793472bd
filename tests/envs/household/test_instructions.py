"""Games by instruction: none twice, in the order in which they are first given, as many as there are."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.config.compose import compose
from llmrl.core.overrides import ConfigError
from llmrl.envs.household import instructions
from llmrl.envs.household.env import household
from llmrl.envs.household.generate import Asked, Split, game_name, random_game
from llmrl.envs.household.instructions import first_games
from llmrl.envs.household.text import task as instruction
from llmrl.run.identity import identify_run

MOST = 42  # instructions, from the first on; `examine` has hardly more
examples = settings(max_examples=30, deadline=None)
SPLITS: tuple[Split, ...] = ("train", "dev", "valid_seen", "valid_unseen")  # `corpus` has few instructions
worlds = st.tuples(st.sampled_from(get_args(Asked)), st.sampled_from(SPLITS))


def sentence(task: Asked, split: Split, number: int) -> str:
    return instruction(random_game(task, split, number).goal)


def told(task: Asked, split: Split, index: int, count: int) -> list[str]:
    return [sentence(task, split, number) for number in first_games(task, split, index, count)]


@examples
@given(worlds, st.integers(0, MOST - 18), st.integers(1, 6), st.integers(0, 6))
def test_no_instruction_comes_twice_in_one_range_or_in_two(
    world: tuple[Asked, Split], index: int, count: int, apart: int
) -> None:
    some, others = told(*world, index, count), told(*world, index + count + apart, count)
    assert len({*some, *others}) == 2 * count


@examples
@given(worlds, st.integers(0, MOST // 2), st.integers(1, 8))
def test_games_are_the_first_that_give_theirs_and_in_order(world: tuple[Asked, Split], index: int, count: int) -> None:
    first = first_games(*world, 0, index + count)
    sentences = [sentence(*world, number) for number in range(first[-1] + 1)]
    assert [sentences[number] for number in first] == list(dict.fromkeys(sentences))
    assert [sentences.index(sentences[number]) for number in first] == first
    assert first_games(*world, index, count) == first[index:]


@pytest.mark.parametrize("task", ["pick", "mixed"])
def test_a_split_by_instruction(task: Asked) -> None:
    """28 to train on, and 26 others."""
    train = household(task=task, split="train", unit="instructions", count=28)
    test = household(task=task, split="train", unit="instructions", index=28, count=26)
    asked = [[env.reset(options={"task": name})[0]["task"] for name in env.task_ids] for env in (train, test)]
    assert [len(env.task_ids) for env in (train, test)] == [28, 26]
    assert len({*asked[0], *asked[1]}) == 28 + 26
    games = [game_name(task, "train", number) for number in range(200)]
    for env in (train, test):
        assert list(env.task_ids) == sorted(env.task_ids, key=games.index)


def test_mixed_goes_through_all_six_tasks() -> None:
    env = household(task="mixed", unit="instructions", count=18)
    assert {name.partition("-")[0] for name in env.task_ids} == set(get_args(Asked)) - {"mixed"}


def test_games_are_taken_as_they_come_unless_instructions_are_asked_for() -> None:
    assert household(count=40).task_ids == tuple(f"pick-dev-{number}" for number in range(40))
    assert household(count=40, unit="instructions").task_ids != household(count=40).task_ids


def test_only_as_many_games_are_generated_as_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(task: Asked, split: Split, index: int) -> object:
        asked.append(index)
        return random_game(task, split, index)

    monkeypatch.setattr(instructions, "random_game", counted)
    instructions._search.cache_clear()
    last = first_games("heat", "dev", 0, 9)[-1]
    assert first_games("heat", "dev", 2, 7)[-1] == last
    assert asked == list(range(last + 1))
    first_games("heat", "dev", 9, 1)
    assert asked == list(range(first_games("heat", "dev", 9, 1)[0] + 1))


def test_the_search_ends_and_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "SEARCHED", 60)
    instructions._search.cache_clear()
    there = len({sentence("examine", "dev", number) for number in range(60)})
    assert household(task="examine", unit="instructions", index=there - 1).task_ids
    said = rf"index={there - 1}, count=2: the first 60 games of examine in dev give {there} instructions"
    with pytest.raises(ValueError, match=said):
        household(task="examine", unit="instructions", index=there - 1, count=2)
    with pytest.raises(ValueError, match=f"give {there} instructions"):
        household(task="examine", unit="instructions", index=10**9, count=1)
    instructions._search.cache_clear()


def test_they_are_the_same_in_every_process() -> None:
    code = "from llmrl.envs.household.env import household as h; print(*h(unit='instructions', count=20).task_ids)"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        for seed in ("1", "2")
    }
    assert printed == {household(unit="instructions", count=20).task_ids[-1]}


def test_what_is_no_unit() -> None:
    with pytest.raises(ValueError, match="unit='sentences': choose one of games, instructions"):
        household(unit="sentences")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"env\.unit=instruction: did you mean env\.unit=instructions\?"):
        compose(["env=household/pick", "env.unit=instruction"])


def test_the_setting_names_a_run_only_where_it_changes_one() -> None:
    plain, by_game, by_instruction = (
        identify_run(compose(["env=household/pick", "learner=dqn", *more]))
        for more in ([], ["env.unit=games"], ["env.unit=instructions"])
    )
    assert plain == by_game != by_instruction
