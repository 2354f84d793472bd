"""The texts of homes for the embedded model: walkthroughs of games of the `corpus` split, by authors who err often.

The layouts, the games and the goals of that split are in no other (tests/tiny prove it). An author knows the home, and
goes straight for what is wanted; a reader, who does not, learns from many of them where such things are usually kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmrl.core.state import TextState
from llmrl.envs.household.expert import Expert
from llmrl.envs.household.game import Game
from llmrl.envs.household.generate import random_game
from llmrl.envs.household.home import Home, HomeState
from llmrl.envs.household.text import Memory, Words
from llmrl.envs.household.text import task as instruction

MEMORIES: tuple[Memory, ...] = ("wanted", "wanted", "wanted", "none")  # what observations tell, drawn per walkthrough


@dataclass(frozen=True)
class HomesConfig:
    games: int = 1800  # of the corpus split, the six tasks in turn
    walkthroughs: int = 1  # per game
    mistakes: tuple[float, float] = (0.2, 0.5)  # each author errs with a probability drawn from this range
    max_decisions: int = 30
    max_history: int = 3  # half of the decisions are told with 1 to this many earlier actions
    seed: int = 1


@dataclass(frozen=True)
class HomeDecision:
    """One decision of a walkthrough."""

    told: TextState  # with all of the episode so far
    shown: int  # how many earlier actions a text about it tells
    action: int  # what the author does
    good: frozenset[int]  # the actions that begin a shortest way to the goal
    state: HomeState


def games(cfg: HomesConfig) -> list[Game]:
    return [random_game("mixed", "corpus", index) for index in range(cfg.games)]


def walkthroughs(cfg: HomesConfig) -> Iterator[Iterator[HomeDecision]]:
    """Those of every game. One has to be gone through before the next: they share a stream."""
    rng = np.random.Generator(np.random.PCG64(cfg.seed))
    for index in range(cfg.games):
        home = Home(random_game("mixed", "corpus", index))
        expert = Expert(home)
        words = {memory: Words(home, memory) for memory in MEMORIES}
        for _ in range(cfg.walkthroughs):
            memory = MEMORIES[int(rng.integers(len(MEMORIES)))]
            yield walkthrough(home, expert, words[memory], cfg, rng)


def walkthrough(
    home: Home, expert: Expert, words: Words, cfg: HomesConfig, rng: np.random.Generator
) -> Iterator[HomeDecision]:
    state, task = home.initial(), instruction(home.game.goal)
    history: list[tuple[str, str]] = []
    mistakes = rng.uniform(*cfg.mistakes)
    for _ in range(cfg.max_decisions):
        observation, menu = words.observation(state), home.menu(state)
        good = frozenset(menu.texts.index(text) for text in expert.plan(state).commands)
        knows = rng.random() >= mistakes
        action = int(rng.choice(sorted(good))) if knows else int(rng.integers(len(menu.texts)))
        shown = int(rng.integers(1, cfg.max_history + 1)) if rng.random() < 0.5 else 0
        yield HomeDecision(TextState(task, observation, menu.texts, tuple(history)), shown, action, good, state)
        history.append((observation, menu.texts[action]))
        state = home.apply(state, menu.commands[action])
        if home.done(state):
            return
