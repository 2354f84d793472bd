"""The texts of the embedded model: how-to texts and walkthroughs of generated kitchens, by authors who are often wrong.

Only kitchens of the `train` split are read. The two fixed tasks, map A, and every dish and layout of `dev` and `test`
are absent (tests/tiny prove it). A walkthrough is told decision by decision in the wording of the default prompt. From
tiny-2 on walkthroughs of homes follow (see `homes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from llmrl.core.state import TextState
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.expert import expert_actions
from llmrl.envs.kitchen.layouts import random_kitchen
from llmrl.envs.kitchen.world import Effect, Kitchen
from llmrl.prompts.prompt import Prompt
from scripts.tiny import homes
from scripts.tiny.homes import HomesConfig

Author = Literal["cook", "random"]


@dataclass(frozen=True)
class CorpusConfig:
    kitchens: int = 800  # of the train split
    walkthroughs: int = 4  # per kitchen
    mistakes: tuple[float, float] = (0.45, 0.75)  # each author errs with a probability drawn from this range
    author: Author = "cook"  # "random": authors who know nothing, for a control model
    max_decisions: int = 60
    max_history: int = 4  # each decision is told with 0 to this many earlier actions
    howtos: int = 1500
    seed: int = 1
    texts: int | None = None  # keep so many of all texts, drawn evenly; None: all
    homes: HomesConfig | None = None  # homes that are read about, too

    @classmethod
    def of(cls, settings: dict[str, Any]) -> CorpusConfig:
        """The settings in a card, whose lists are tuples here."""
        told = settings.get("homes")
        read = HomesConfig(**{**told, "mistakes": tuple(told["mistakes"])}) if told else None
        return cls(**{**settings, "mistakes": tuple(settings["mistakes"]), "homes": read})

    @property
    def worlds(self) -> int:
        """Kitchens and games."""
        return self.kitchens + (self.homes.games if self.homes else 0)

    @property
    def episodes(self) -> int:
        """Walkthroughs."""
        of_homes = self.homes.games * self.homes.walkthroughs if self.homes else 0
        return self.kitchens * self.walkthroughs + of_homes


@dataclass(frozen=True)
class Example:
    """One text to learn from; `answer` is the part after the prompt (all of it for a how-to)."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Decision:
    """One decision of a walkthrough."""

    told: TextState  # with all of the episode so far
    shown: int  # how many earlier actions a text about it tells
    action: int  # what the author does
    good: frozenset[int]  # the actions that begin a shortest way to the dish
    effect: Effect  # what came of it


def examples(cfg: CorpusConfig, prompt: Prompt) -> Iterator[Example]:
    """Raises ValueError where `texts` asks for more than there are."""
    if cfg.texts is None:
        yield from _told(cfg, prompt)
        return
    every = list(_told(cfg, prompt))
    if cfg.texts > len(every):
        raise ValueError(f"texts={cfg.texts}: {cfg.kitchens} kitchens give {len(every)}; ask for more kitchens")
    yield from (every[i] for i in np.linspace(0, len(every), cfg.texts, endpoint=False, dtype=int))


def generator(cfg: CorpusConfig) -> np.random.Generator:
    """The stream that all of a corpus is drawn from, in its order."""
    return np.random.Generator(np.random.PCG64(cfg.seed))


def kitchens(cfg: CorpusConfig) -> list[Kitchen]:
    return [random_kitchen("train", index) for index in range(cfg.kitchens)]


def walkthroughs(cfg: CorpusConfig, read: Sequence[Kitchen], rng: np.random.Generator) -> Iterator[Iterator[Decision]]:
    """Those of `read`, kitchen by kitchen. One has to be gone through before the next: they share a stream."""
    for kitchen in read:
        for _ in range(cfg.walkthroughs):
            yield _walkthrough(kitchen, cfg, rng)


def _told(cfg: CorpusConfig, prompt: Prompt) -> Iterator[Example]:
    rng = generator(cfg)
    read = kitchens(cfg)
    for walkthrough in walkthroughs(cfg, read, rng):
        for d in walkthrough:
            answer = f"{prompt.prefix}{d.told.actions[d.action]}{prompt.end}"
            yield Example(prompt.render(d.told, history_turns=d.shown), answer)
    for _ in range(cfg.howtos):
        yield Example("", _howto(read[int(rng.integers(len(read)))], rng))
    for told in homes.walkthroughs(cfg.homes) if cfg.homes else ():
        for decision in told:
            answer = f"{prompt.prefix}{decision.told.actions[decision.action]}{prompt.end}"
            yield Example(prompt.render(decision.told, history_turns=decision.shown), answer)


def _walkthrough(kitchen: Kitchen, cfg: CorpusConfig, rng: np.random.Generator) -> Iterator[Decision]:
    state = kitchen.initial()
    history: list[tuple[str, str]] = []
    mistakes = rng.uniform(*cfg.mistakes)
    for _ in range(cfg.max_decisions):
        observation, menu = text.observation(kitchen, state), text.menu(kitchen, state)
        good = expert_actions(kitchen, state)
        knows = cfg.author == "cook" and good and rng.random() >= mistakes
        action = int(rng.choice(sorted(good))) if knows else int(rng.integers(len(menu)))
        shown = int(rng.integers(0, cfg.max_history + 1))
        effect = kitchen.apply(state, action)
        told = TextState(text.task(kitchen), observation, menu, tuple(history))
        yield Decision(told, shown, action, frozenset(good), effect)
        history.append((observation, menu[action]))
        state = effect.state
        if state.served:
            return


def _howto(kitchen: Kitchen, rng: np.random.Generator) -> str:
    """A few sentences of advice about a dish, in one of several wordings."""
    foods = [kitchen.foods[i] for i in rng.permutation(sorted(kitchen.dish))]
    title = text.task(kitchen).removeprefix("Cook and serve: ").removesuffix(".")
    steps = []
    for food in foods:
        fetch = rng.choice([f"fetch the {food}", f"first fetch the {food}", f"go and fetch the {food}"])
        put = f"put the {food} on a board"
        chop = rng.choice([f"chop the {food}", f"chop the {food} while your hands are empty"])
        steps.append(f"{fetch}, {put} and {chop}.")
    gather = rng.choice(["Then take the empty bowl", "When all is chopped, take the empty bowl"])
    adds = ", ".join(f"add the {food} to the bowl" for food in foods)
    steps.append(f"{gather}, {adds}, and serve the dish.")
    opening = rng.choice(["How to make", "A recipe for", "Here is how one makes"])
    return f"{opening} {title}: " + " ".join(s[0].upper() + s[1:] for s in steps) + "\n"
