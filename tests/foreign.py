"""A model and learners of somebody else's, for tests; importable, so that a config can name them."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from llmrl.core.seeding import stream
from llmrl.lm.language_model import ModelIdentity, Sampling, Score

ANY = random.Random()  # seeded by the system


class Moody:
    """Answers differently every time, and now and then nothing that makes sense."""

    engine = "moods"
    identity = ModelIdentity("moody", "1", "float64", "none")
    provenance: Mapping[str, str] = {}

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        return [[Score(-5 * ANY.random(), len(text)) for text in texts] for texts in continuations]

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        words = ("go east", "go west", "wait", "I would go east.")
        return [[ANY.choice(words) for _ in some] for some in seeds]


class Steady(Moody):
    """Always of the same opinion."""

    identity = ModelIdentity("steady", "1", "float64", "none")

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        return [
            [Score(-(zlib.crc32((prompt + text).encode()) % 7), len(text)) for text in texts]
            for prompt, texts in zip(prompts, continuations, strict=True)
        ]


class Forgetful:
    """Remembers how often it acted, and keeps weights alone."""

    greedy_is_deterministic = False

    def __init__(self, cfg: Any, seed: int, table: Any) -> None:
        self.rng, self.decisions = stream(seed, "policy"), 0

    def act(self, states: Sequence[Any], candidates: Sequence[Any]) -> np.ndarray:
        self.decisions += len(states)
        return self.evaluate(states, candidates, self.rng, greedy=False)

    def evaluate(
        self, states: Sequence[Any], candidates: Sequence[Any], rng: np.random.Generator, greedy: bool
    ) -> np.ndarray:
        return np.array([c.actions[rng.integers(len(c.actions))] for c in candidates])

    def observe(self, transitions: Sequence[Any]) -> None: ...

    def update(self) -> dict[str, float]:
        return {"loss/acted": float(self.decisions)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"decisions": torch.tensor(self.decisions)}

    def load_state_dict(self, tensors: dict[str, torch.Tensor]) -> None:
        self.decisions = int(tensors["decisions"])
