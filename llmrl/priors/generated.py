"""Free answers of a language model, projected onto menus: what `prior.source=generated` counts."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from llmrl.answers.answers import Answers
from llmrl.lm.language_model import Sampling
from llmrl.prompts.project import PROJECTIONS, Projection
from llmrl.prompts.thinking import Thinking

Question = tuple[str, tuple[str, ...]]  # the rendered prompt and the menu


_quoted = json.JSONEncoder().encode


class FreeAnswers:
    """The projected answers to each question in index order, as many as were needed so far.

    `limit`: how many extra answers may be read where some name no action. `projection`: the rule, by its name.
    """

    def __init__(self, answers: Answers | Thinking, sampling: Sampling, limit: int, projection: str = "whole") -> None:
        self.limit, self._project = limit, PROJECTIONS[projection]
        self.parse_failures = 0  # answers that named no admissible action
        self.ambiguous = 0  # of these, those that named several
        self._answers, self._sampling = answers, sampling
        self._known: dict[Question, list[Projection]] = {}
        self._counted: defaultdict[str, int] = defaultdict(int)  # by the question's digest

    def named(self, questions: Sequence[Question], starts: Sequence[int], k: int, count: bool) -> list[list[int]]:
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
        """Begins to ask for what `named` reads first, and does not wait."""
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
        """How many of the answers read so far named an action, and how many there are."""
        named = sum(not found.failed for known in self._known.values() for found in known)
        return named, sum(map(len, self._known.values()))

    def used(self, question: Question, start: int, k: int) -> list[tuple[str, Projection]]:
        """The answers behind `named`, which was called before: each text, and what it names."""
        named = self._known[question][start : start + k + self.limit]
        valid = _valid(named)[:k]
        if len(valid) == k:
            named = named[: valid[-1] + 1]
        (texts,) = self._answers.generations([question[0]], start + len(named), self._sampling)
        return list(zip(texts[start:], named, strict=True))

    def save(self) -> dict[str, Any]:
        """What was counted; the answers themselves are kept elsewhere."""
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
