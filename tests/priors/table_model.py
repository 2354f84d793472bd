"""A language model that is a table, and priors that ask it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.answers.answers import AnswerCache, Answers
from llmrl.core.candidates import Candidates, Use
from llmrl.core.state import TextState
from llmrl.lm.language_model import ModelIdentity, Sampling, Score
from llmrl.priors.prior import Prior
from llmrl.prompts.prompt import Prompt
from llmrl.schema.priors import PriorConfig, PromptConfig, SupportConfig

MENU = ("go north", "open the red door", "wait")
LOGPROBS = {" go north\n": -1.0, " open the red door\n": -2.0, " wait\n": -4.0}
TOKENS = {" go north\n": 3, " open the red door\n": 5, " wait\n": 2}
HALL = TextState("Leave.", "A hall.", MENU)
CELLAR = TextState("Leave.", "A cellar.", MENU)
USES: tuple[Use, ...] = ("behaviour", "target", "evaluation")
PROMPT = PromptConfig("p", "{{ task }} {{ observation }}{% for o, a in history %} {{ a }}{% endfor %}", history_turns=1)


class Model:
    """Scores from a table, or `logprob(prompt, continuation)`; generations from `say(prompt, number)`.

    Numbers are counted from the first seed of a prompt.
    """

    identity = ModelIdentity("table", "0", "float32", "0")
    engine = "table"
    provenance: dict[str, str] = {}  # noqa: RUF012

    def __init__(
        self,
        say: Callable[[str, int], str] | None = None,
        logprob: Callable[[str, str], float] | None = None,
    ) -> None:
        self.say = say or (lambda prompt, number: MENU[number % 3])
        self.logprob = logprob or (lambda prompt, text: LOGPROBS[text])
        self.scored: list[str] = []
        self.asked: list[tuple[str, int]] = []
        self.draw_seeds: list[int] = []
        self.calls = 0
        self._first: dict[tuple[str, int], int] = {}

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        self.calls += 1
        self.scored += prompts
        return [
            [Score(self.logprob(prompt, text), TOKENS[text]) for text in texts]
            for prompt, texts in zip(prompts, continuations, strict=True)
        ]

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        self.calls += 1
        self.draw_seeds.append(sampling.draw_seed)
        out = []
        for prompt, mine in zip(prompts, seeds, strict=True):
            first = self._first.setdefault((prompt, sampling.draw_seed), mine[0])
            self.asked += [(prompt, seed - first) for seed in mine]
            out.append([self.say(prompt, seed - first) for seed in mine])
        return out


def make(source: str, seed: int = 0, model: Model | None = None, cache: str | Path = ":memory:", **cfg: Any) -> Prior:
    """A prior over MENU; `k` and `redraw` are those of every use that has no support of its own."""
    model = model or Model()
    shared = {key: cfg.pop(key) for key in ("k", "redraw") if key in cfg}
    uses = {use: cfg.pop(use, None) or SupportConfig(**shared) for use in USES}
    if source in ("uniform", "oracle"):
        return Prior(PriorConfig("x", source, **{"mix": 0.0} | cfg | uses), seed)
    answers = Answers(AnswerCache(cache), model.identity, model.engine, lambda: model)
    return Prior(PriorConfig("x", source, **{"mix": 0.0} | cfg | uses), seed, Prompt(PROMPT), answers)


def weights(c: Candidates, size: int = len(MENU)) -> list[float]:
    out = np.zeros(size)
    out[c.actions] = np.exp(c.log_weights)
    return out.tolist()


def at(
    prior: Prior, state: TextState = HALL, use: Use = "behaviour", expert: frozenset[str] | None = None
) -> list[float]:
    (candidates,) = prior.candidates([state], use, [expert])
    return weights(candidates)
