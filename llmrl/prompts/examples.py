"""Examples for a prompt: an expert's decisions in other games of the same world, from the split for training.

An example is a stretch of consecutive decisions of one game, played along a shortest way to success. `fixed` takes the
first games, and from one example to the next later decisions. So the examples together show a game from its beginning
to its end; all states share them. `similar` takes the stretches whose last state is most like the state that is asked
about. It takes one of each game at most, and puts the most similar last. Nothing is random, and nothing depends on the
run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from llmrl.core.state import TextState
from llmrl.envs.base import TextEnv

POOL = 32  # games that similar examples are taken from
NGRAMS = 3  # words of an n-gram, at most, as llmrl.encoders.hash has them


class Step(NamedTuple):
    """One decision of an expert."""

    state: TextState  # with the whole history of its episode
    action: str


class NoExamples(ValueError):
    """There are not as many games as examples are wanted of, or nobody knows how they are played."""


class Examples:
    """The examples of each state: `of(state)`, one decision after another."""

    def __init__(self, worlds: Iterable[TextEnv], shots: int, steps: int, select: str) -> None:
        """worlds: of one game each; no more of them are played than are needed. steps: of an example, at most.

        Raises NoExamples.
        """
        games = list(islice(map(play_expert, worlds), POOL if select == "similar" else shots))
        if len(games) < shots:
            raise NoExamples(f"there are {len(games)} games for {shots} examples")
        self._shots = shots
        self._fixed: list[Step] = []
        self._pool: list[tuple[int, frozenset[tuple[str, ...]], Sequence[Step]]] = []  # game, n-grams, stretch
        for number, game in enumerate(games):
            starts = max(1, len(game) - steps + 1)
            if select == "similar":
                stretches = [game[start : start + steps] for start in range(starts)]
                self._pool += [(number, _grams(stretch[-1].state), stretch) for stretch in stretches]
            else:
                start = round(number * (starts - 1) / max(1, shots - 1))
                self._fixed += game[start : start + steps]

    def of(self, state: TextState) -> Sequence[Step]:
        if not self._pool:
            return self._fixed
        grams = _grams(state)
        best: dict[int, tuple[float, int]] = {}  # of each game: how similar, and where in the pool
        for at, (game, others, _) in enumerate(self._pool):
            similarity = len(grams & others) / math.sqrt(len(grams) * len(others))
            if game not in best or similarity > best[game][0]:
                best[game] = similarity, at
        chosen = sorted(best.values(), key=lambda found: (-found[0], found[1]))[: self._shots]
        return [step for _, at in reversed(chosen) for step in self._pool[at][2]]


def play_expert(world: TextEnv) -> list[Step]:
    """An expert's episode: at each decision the first of the menu that begins a shortest way to success."""
    return list(_steps(world))


def _steps(world: TextEnv) -> Iterator[Step]:
    seen, info = world.reset(seed=0)
    state, over = TextState.of(seen), False
    while not over:
        experts = info.get("expert_actions") or frozenset()
        action = next((action for action in state.actions if action in experts), None)
        if action is None:
            raise NoExamples(f"{type(world).__name__} does not give an expert's actions (expert_actions in its info)")
        yield Step(state, action)
        seen, _, terminated, truncated, info = world.step(action)
        state = state.after(action, seen)
        over = terminated or truncated


def _grams(state: TextState) -> frozenset[tuple[str, ...]]:
    """The word n-grams of each line of what a state says; of two sets the cosine is what is compared."""
    lines = (state.task, state.observation, *state.actions)
    words = [line.casefold().split() for line in lines]
    return frozenset(
        tuple(line[i : i + n]) for line in words for n in range(1, NGRAMS + 1) for i in range(len(line) - n + 1)
    )
