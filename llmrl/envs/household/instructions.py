"""Games by what they ask: for each instruction the first game that gives it, in the order in which games do.

An instruction is a goal: task, object and receptacle. Games are looked through only as far as is asked for, and what
was found is kept. A split has a fixed supply of instructions, and games without end, so the search has one: after
`SEARCHED` games (seconds) hardly any asks for anything new.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from llmrl.envs.household.game import Goal
from llmrl.envs.household.generate import Asked, Split, random_game

Unit = Literal["games", "instructions"]
SEARCHED = 4_000  # games of a task in a split, at most


def first_games(task: Asked, split: Split, index: int, count: int) -> list[int]:
    """The numbers of the games that are the first to give instructions `index` to `index + count - 1`.

    Raises ValueError where the first `SEARCHED` games give fewer.
    """
    search = _search(task, split)
    search.find(index + count)
    if len(search.numbers) < index + count:
        raise ValueError(
            f"index={index}, count={count}: the first {SEARCHED:,} games of {task} in {split} give "
            f"{len(search.numbers)} instructions, numbered from 0"
        )
    return search.numbers[index : index + count]


class _Search:
    """The games of a task in a split, looked through from the first one; goes on where it stopped."""

    def __init__(self, task: Asked, split: Split) -> None:
        self._task, self._split = task, split
        self._given: set[Goal] = set()
        self._searched = 0
        self.numbers: list[int] = []  # of games that are the first to give their instruction

    def find(self, instructions: int) -> None:
        """Goes on until there are so many, or no more games to look through."""
        while len(self.numbers) < instructions and self._searched < SEARCHED:
            goal = random_game(self._task, self._split, self._searched).goal
            if goal not in self._given:
                self._given.add(goal)
                self.numbers.append(self._searched)
            self._searched += 1


_search = cache(_Search)
