"""The settings of prompts and of action priors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmrl.schema.fields import Schema, setting

USES = ("behaviour", "target", "evaluation")
LARGEST_K = 100_000  # draws of candidates: each is a number in memory, for every state of a batch
STOPS = 4  # texts that end an answer, at most
NORMALISE = ("none", "token", "word")
CALIBRATE = ("none", "pmi")


class SourceTraits(NamedTuple):
    asks: bool = False  # a language model
    reads_state: bool = False  # all of it, where the others read a rendered prompt


SOURCES = {
    "uniform": SourceTraits(),
    "scored": SourceTraits(asks=True),
    "generated": SourceTraits(asks=True),
    "oracle": SourceTraits(),
    "learned": SourceTraits(reads_state=True),
    "copied": SourceTraits(reads_state=True),
    "own": SourceTraits(reads_state=True),
}


@dataclass
class PromptConfig(Schema):
    """A Jinja2 template and how an action continues it."""

    id: str = setting("???", free=True)  # the option's name
    template: str = "???"  # Jinja2, over task, observation, actions and history
    prefix: str = " "  # between the prompt and an action, as the model writes it
    end: str = "\n"  # ends an action: it is scored with it, and stops an answer
    history_turns: int = setting(0, low=0)  # number of the last observations and actions shown
    # text | chat: `template` is said to the model, through its chat template
    kind: str = setting("text", choices=("text", "chat"), since=True)
    system: str = setting("", since=True)  # chat: the system message
    # first a thought: shared (by all answers to a prompt) | each (has its own)
    think: str | None = setting(None, choices=("shared", "each"), since=True)
    think_tokens: int = setting(128, low=1, since=True)  # tokens of a thought, at most
    think_end: str = setting("\n", since=True)  # ends a thought; "": only where the model ends it
    then: str = setting("\nNext:", since=True)  # follows a thought; chat: is said to the model next
    # examples before the question: an expert's decisions in other games, of the split train
    shots: int = setting(0, low=0, high=32, since=True)
    shot_steps: int = setting(1, low=1, since=True)  # decisions that an example shows, at most
    # fixed: the same examples for all states | similar: those most like the state
    select: str = setting("fixed", choices=("fixed", "similar"), since=True)

    def problems(self, has_data: bool) -> Iterator[str]:
        if self.think is not None and self.shots:
            yield (
                f"prompt.shots={self.shots}: examples show actions and no thoughts; use prompt.shots=0, or "
                "prompt.think=null"
            )


@dataclass
class SupportConfig(Schema):
    """S(s): which actions are considered, for one use of the prior."""

    # that many draws with replacement; null: all admissible actions
    k: int | None = setting(None, low=1, high=LARGEST_K, instead="; null takes all, to which more draws tend")
    # at each visit of a state | never: the first draws stay | union: all draws so far
    redraw: str = setting("visit", choices=("visit", "never", "union"))
    # this use has no prior: all admissible actions, equal weight; k is not read
    uniform: bool = setting(False, since=True)


@dataclass
class PriorConfig(Schema):
    """w, the action prior, and a support for each of its three uses."""

    name: str = "???"
    # uniform | scored | generated | oracle | learned | copied (votes of similar examples) | own
    source: str = setting("uniform", choices=tuple(SOURCES))
    # scored: divide log p by 1 (none), its tokens (token) or its words (word)
    normalise: str = setting("none", choices=NORMALISE)
    # scored: none | pmi: log p less what it is without an observation and history
    calibrate: str = setting("none", choices=CALIBRATE, since=True)
    # pmi: weight of the subtracted log p
    calibrate_weight: float = setting(
        1.0, low=0, above=True, instead="; prior.calibrate=none takes nothing off", since=True
    )
    # w <- (1-mix) w + mix uniform, before draws | auto: a run learns which episodes use w
    mix: float | str = setting(0.05, low=0, high=1, word="auto")
    behaviour: SupportConfig = setting(SupportConfig)  # candidates of the acting agent
    target: SupportConfig = setting(SupportConfig)  # candidates of the next state in a target
    evaluation: SupportConfig = setting(SupportConfig)  # candidates of the agent in evaluations
    # the model's own, not the posterior's alpha; scored: p^(1/temperature) over the menu
    temperature: float = setting(1.0, low=0, above=True)
    # generated only:
    max_tokens: int = setting(16, low=1)  # tokens of an answer, at most
    # free answers are drawn from the likeliest tokens that have this probability together
    top_p: float = setting(1.0, low=0, above=True, high=1)
    # texts that end an answer; []: only the model's own end; null: prompt.end
    stop: list[str] | None = setting(None, since=True)
    # whole: the one action named whole | last: the paper's code's, the last of most
    projection: str = setting("whole", choices=("whole", "last"), since=True)
    limit: int = setting(5, low=0)  # number of extra answers that may be asked for when some do not project
    draw_seed: int | None = setting(None, low=0)  # null: the run's seed; equal draw seeds share their generations
    # controls:
    # scored: shuffled (as peaked, and wrong) | marginal (p(a) without the state)
    control: str | None = setting(None, choices=("shuffled", "marginal"), since=True)
    # oracle: (1-error) on the expert's actions, error on all admissible ones
    error: float = setting(0.0, low=0, high=1, since=True)
    copies: int = setting(4, low=1, high=32, since=True)  # copied: examples that vote for their actions
    # scored and learned: fitted to an expert's actions in games of the split `train` (llmrl/priors/head.py)
    labels: int = setting(0, low=0, high=1000, since=True)  # number of labelled states; 0: the prior as it is
    # fitted features: bias (of an action's words) | hash | hidden (the model's hidden states)
    head: str = setting("bias", choices=("bias", "hash", "hidden"), since=True)
    # decisions after which the behaviour uses no prior
    uniform_after: int | None = setting(None, low=0, since=True)
    # own: weights of another package
    _target_: str | None = setting(None, since=True)  # the class that is called with `settings` and the run's seed
    settings: Any = setting(None, since=True)  # arguments of `_target_`, beside the run's seed

    def problems(self, has_data: bool) -> Iterator[str]:
        """Settings that contradict each other, or that equal another prior with a name."""
        if (self.source == "own") != (self._target_ is not None):
            yield (
                f"prior.source={self.source} and prior._target_={self._target_}: a prior of your own has "
                "source: own, and a _target_ that names its class (docs/how-to/extend.md); no other prior has one"
            )
        if self.stop is not None and (len(self.stop) > STOPS or not all(self.stop)):
            yield (
                f"prior.stop={json.dumps(self.stop)}: {STOPS} texts at most, as servers take, and none that is empty; "
                "[] where only the model ends an answer"
            )
        for use in USES:
            if self.source == "uniform" and getattr(self, use).uniform:
                yield (
                    f"prior.{use}.uniform=true: prior={self.name} is uniform anyway; for all admissible actions in "
                    f"this use, say prior.{use}.k=null"
                )
        if self.uniform_after is not None:
            known = self.source != "uniform" or self.behaviour.k is not None
            if self.behaviour.uniform or not known:
                what = "prior.behaviour.uniform=true" if self.behaviour.uniform else f"prior={self.name}"
                yield (
                    f"prior.uniform_after={self.uniform_after}: with {what} the behaviour knows no prior from the "
                    "start; leave prior.uniform_after out"
                )
        if self.source == "learned" and not self.labels:
            yield "prior.labels=0: prior=learned is made of labels alone; say how many, or use prior=uniform_k"
