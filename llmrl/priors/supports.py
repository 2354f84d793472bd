"""Supports S(s): k draws with replacement from weights, whose counts are the weights, or all admissible actions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from llmrl.core.candidates import Candidates, Proposal, Use
from llmrl.core.seeding import draw_from, stream
from llmrl.priors.sources import Experts, Key, Source
from llmrl.prompts.project import Projection
from llmrl.schema.priors import SupportConfig


@dataclass
class PriorCounts:
    """Functions of the run's logic alone: the same with a cold and a warm cache."""

    queries: int = 0  # states at which the prior was asked for an action's candidates, evaluations left out
    fallback: int = 0  # supports that are uniform because no answer named one


@dataclass(frozen=True)
class Explanation:
    """The origin of a state's candidates, for a person to look at."""

    weights: np.ndarray | None  # float64 [actions]: the distribution that is drawn from, mixed; None where answers are
    answers: list[tuple[str, Projection]]  # the free answers that were used, and what each names
    draws: int | None  # how many draws the weights of the candidates count; None where they do not count any
    thoughts: tuple[str, ...] = ()  # what the model thought before it was asked


class Draws:
    """The random streams of the uses, and what they drew so far."""

    def __init__(self, seed: int, supports: Mapping[Use, SupportConfig]) -> None:
        self.seed, self.supports = seed, supports
        self.visits: defaultdict[tuple[Use, str], int] = defaultdict(int)  # of free answers that are redrawn
        self._streams = {use: stream(seed, "prior", use) for use in supports}
        self._union: dict[tuple[Use, str], np.ndarray] = {}  # counts of all draws so far, by the key's digest

    def stream(self, use: Use) -> np.random.Generator:
        return self._streams[use]

    def frozen(self, key: Key) -> np.random.Generator:
        """The stream of one prompt: whoever asks, and whenever, the first draws are the same."""
        return stream(self.seed, "frozen", key.text, *key.actions, *sorted(key.experts))

    def add(self, use: Use, key: Key, counts: np.ndarray) -> np.ndarray:
        """The counts of all draws so far, with these."""
        at = use, key.digest
        self._union[at] = counts + self._union.get(at, 0)
        return self._union[at]

    def so_far(self, use: Use, key: Key) -> int | None:
        """The number of draws that add up to the state's support; None where none do."""
        union = self._union.get((use, key.digest))
        return None if union is None else int(union.sum())

    def restart(self, use: Use, *name: str | int) -> None:
        """The use draws from the stream of this name, and remembers no earlier draw."""
        self._streams[use] = stream(self.seed, "prior", use, *name)
        self._union = {at: counts for at, counts in self._union.items() if at[0] != use}
        for at in [at for at in self.visits if at[0] == use]:
            del self.visits[at]

    def save(self) -> dict[str, Any]:
        lasting = [use for use in self.supports if use != "evaluation"]  # an evaluation starts from nothing
        return {
            "draws": {use: self._streams[use].bit_generator.state for use in lasting},
            "union": [[use, key, counts.tolist()] for (use, key), counts in self._union.items() if use in lasting],
            "visits": [[use, key, visits] for (use, key), visits in self.visits.items() if use in lasting],
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        for use, state in saved["draws"].items():
            self._streams[use].bit_generator.state = state
        self._union = {(use, key): np.array(counts) for use, key, counts in saved["union"]}
        self.visits.update({(use, key): visits for use, key, visits in saved["visits"]})


class Drawn:
    """Supports drawn from the weights of a source."""

    def __init__(self, source: Source, draws: Draws, mix: float) -> None:
        self._source, self._draws = source, draws
        self.asks, self.is_informed = source.asks, source.is_informed
        self._mix = mix if source.is_informed else 0.0  # what is uniform stays so to the last bit
        self._known: dict[Key, np.ndarray] = {}  # float64 [actions], mixed

    def is_fixed(self, use: Use) -> bool:
        """Whether a state has the same candidates at each visit."""
        support = self._draws.supports[use]
        return support.k is None or support.redraw == "never"

    def has_formula(self, use: Use, visits: bool) -> bool:
        """Whether `proposals` has the distributions that candidates are drawn from."""
        support = self._draws.supports[use]
        return support.redraw != "union" or not support.k

    def add_experts(self, keys: Sequence[Key], experts: Experts | None) -> list[Key]:
        return self._source.add_experts(keys, experts)

    def begin(self, keys: Mapping[Use, Sequence[Key]]) -> None:
        both = dict.fromkeys(key for some in keys.values() for key in some)
        self._source.begin([key for key in both if key not in self._known])

    def candidates(self, keys: Sequence[Key], use: Use, count: bool) -> list[Candidates]:
        rows, support = self._weigh(keys, use), self._draws.supports[use]
        if support.k is None:
            return [make_weighted(p) for p in rows]
        if not keys:
            return []
        if support.redraw == "never":
            u_SK = np.stack([self._draws.frozen(key).random(support.k) for key in keys])
        else:
            u_SK = self._draws.stream(use).random((len(keys), support.k))  # the numbers that states would draw in turn
        drawn = drawn_from(rows, u_SK)
        if support.redraw != "union":
            return [count_draws(indices) for indices in drawn.tolist()]
        counts = [np.bincount(indices, minlength=p.size) for indices, p in zip(drawn, rows, strict=True)]
        return [make_weighted(self._draws.add(use, key, c)) for key, c in zip(keys, counts, strict=True)]

    def proposals(self, keys: Sequence[Key], use: Use, count: bool) -> list[Proposal]:
        support = self._draws.supports[use]
        if support.k is None or support.redraw == "visit":
            return [Proposal(p, support.k) for p in self._weigh(keys, use)]
        return as_proposals(self.candidates(keys, use, count), keys)

    def explain(self, key: Key, use: Use) -> Explanation:
        draws = self._draws.so_far(use, key) or self._draws.supports[use].k
        return Explanation(self._known[key], [], draws, self._source.thoughts(key))

    def says(self, key: Key) -> np.ndarray | None:
        return self._known.get(key)

    def count_named(self) -> tuple[int, int] | None:
        return None

    def metrics(self) -> dict[str, int]:
        return {"lm/parse_failures": 0}

    def save(self) -> dict[str, Any]:
        return self._source.save()

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._source.restore(saved)

    def _weigh(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        new = [key for key in dict.fromkeys(keys) if key not in self._known] if self._source.lasts else keys
        if new:
            weights = zip(new, self._source.weights(new, use), strict=True)
            self._known |= {key: mix_with_uniform(p, self._mix) for key, p in weights}
        return [self._known[key] for key in keys]


def mix_with_uniform(p: np.ndarray, mix: float) -> np.ndarray:
    return (1 - mix) * p + mix / p.size


def drawn_from(rows: Sequence[np.ndarray], u_SK: np.ndarray) -> np.ndarray:
    """int64 [S, K]: what the numbers u in [0, 1) draw from each state's distribution."""
    sizes = np.array([p.size for p in rows])
    is_real_SA = np.arange(sizes.max()) < sizes[:, None]
    p_SA = np.zeros(is_real_SA.shape)
    p_SA[is_real_SA] = np.concatenate(rows)
    return draw_from(p_SA.cumsum(-1)[:, None, :], u_SK)


def count_draws(draws: Sequence[int]) -> Candidates:
    """Actions that were drawn, each weighted by how often."""
    counts: dict[int, int] = {}
    for index in draws:
        counts[index] = counts.get(index, 0) + 1
    actions, log_share = sorted(counts), _log_shares(len(draws))
    return Candidates(np.array(actions, dtype=np.int64), np.array([log_share[counts[i]] for i in actions]))


@lru_cache
def _log_shares(n: int) -> list[float]:
    """log(i/n), i = 0 (which no draw has) to n."""
    shares: list[float] = np.log(np.maximum(1, np.arange(n + 1)) / n).tolist()
    return shares


def make_weighted(weights: np.ndarray, keep_zeros: bool = False) -> Candidates:
    actions = np.arange(weights.size) if keep_zeros else np.flatnonzero(weights)
    with np.errstate(divide="ignore"):
        return Candidates(actions, np.log(weights[actions] / weights.sum()))


def all_actions(menu: Sequence[str]) -> Candidates:
    """Those of who is told nothing: the whole menu, with equal weights."""
    return make_weighted(np.ones(len(menu)))


def on_all(c: Candidates, size: int) -> np.ndarray:
    weights = np.zeros(size)
    weights[c.actions] = np.exp(c.log_weights)
    return weights


def as_proposals(given: Sequence[Candidates], keys: Sequence[Key]) -> list[Proposal]:
    """Candidates that are the same at every visit, as proposals."""
    return [Proposal(on_all(c, len(key.actions)), None) for c, key in zip(given, keys, strict=True)]
