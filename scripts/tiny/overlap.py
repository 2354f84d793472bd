"""How much of an evaluated world occurs in what the embedded model read, once foods have lost their names.

    python -m scripts.tiny.overlap

Dishes, layouts and tasks are disjoint (tests/tiny/test_disjoint.py), so nothing can be known by heart under its name.
What can is the shape: "You hold a raw FOOD1. Board 1 is free." Foods become numbered slots, in order of appearance, and
each row of the table gives, over the states of a world or the mean over several worlds,

    pair     the share of (observation, expert's action) that occur in the corpus
    +task    the same, of (order, observation, expert's action)
    lookup   the share of (order, observation) that a table of the corpus would get right: it answers with the action
             most often told for them, and with nothing where they were never told
    n=3..8   the share of the observations' n-grams of words, slots numbered anew in each, that occur in the corpus

over the states on any shortest way from the start ("way"), and over reachable ones ("all": every one, or a sample).
The corpus's own actions are often wrong, so that a pair occurs says that it could be learned, not that it was.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.expert import enumerate_states, expert_actions
from llmrl.envs.kitchen.layouts import FOODS, TOMATO, TOMATO_LETTUCE, overcooked_a, random_kitchen
from llmrl.envs.kitchen.world import Kitchen, KitchenState
from llmrl.priors.prompt import Prompt
from llmrl.schema import PromptConfig
from scripts.tiny.corpus import CorpusConfig, Example, examples

CARD = Path("llmrl/lm/tiny/tiny-1/card.json")
N = range(3, 9)
Words = tuple[str, ...]
# The same walkthroughs as those the model read, told with nothing but the order and what is seen.
BARE = PromptConfig(id="bare", template="{{ task }}\n{{ observation }}\n", prefix="", end="", history_turns=0)

_SLOT = re.compile(r"<\d+>")
_FOOD = re.compile(rf"\b(?:{'|'.join(FOODS)})\b")
_ARTICLE = re.compile(rf"\ban(?= (?:{'|'.join(FOODS)})\b)")
_WORD = re.compile(r"<\d+>|\w+|[^\w\s]")


def slotted(*texts: str) -> tuple[str, ...]:
    """The texts with each food as a slot, <1>, <2>, ..., numbered over all of them in order of appearance."""
    slots: dict[str, str] = {}
    return tuple(
        _FOOD.sub(lambda m: slots.setdefault(m.group(), f"<{len(slots) + 1}>"), _ARTICLE.sub("a", t)) for t in texts
    )


def ngrams(observation: str, n: int) -> Iterator[Words]:
    """Its n-grams of words and punctuation, slots numbered anew in each."""
    words = _WORD.findall(slotted(observation)[0])
    for i in range(len(words) - n + 1):
        slots: dict[str, str] = {}
        yield tuple(
            slots.setdefault(word, f"<{len(slots) + 1}>") if _SLOT.fullmatch(word) else word
            for word in words[i : i + n]
        )


@dataclass
class Seen:
    """What the corpus holds, without names."""

    pairs: set[tuple[str, ...]] = field(default_factory=set)  # (observation, action)
    told: defaultdict[tuple[str, ...], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    ngrams: dict[int, set[Words]] = field(default_factory=lambda: {n: set() for n in N})

    @classmethod
    def read(cls, corpus: Iterable[Example]) -> Seen:
        """`corpus` as told by BARE; how-to texts, which have no prompt, show no observation and are left out."""
        seen, observations = cls(), set()
        for example in corpus:
            if example.prompt:
                order, observation = example.prompt.splitlines()
                seen.pairs.add(slotted(observation, example.answer))
                *state, action = slotted(order, observation, example.answer)
                seen.told[tuple(state)][action] += 1
                observations.add(observation)
        for observation in observations:
            for n in N:
                seen.ngrams[n].update(ngrams(observation, n))
        return seen

    def lookup(self, order: str, observation: str, actions: Sequence[str]) -> bool:
        """Whether the action most often told for this order and observation is one of `actions`; ties are errors."""
        told = self.told.get(slotted(order, observation))
        if not told:
            return False
        most = max(told.values())
        best = [action for action, times in told.items() if times == most]
        return len(best) == 1 and best[0] in {slotted(order, observation, action)[-1] for action in actions}


def overlap(kitchen: Kitchen, states: Iterable[KitchenState], seen: Seen) -> dict[str, float]:
    """Shares, 0 to 1, over the distinct texts of `states`, all of which have an expert's action."""
    order = text.task(kitchen)
    experts: defaultdict[str, set[str]] = defaultdict(set)  # states that look alike may need different actions
    for state in states:
        menu = text.menu(kitchen, state)
        experts[text.observation(kitchen, state)].update(menu[i] for i in expert_actions(kitchen, state))
    pairs = [(observation, action) for observation, actions in experts.items() for action in sorted(actions)]
    shares = {
        "pair": _share(slotted(o, a) in seen.pairs for o, a in pairs),
        "+task": _share(_in_told(seen, order, o, a) for o, a in pairs),
        "lookup": _share(seen.lookup(order, o, sorted(actions)) for o, actions in experts.items()),
    }
    for n in N:
        grams = {gram for observation in experts for gram in ngrams(observation, n)}
        shares[f"n={n}"] = _share(gram in seen.ngrams[n] for gram in sorted(grams))
    return shares


def on_the_way(kitchen: Kitchen) -> list[KitchenState]:
    """Every state on a shortest way from the start, the served one left out."""
    found, frontier = {kitchen.initial(): None}, [kitchen.initial()]
    while frontier:
        state = frontier.pop()
        for action in sorted(expert_actions(kitchen, state)):
            successor = kitchen.apply(state, action).state
            if successor not in found and not successor.served:
                found[successor] = None
                frontier.append(successor)
    return list(found)


def reachable(kitchen: Kitchen, at_most: int) -> list[KitchenState]:
    """Reachable states from which there is a way to serve; of more than `at_most`, an even sample of that many."""
    states = [state for state in enumerate_states(kitchen) if not state.served]
    chosen = np.linspace(0, len(states) - 1, min(at_most, len(states))).astype(int)
    return [states[i] for i in chosen if expert_actions(kitchen, states[i])]


def _in_told(seen: Seen, order: str, observation: str, action: str) -> bool:
    *state, told = slotted(order, observation, action)
    return told in seen.told.get(tuple(state), ())


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found) if found else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kitchens", type=int, default=12, help="generated kitchens a row (default 12)")
    parser.add_argument("--states", type=int, default=1200, help="reachable states a kitchen, at most (default 1200)")
    args = parser.parse_args()
    cfg = CorpusConfig.of(json.loads(CARD.read_text())["corpus"])
    seen = Seen.read(examples(cfg, Prompt(BARE)))
    worlds = {"tomato": [overcooked_a(TOMATO)], "salad": [overcooked_a(TOMATO_LETTUCE)]}
    for split in ("dev", "test"):
        for ingredients in (1, 2, 3):
            those = [random_kitchen(split, index, ingredients) for index in range(args.kitchens)]
            worlds[f"{split}, {ingredients}"] = those
    columns = ["pair", "+task", "lookup", *(f"n={n}" for n in N)]
    print(f"| {'world':<8} | states | {' | '.join(f'{c:>6}' for c in columns)} |")
    print(f"|{'-' * 10}|{'-' * 8}|{'|'.join(['-' * 7 + ':'] * len(columns))}|")
    for world, kitchens in worlds.items():
        for which in ("way", "all"):
            rows = [overlap(k, on_the_way(k) if which == "way" else reachable(k, args.states), seen) for k in kitchens]
            means = (f"{100 * float(np.mean([row[c] for row in rows])):5.1f}%" for c in columns)
            print(f"| {world:<8} | {which:<6} | {' | '.join(means)} |", flush=True)


if __name__ == "__main__":
    main()
