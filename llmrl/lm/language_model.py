"""The contract between priors and language models: text in, numbers or text out, always in batches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

from llmrl.core.processes import PAUSED


class LanguageModelError(RuntimeError):
    """The model gave no usable answer (an outage, a NaN, a bad shape). Never turned into a score or an action."""


class Outage(LanguageModelError):
    """The model is out of reach, or another one answers in its place; the question may be asked again, later."""

    exit_code = PAUSED


class WrongSetting(LanguageModelError):
    """The model cannot be asked so, however often it is tried; the message says what to set."""

    exit_code = 2


class Score(NamedTuple):
    """One continuation's answer."""

    logprob: float  # sum over the continuation's tokens of log p(token | prompt, earlier tokens), nats, <= 0
    tokens: int  # how many tokens that was


@dataclass(frozen=True)
class ModelIdentity:
    """The identity of a model, known without a server. Models with equal identities share their answers."""

    model: str  # "tiny-1", "Qwen/Qwen2.5-7B", a folder's name
    revision: str  # a hub commit, or a hash of all that an answer of a local folder depends on
    dtype: str  # "float32", "bfloat16"
    tokenizer: str  # a hash of the tokenizer


def with_bos(identity: ModelIdentity, bos: bool | None) -> ModelIdentity:
    """The identity of a model whose prompts are made to begin with its beginning-of-text token, or without it."""
    if bos is None:
        return identity
    return replace(identity, tokenizer=f"{identity.tokenizer} {'with' if bos else 'without'} bos")


@dataclass(frozen=True)
class Sampling:
    """How answers are generated. All of it enters the record's key. Raises ValueError for a value out of range."""

    max_tokens: int = 16
    temperature: float = 1.0  # the model's own temperature; the posterior's is called alpha; 0: the likeliest token
    top_p: float = 1.0  # in (0, 1]: draw from the fewest tokens whose probabilities sum to this
    stop: str | tuple[str, ...] = "\n"  # an answer ends before the first of these; "": only where the model ends it
    draw_seed: int = 0  # names one table of generations: another seed, another table

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens={self.max_tokens}: an answer needs at least 1")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}: use 0 (the likeliest token) or more; 1 is the model")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: use a number above 0 and at most 1; 1 draws from all tokens")


def stops(stop: str | tuple[str, ...]) -> tuple[str, ...]:
    """`Sampling.stop` as texts."""
    return stop if isinstance(stop, tuple) else (stop,) if stop else ()


def stopping(texts: Sequence[str]) -> str | tuple[str, ...]:
    """The value of `Sampling.stop` for these texts: one text is itself, and none is ""."""
    return tuple(texts) if len(texts) > 1 else "".join(texts)


def before_stop(text: str, stop: str | tuple[str, ...]) -> tuple[str, bool]:
    """`text` before the first stop in it, and whether there is one."""
    found = [at for one in stops(stop) if (at := text.find(one)) >= 0]
    return text[: min(found, default=len(text))], bool(found)


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


LINE = 48  # characters of a prompt's end: a token that reaches back further is none


class Conversation(str):
    """A prompt for a model that was taught to converse: what was said so far; the model speaks next.

    As text, which names its answers, it is JSON of the messages and of what names the template that they are put into.
    """

    messages: tuple[dict[str, str], ...]  # {"role": system | user | assistant, "content": text}
    template: str

    def __new__(cls, messages: Sequence[Mapping[str, str]], template: str) -> Conversation:
        said = [dict(message) for message in messages]
        text = {"messages": said, "template": template}
        self = super().__new__(cls, json.dumps(text, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
        self.messages, self.template = tuple(said), template
        return self

    def and_then(self, answer: str, reply: str) -> Conversation:
        """The conversation with the model's answer and the next message added."""
        more = [{"role": "assistant", "content": answer}, {"role": "user", "content": reply}]
        return Conversation([*self.messages, *more], self.template)


def last_line(prompt: str) -> str:
    """The end of a prompt, with the line break before it: its last line that is not blank.

    A line of more than LINE characters is cut to its last words. Tokens of a continuation depend on no more of the
    prompt. A conversation has none, since a template writes its text.
    """
    if isinstance(prompt, Conversation):
        return ""
    line = prompt[max(prompt.rstrip().rfind("\n"), 0) :]
    return line if len(line) <= LINE else line[max(line.find(" ", len(line) - LINE), 0) :]


@runtime_checkable
class Overlapping(Protocol):
    """A model that can be asked without waiting: what is returned waits."""

    def start_score(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> Callable[[], list[list[Score]]]: ...

    def start_sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> Callable[[], list[list[str]]]: ...


# Who answers these as before, to a hundredth of a nat, is taken for the same model: (prompt, continuations).
PROBES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("When the soup was hot, the cook", (" tasted it.", " locked the door.")),
    ("One, two, three, four,", (" five", " nine")),
    ("The door is locked, and the key is", (" on the table.", " made of soup.")),
)


@runtime_checkable
class Speaking(Protocol):
    """A model that says what it waits for, and what a person should know about it."""

    def hear(self, say: Callable[[str], None]) -> None:
        """`say` may be called from another thread."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A model that counts what asking takes."""

    def counters(self) -> Mapping[str, float]:
        """So far, by its name in cost.json."""
        ...


@runtime_checkable
class ByPaths(Protocol):
    """A model that computes in several ways."""

    paths: Sequence[str]  # of each prompt of the last call, by which; kept with its answers


@runtime_checkable
class Closing(Protocol):
    """A model that is to be closed."""

    def close(self) -> None: ...


@runtime_checkable
class Served(Speaking, Counting, Closing, Protocol):
    """A model that somebody else runs, who may replace it."""

    probe_tolerance: float  # nats

    def probe(self) -> list[list[Score]]:
        """The scores of PROBES, as whoever answers now gives them; empty where it cannot score."""
        ...

    def at_once(self) -> tuple[int, int]:
        """The largest number of requests under way so far, and the number that would be sent now."""
        ...


def distance(a: Sequence[Sequence[Score]], b: Sequence[Sequence[Score]]) -> float:
    """The most that two models' answers to the probes differ by, in nats; infinite where their tokens do."""
    pairs = [(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)]
    if any(x.tokens != y.tokens for x, y in pairs):
        return math.inf
    return max((abs(x.logprob - y.logprob) for x, y in pairs), default=0.0)


def another_model(model: str, where: str, apart: float, tolerance: float) -> str:
    """The message about a server that answers the probes otherwise."""
    return (
        f"{where} answers as another model than {model} did before: a probe is {apart:.3g} nats apart, and "
        f"{tolerance:g} are allowed. Nothing it said was kept: start the server with the model and the dtype that the "
        "run names; where only the hardware is another, lm.probe_tolerance=NATS allows more"
    )
