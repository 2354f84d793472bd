"""Free answers of a language model, projected onto menus and counted: `prior.source=generated`."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from llmrl.core.candidates import Candidates, Proposal, Use
from llmrl.lm.language_model import Sampling
from llmrl.priors.sources import Experts, Key
from llmrl.priors.supports import (
    Draws,
    Explanation,
    PriorCounts,
    all_actions,
    as_proposals,
    count_draws,
    make_weighted,
    mix_with_uniform,
    on_all,
)
from llmrl.prompts.project import PROJECTIONS, Projection
from llmrl.prompts.thinking import Asked, thoughts_before

Question = tuple[str, tuple[str, ...]]  # the rendered prompt and the menu


_quoted = json.JSONEncoder().encode


class Counted:
    """Supports of the first k answers that project, in index order, among the first k+limit; none: uniform.

    A support that is redrawn reads the next k+limit answers at each visit.
    """

    asks = is_informed = True

    def __init__(self, free: FreeAnswers, draws: Draws, mix: float, counts: PriorCounts) -> None:
        self._free, self._draws, self._mix, self._counts = free, draws, mix, counts

    def is_fixed(self, use: Use) -> bool:
        """Whether a state has the same candidates at each visit, as `Drawn.is_fixed`."""
        return self._draws.supports[use].redraw == "never"

    def has_formula(self, use: Use, visits: bool) -> bool:
        """As `Drawn.has_formula`. `visits`: the states are visits, each with its own answers."""
        redraw = self._draws.supports[use].redraw
        return redraw == "never" or (redraw == "visit" and visits)

    def add_experts(self, keys: Sequence[Key], experts: Experts | None) -> list[Key]:
        return list(keys)

    def begin(self, keys: Mapping[Use, Sequence[Key]]) -> None:
        for use, some in keys.items():
            distinct, k = list(dict.fromkeys(some)), self._draws_of(use)
            self._free.begin([key.question for key in distinct], [self._start(use, key) for key in distinct], k)

    def candidates(self, keys: Sequence[Key], use: Use, count: bool) -> list[Candidates]:
        """`count`: whether what is read and what falls back is counted."""
        if not keys:
            return []
        support, starts, k = self._draws.supports[use], [], self._draws_of(use)
        for key in keys:
            starts.append(self._start(use, key))
            if support.redraw != "never":
                self._draws.visits[use, key.digest] += 1
        out = []
        for key, chosen in zip(
            keys, self._free.find_named([key.question for key in keys], starts, k, count), strict=True
        ):
            size = len(key.actions)
            if not chosen:
                self._counts.fallback += count
                out.append(all_actions(key.actions))
            elif support.k is None:  # all admissible, weighted by the counts
                p = np.bincount(chosen, minlength=size) / len(chosen)
                out.append(make_weighted(mix_with_uniform(p, self._mix), keep_zeros=True))
            elif support.redraw == "union":
                counts = np.bincount(self._mix_draws(key, chosen, use), minlength=size)
                out.append(make_weighted(self._draws.add(use, key, counts)))
            else:
                out.append(count_draws(self._mix_draws(key, chosen, use)))
        return out

    def proposals(self, keys: Sequence[Key], use: Use, count: bool) -> list[Proposal]:
        return as_proposals(self.candidates(keys, use, count), keys)

    def explain(self, key: Key, use: Use) -> Explanation:
        k, visits = self._draws_of(use), self._draws.visits.get((use, key.digest), 0)
        start = max(0, visits - 1) * (k + self._free.limit)
        answers = self._free.list_used(key.question, start, k)
        thoughts = self._free.thoughts(key.question, start + len(answers))[-len(answers) :]
        valid = sum(found.action is not None for _, found in answers)
        if not valid or self._draws.supports[use].k is None:
            return Explanation(None, answers, None, thoughts)
        return Explanation(None, answers, self._draws.so_far(use, key) or valid, thoughts)

    def says(self, key: Key) -> np.ndarray | None:
        if (found := self._free.counts(key.question)) is None:
            return None
        return on_all(make_weighted(found if found.any() else found + 1.0), found.size)

    def count_named(self) -> tuple[int, int] | None:
        return self._free.named_so_far()

    def metrics(self) -> dict[str, int]:
        return {"lm/parse_failures": self._free.parse_failures, "lm/ambiguous": self._free.ambiguous}

    def save(self) -> dict[str, Any]:
        return {"answers": self._free.save()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._free.restore(saved["answers"])

    def _draws_of(self, use: Use) -> int:
        supports = self._draws.supports
        k = supports[use].k or max(s.k or 0 for s in supports.values() if not s.uniform)
        if not k:
            raise ValueError("prior.source=generated counts k answers: set prior.behaviour.k (5 in the paper)")
        return k

    def _start(self, use: Use, key: Key) -> int:
        """The number of the first answer that the next visit reads."""
        if self._draws.supports[use].redraw == "never":
            return 0
        return self._draws.visits.get((use, key.digest), 0) * (self._draws_of(use) + self._free.limit)

    def _mix_draws(self, key: Key, chosen: list[int], use: Use) -> list[int]:
        """Each draw comes from the uniform distribution with probability `mix`."""
        if self._mix == 0:
            return chosen
        is_frozen = self._draws.supports[use].redraw == "never"
        rng = self._draws.frozen(key) if is_frozen else self._draws.stream(use)
        replaced = [u < self._mix for u in rng.random(len(chosen)).tolist()]
        if is_frozen and not any(replaced):  # nobody reads on in this stream
            return chosen
        others = rng.integers(len(key.actions), size=len(chosen)).tolist()
        return [other if takes else index for takes, other, index in zip(replaced, others, chosen, strict=True)]


class FreeAnswers:
    """The projected answers to each question in index order, as many as were needed so far.

    `limit`: how many extra answers may be read where some name no action. `projection`: the rule, by its name.
    """

    def __init__(self, answers: Asked, sampling: Sampling, limit: int, projection: str = "whole") -> None:
        self.limit, self._project = limit, PROJECTIONS[projection]
        self.parse_failures = 0  # answers that named no admissible action
        self.ambiguous = 0  # of these, those that named several
        self._answers, self._sampling = answers, sampling
        self._known: dict[Question, list[Projection]] = {}
        self._counted: defaultdict[str, int] = defaultdict(int)  # by the question's digest

    def find_named(self, questions: Sequence[Question], starts: Sequence[int], k: int, count: bool) -> list[list[int]]:
        """The actions that answers name: of each question's, from number `start` on, the first k that project.

        They are sought among k+limit; fewer stay fewer. `count`: whether what is read is counted.
        """
        short = list(zip(questions, starts, strict=True))
        for extra in range(self.limit + 1):
            self._read([(question, start + k + extra) for question, start in short], count)
            short = [(q, start) for q, start in short if len(_valid(self._known[q][start : start + k + extra])) < k]
            if not short:
                break
        return [
            [found.action for found in self._known[q][start : start + k + self.limit] if found.action is not None][:k]
            for q, start in zip(questions, starts, strict=True)
        ]

    def begin(self, questions: Sequence[Question], starts: Sequence[int], k: int) -> None:
        """Begins to ask for what `find_named` reads first, and does not wait."""
        by_count: defaultdict[int, list[str]] = defaultdict(list)
        for question, start in zip(questions, starts, strict=True):
            if len(self._known.get(question, ())) < start + k:
                by_count[start + k].append(question[0])
        for n, prompts in by_count.items():
            self._answers.begin_generations(prompts, n, self._sampling)

    def counts(self, question: Question) -> np.ndarray | None:
        """float64 [actions]: how many of the answers read so far name each; None where none was read."""
        if not (known := self._known.get(question)):
            return None
        named = [found.action for found in known if found.action is not None]
        return np.bincount(named, minlength=len(question[1])).astype(np.float64)

    def named_so_far(self) -> tuple[int, int]:
        """The number of answers read so far that named an action, and the number read."""
        named = sum(not found.failed for known in self._known.values() for found in known)
        return named, sum(map(len, self._known.values()))

    def list_used(self, question: Question, start: int, k: int) -> list[tuple[str, Projection]]:
        """The answers behind `find_named`, which was called before: each text, and what it names."""
        named = self._known[question][start : start + k + self.limit]
        valid = _valid(named)[:k]
        if len(valid) == k:
            named = named[: valid[-1] + 1]
        (texts,) = self._answers.generations([question[0]], start + len(named), self._sampling)
        return list(zip(texts[start:], named, strict=True))

    def thoughts(self, question: Question, n: int) -> tuple[str, ...]:
        """The model's thoughts before the first n answers."""
        return thoughts_before(self._answers, question[0], n)

    def save(self) -> dict[str, Any]:
        """The counts; the cache keeps the answers themselves."""
        counts = {"parse_failures": self.parse_failures, "ambiguous": self.ambiguous}
        return {**counts, "counted": dict(self._counted)}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.parse_failures, self.ambiguous = saved["parse_failures"], saved["ambiguous"]
        self._counted.update(saved["counted"])

    def _read(self, wanted: Sequence[tuple[Question, int]], count: bool) -> None:
        """Makes the first `end` projected answers of each (question, end) known."""
        by_count: defaultdict[int, list[Question]] = defaultdict(list)
        for question, end in dict.fromkeys(wanted):
            if len(self._known.setdefault(question, [])) < end:
                by_count[end].append(question)
        for n, questions in by_count.items():
            found = self._answers.generations([prompt for prompt, _ in questions], n, self._sampling)
            for question, texts in zip(questions, found, strict=True):
                known = self._known[question]
                known.extend(self._project(text, question[1]) for text in texts[len(known) : n])
        if count:
            for question, end in wanted:
                digest = _digest(question)
                new = self._known[question][self._counted[digest] : end]
                self.parse_failures += sum(found.failed for found in new)
                self.ambiguous += sum(found.how == "ambiguous" for found in new)
                self._counted[digest] = max(self._counted[digest], end)


def _digest(question: Question) -> str:
    prompt, menu = question
    return hashlib.sha256(f"{_quoted(prompt)}:{_menu(menu)}".encode()).hexdigest()


@lru_cache(2**12)
def _menu(actions: tuple[str, ...]) -> str:
    return ",".join(map(_quoted, actions))


def _valid(named: Sequence[Projection]) -> list[int]:
    return [i for i, found in enumerate(named) if found.action is not None]
