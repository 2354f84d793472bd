"""The contract between priors and language models: text in, numbers or text out, always in batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class LanguageModelError(RuntimeError):
    """The model gave no usable answer (an outage, a NaN, a bad shape). Never turned into a score or an action."""


class Score(NamedTuple):
    """One continuation's answer."""

    logprob: float  # sum over the continuation's tokens of log p(token | prompt, earlier tokens), nats, <= 0
    tokens: int  # how many tokens that was


@dataclass(frozen=True)
class ModelIdentity:
    """What makes two models the same model: answers of one stand for answers of the other. Known without a server."""

    model: str  # "tiny-1", "Qwen/Qwen2.5-7B", a folder's name
    revision: str  # a hub commit, or a hash of the weights of a local folder
    dtype: str  # "float32", "bfloat16"
    tokenizer: str  # a hash of the tokenizer


@dataclass(frozen=True)
class Sampling:
    """How answers are generated. All of it enters the record's key. Raises ValueError for a value out of range."""

    max_tokens: int = 16
    temperature: float = 1.0  # the model's own temperature; the posterior's is called alpha; 0: the likeliest token
    top_p: float = 1.0  # in (0, 1]: draw from the fewest tokens whose probabilities sum to this
    stop: str = "\n"  # an answer ends before the first of these; "": only where the model ends it
    draw_seed: int = 0  # names one table of generations: another seed, another table

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens={self.max_tokens}: an answer needs at least 1")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}: use 0 (the likeliest token) or more; 1 is the model")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: use a number above 0 and at most 1; 1 draws from all tokens")


class LanguageModel(Protocol):
    identity: ModelIdentity
    engine: str  # what computes: "transformers", "vllm"
    provenance: Mapping[str, str]  # versions and device, kept with each answer; decides nothing

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """log p(continuation | prompt) for every continuation of every prompt.

        Prompt and continuation are tokenised apart; token ids, never concatenated strings, are scored.
        Raises LanguageModelError for a non-finite result.
        """
        ...

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        """One generation per prompt and seed, without the stop string and what follows it.

        A generation depends on its prompt, its seed and `sampling`, never on its neighbours in the batch.
        """
        ...
