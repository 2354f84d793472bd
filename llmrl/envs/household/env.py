"""A home as a text world. `home` has the rules, `text` the words, and `generate` the games."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import get_args

from llmrl.envs.base import TextEnv, Turn
from llmrl.envs.household import drawing
from llmrl.envs.household.expert import Expert
from llmrl.envs.household.game import Game
from llmrl.envs.household.generate import Asked, Split, game_name, random_game
from llmrl.envs.household.home import Home, HomeState
from llmrl.envs.household.instructions import Unit, first_games
from llmrl.envs.household.text import Memory, Words
from llmrl.envs.household.text import task as instruction

PRACTISED = 1000  # games that are looked through for those of other instructions


def household(
    *,
    task: Asked = "pick",
    split: Split = "dev",
    index: int = 0,
    count: int = 1,
    unit: Unit = "games",
    memory: Memory = "wanted",
    max_decisions: int = 50,
    render_mode: str | None = None,
) -> HouseholdEnv:
    """Generated games `index` to `index + count - 1` of a split, one task each (see `generate.random_game`).

    With `unit="instructions"` the index and the count are of instructions, in the order in which games first give them,
    and the first game that gives each is its task. Raises ValueError where a split has not so many.
    """
    if count < 1:
        raise ValueError(f"count={count}: ask for at least 1 game")
    if unit not in get_args(Unit):
        raise ValueError(f"unit={unit!r}: choose one of {', '.join(get_args(Unit))}")
    random_game(task, split, index)  # says what is wrong with its arguments
    by_game = unit == "games"
    numbers = range(index, index + count) if by_game else first_games(task, split, index, count)
    return HouseholdEnv(
        {game_name(task, split, number): (task, split, number) for number in numbers},
        memory=memory,
        max_decisions=max_decisions,
        render_mode=render_mode,
    )


class HouseholdEnv(TextEnv):
    """One task per game, named as the game is; a game is generated when it is first played.

    Reaching the goal pays 1 and ends the episode with success; nothing else pays. A decision is one primitive step.
    Nothing is random. `memory`: what the observation tells of what was seen before (see `text`).

    Source of the rules and the task types: ALFWorld (arXiv 2010.03768).
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (declared so by gymnasium)

    def __init__(
        self,
        games: dict[str, tuple[Asked, Split, int]],
        *,
        max_decisions: int,
        memory: Memory = "wanted",
        render_mode: str | None = None,
    ) -> None:
        """`games`: task id -> the arguments of `random_game`."""
        if memory not in get_args(Memory):
            raise ValueError(f"memory={memory!r}: choose one of {', '.join(get_args(Memory))}")
        super().__init__(list(games), max_decisions=max_decisions, render_mode=render_mode)
        self.games = games
        self.memory: Memory = memory
        self._play(random_game(*games[self.task_ids[0]]))
        self.state: HomeState = self.home.initial()

    def practice(self) -> Iterator[HouseholdEnv]:
        """Games of the split train and of this world's task type, whose instructions this world does not give."""
        tasks = {task for task, _, _ in self.games.values()}
        if own := [name for name, (_, split, _) in self.games.items() if split == "train"]:
            raise ValueError(f"examples come from games of the split train, and {own[0]} is one of them")
        goals = {random_game(*game).goal for game in self.games.values()}
        task: Asked = tasks.pop() if len(tasks) == 1 else "mixed"
        for number in range(PRACTISED):
            if random_game(task, "train", number).goal not in goals:
                yield household(task=task, split="train", index=number, memory=self.memory)

    def render(self) -> str:
        """The home, and what of it was searched, in plain text at most 80 columns wide, whatever `render_mode` says."""
        return drawing.draw(self.home, self.state)

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        self._play(random_game(*self.games[task_id]))
        self.state = self.home.initial()
        return instruction(self.home.game.goal), self._turn()

    def _step(self, index: int) -> Turn:
        self.state = self.home.apply(self.state, self.home.menu(self.state).commands[index])
        return self._turn()

    def _play(self, game: Game) -> None:
        self.home, self._expert, self._words = _load_script(game, self.memory)

    def _turn(self) -> Turn:
        done = self.home.done(self.state)
        return Turn(
            self._words.observation(self.state),
            self.home.menu(self.state).texts,
            reward=float(done),
            terminated=done,
            success=done,
            expert_actions=self._expert.plan(self.state).commands,
        )


@lru_cache(maxsize=64)
def _load_script(game: Game, memory: Memory) -> tuple[Home, Expert, Words]:
    """The script of a game that is played again and again."""
    home = Home(game)
    return home, Expert(home), Words(home, memory)
