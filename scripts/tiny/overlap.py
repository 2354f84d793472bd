"""How much of an evaluated world occurs in what the embedded model read, once things have lost their names.

    python -m scripts.tiny.overlap            # kitchens, and what tiny-1 read
    python -m scripts.tiny.overlap --homes    # homes, and what tiny-2 read

Dishes, layouts and tasks are disjoint (tests/tiny), so nothing can be known by heart under its name. What can is the
shape: "You hold a raw FOOD1. Board 1 is free." Foods become numbered slots, in order of appearance; in homes so do
objects, receptacles, and their numbers. Each row of the table gives, over the states of a world or the mean over
several worlds,

    pair     the share of (observation, expert's action) that occur in the corpus
    +task    the same, of (order, observation, expert's action)
    lookup   the share of (order, observation) that a table of the corpus would get right: it answers with the action
             most often told for them, and with nothing where they were never told
    n=3..8   the share of the observations' n-grams of words, slots numbered anew in each, that occur in the corpus

over the states on any shortest way from the start ("way"), and in kitchens over reachable ones ("all": every one, or a
sample). The corpus's own actions are often wrong, so that a pair occurs says that it could be learned, not that it was.

Homes are told with `env.memory=wanted`; their task is an order, too. The list of what was not looked into yet differs
between nearly all homes, so that whole observations hardly occur twice. Rows "here" are of the same states without the
list; there, a way to a receptacle that is nowhere named is a way to any such one.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from llmrl.envs.household.expert import Expert
from llmrl.envs.household.game import Game
from llmrl.envs.household.generate import Asked, Split, random_game
from llmrl.envs.household.home import Home, HomeState
from llmrl.envs.household.text import Words as HomeWords
from llmrl.envs.household.text import task as instruction
from llmrl.envs.household.types import OBJECTS, RECEPTACLES
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.expert import enumerate_states, expert_actions
from llmrl.envs.kitchen.layouts import FOODS, TOMATO, TOMATO_LETTUCE, overcooked_a, random_kitchen
from llmrl.envs.kitchen.world import Kitchen, KitchenState
from llmrl.prompts.prompt import Prompt
from llmrl.schema.priors import PromptConfig
from scripts.tiny.corpus import CorpusConfig, Example, examples

CARD = Path("llmrl/lm/tiny/tiny-1/card.json")
HOMES_CARD = Path("llmrl/lm/tiny/tiny-2/card.json")
SPLITS: tuple[Split, ...] = ("train", "dev", "valid_seen", "valid_unseen")
TASKS: tuple[Asked, ...] = ("pick", "examine", "mixed")
N = range(3, 9)
Words = tuple[str, ...]
S = TypeVar("S")
# The same walkthroughs as those the model read, told with nothing but the order and what is seen.
BARE = PromptConfig(id="bare", template="{{ task }}\n{{ observation }}\n", prefix="", end="", history_turns=0)

_SLOT = re.compile(r"<\d+>")
_WORD = re.compile(r"<\d+>|\w+|[^\w\s]")


class Names:
    """The words that name things in a world's texts. What numbers follow one, as in "drawer 1 3", names them too."""

    def __init__(self, words: Iterable[str]) -> None:
        either = "|".join(words)
        self._name = re.compile(rf"\b({either})\b((?: \d+\b)*)")
        self._article = re.compile(rf"\ban(?= (?:{either})\b)")

    def slotted(self, *texts: str) -> tuple[str, ...]:
        """The texts with each name, and each of its numbers, as a slot, <1>, <2>, ..., numbered over all of them in
        order of appearance."""
        slots: dict[tuple[str, str], str] = {}

        def slot(match: re.Match[str]) -> str:
            name, numbers = match.groups()
            return " ".join(slots.setdefault((name, n), f"<{len(slots) + 1}>") for n in ("", *numbers.split()))

        return tuple(self._name.sub(slot, self._article.sub("a", t)) for t in texts)

    def ngrams(self, observation: str, n: int) -> Iterator[Words]:
        """Its n-grams of words and punctuation, slots numbered anew in each."""
        words = _WORD.findall(self.slotted(observation)[0])
        for i in range(len(words) - n + 1):
            slots: dict[str, str] = {}
            yield tuple(
                slots.setdefault(word, f"<{len(slots) + 1}>") if _SLOT.fullmatch(word) else word
                for word in words[i : i + n]
            )


KITCHENS = Names(FOODS)
HOMES = Names(kind.lower() for kind in (*RECEPTACLES, *OBJECTS))


def as_it_is(observation: str) -> str:
    return observation


def here(observation: str) -> str:
    """A home's observation without the list of what was not looked into yet."""
    return "\n".join(line for line in observation.split("\n") if not line.startswith("Not looked into yet: "))


@dataclass
class Seen:
    """The texts of the corpus, without names."""

    names: Names
    shown: Callable[[str], str] = as_it_is  # what of an observation counts
    pairs: set[tuple[str, ...]] = field(default_factory=set)  # (observation, action)
    told: defaultdict[tuple[str, ...], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    ngrams: dict[int, set[Words]] = field(default_factory=lambda: {n: set() for n in N})

    @classmethod
    def read(cls, corpus: Iterable[Example], names: Names = KITCHENS, shown: Callable[[str], str] = as_it_is) -> Seen:
        """`corpus` as told by BARE; how-to texts, which have no prompt, show no observation and are left out."""
        seen, observations = cls(names, shown), set()
        for example in corpus:
            if example.prompt:
                order, observation = example.prompt.removesuffix("\n").split("\n", 1)
                observation = shown(observation)
                seen.pairs.add(names.slotted(observation, example.answer))
                *state, action = names.slotted(order, observation, example.answer)
                seen.told[tuple(state)][action] += 1
                observations.add(observation)
        for observation in observations:
            for n in N:
                seen.ngrams[n].update(names.ngrams(observation, n))
        return seen

    def lookup(self, order: str, observation: str, actions: Sequence[str]) -> bool:
        """Whether the action most often told for this order and observation is one of `actions`; ties are errors."""
        told = self.told.get(self.names.slotted(order, observation))
        if not told:
            return False
        most = max(told.values())
        best = [action for action, times in told.items() if times == most]
        return len(best) == 1 and best[0] in {self.names.slotted(order, observation, a)[-1] for a in actions}


def overlap(kitchen: Kitchen, states: Iterable[KitchenState], seen: Seen) -> dict[str, float]:
    """Shares, 0 to 1, over the distinct texts of `states`, all of which have an expert's action."""
    order = text.task(kitchen)
    experts: defaultdict[str, set[str]] = defaultdict(set)  # states that look alike may need different actions
    for state in states:
        menu = text.menu(kitchen, state)
        experts[text.observation(kitchen, state)].update(menu[i] for i in expert_actions(kitchen, state))
    return shares(order, experts, seen)


def home_overlap(game: Game, seen: Seen) -> dict[str, float]:
    """Shares over the distinct texts of the states on any shortest way through a game."""
    home = Home(game)
    expert, words = Expert(home), HomeWords(home, "wanted")
    experts: defaultdict[str, set[str]] = defaultdict(set)
    for state in on_the_way_home(home, expert):
        experts[seen.shown(words.observation(state))].update(expert.plan(state).commands)
    return shares(instruction(game.goal), experts, seen)


def shares(order: str, experts: Mapping[str, set[str]], seen: Seen) -> dict[str, float]:
    """Shares over observations, each with its experts' actions."""
    names = seen.names
    pairs = [(observation, action) for observation, actions in experts.items() for action in sorted(actions)]
    found = {
        "pair": _share(names.slotted(o, a) in seen.pairs for o, a in pairs),
        "+task": _share(_in_told(seen, order, o, a) for o, a in pairs),
        "lookup": _share(seen.lookup(order, o, sorted(actions)) for o, actions in experts.items()),
    }
    for n in N:
        grams = {gram for observation in experts for gram in names.ngrams(observation, n)}
        found[f"n={n}"] = _share(gram in seen.ngrams[n] for gram in sorted(grams))
    return found


def on_the_way(kitchen: Kitchen) -> list[KitchenState]:
    """Every state on a shortest way from the start, the served one left out."""

    def after(state: KitchenState) -> list[KitchenState]:
        successors = [kitchen.apply(state, action).state for action in sorted(expert_actions(kitchen, state))]
        return [successor for successor in successors if not successor.served]

    return _walked(kitchen.initial(), after)


def on_the_way_home(home: Home, expert: Expert) -> list[HomeState]:
    """Every state on a shortest way from the start, those at the goal left out."""

    def after(state: HomeState) -> list[HomeState]:
        menu = home.menu(state)
        commands = sorted(menu.texts.index(command) for command in expert.plan(state).commands)
        successors = [home.apply(state, menu.commands[i]) for i in commands]
        return [successor for successor in successors if not home.done(successor)]

    return _walked(home.initial(), after)


def reachable(kitchen: Kitchen, at_most: int) -> list[KitchenState]:
    """Reachable states from which there is a way to serve; of more than `at_most`, an even sample of that many."""
    states = [state for state in enumerate_states(kitchen) if not state.served]
    chosen = np.linspace(0, len(states) - 1, min(at_most, len(states))).astype(int)
    return [states[i] for i in chosen if expert_actions(kitchen, states[i])]


def _walked(start: S, after: Callable[[S], Iterable[S]]) -> list[S]:
    found, frontier = {start: None}, [start]
    while frontier:
        for successor in after(frontier.pop()):
            if successor not in found:
                found[successor] = None
                frontier.append(successor)
    return list(found)


def _in_told(seen: Seen, order: str, observation: str, action: str) -> bool:
    *state, told = seen.names.slotted(order, observation, action)
    return told in seen.told.get(tuple(state), ())


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found) if found else float("nan")


def kitchens_table(kitchens: int, states: int) -> Iterator[tuple[str, str, list[dict[str, float]]]]:
    """(world, which states, the shares of each of its kitchens)."""
    seen = Seen.read(_corpus(CARD))
    worlds = {"tomato": [overcooked_a(TOMATO)], "salad": [overcooked_a(TOMATO_LETTUCE)]}
    for split in ("dev", "test"):
        for ingredients in (1, 2, 3):
            those = [random_kitchen(split, index, ingredients) for index in range(kitchens)]
            worlds[f"{split}, {ingredients}"] = those
    for world, those in worlds.items():
        yield world, "way", [overlap(kitchen, on_the_way(kitchen), seen) for kitchen in those]
        yield world, "all", [overlap(kitchen, reachable(kitchen, states), seen) for kitchen in those]


def homes_table(games: int) -> Iterator[tuple[str, str, list[dict[str, float]]]]:
    """(world, which states, the shares of each of its games)."""
    corpus = list(_corpus(HOMES_CARD))
    seen = {"way": Seen.read(corpus, HOMES), "here": Seen.read(corpus, HOMES, here)}
    for split in SPLITS:
        for task in TASKS:
            those = [random_game(task, split, index) for index in range(games)]
            for which, of in seen.items():
                yield f"{split}, {task}", which, [home_overlap(game, of) for game in those]


def _corpus(card: Path) -> Iterator[Example]:
    return examples(CorpusConfig.of(json.loads(card.read_text())["corpus"]), Prompt(BARE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homes", action="store_true", help="a table for homes, not for kitchens")
    parser.add_argument("--games", type=int, default=12, help="games of homes a row (default 12)")
    parser.add_argument("--kitchens", type=int, default=12, help="generated kitchens a row (default 12)")
    parser.add_argument("--states", type=int, default=1200, help="reachable states a kitchen, at most (default 1200)")
    args = parser.parse_args()
    table = homes_table(args.games) if args.homes else kitchens_table(args.kitchens, args.states)
    width = max(len(f"{split}, {task}") for split in SPLITS for task in TASKS) if args.homes else 8
    columns = ["pair", "+task", "lookup", *(f"n={n}" for n in N)]
    print(f"| {'world':<{width}} | states | {' | '.join(f'{c:>6}' for c in columns)} |")
    print(f"|{'-' * (width + 2)}|{'-' * 8}|{'|'.join(['-' * 7 + ':'] * len(columns))}|")
    for world, which, rows in table:
        means = (f"{100 * float(np.mean([row[c] for row in rows])):5.1f}%" for c in columns)
        print(f"| {world:<{width}} | {which:<6} | {' | '.join(means)} |", flush=True)


if __name__ == "__main__":
    main()
