"""How good a prior a model is before anything is learned: what it makes of dev kitchens that it has not read about.

Two figures, each a mean over kitchens of the mean over their states, with no earlier actions shown. The expert mass is
the probability of an expert's action (one on a shortest way) under the scored prior without mixing: the softmax over
the admissible actions of the model's log-probabilities. The log-likelihood, in nats, is of the event that the model
writes an expert's action and ends there, whatever else it might have written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from llmrl.config.compose import compose
from llmrl.core.state import TextState
from llmrl.envs.household.expert import Expert
from llmrl.envs.household.generate import random_game
from llmrl.envs.household.home import Home
from llmrl.envs.household.text import Memory, Words
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.expert import expert_actions
from llmrl.envs.kitchen.layouts import random_kitchen
from llmrl.envs.kitchen.world import Kitchen, KitchenState
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.prompts.prompt import Prompt
from scripts.tiny.homes import HomesConfig, walkthrough
from scripts.tiny.overlap import on_the_way, reachable


@dataclass(frozen=True)
class Question:
    """A state, as a model is asked about it."""

    prompt: str
    actions: tuple[str, ...]  # the admissible ones, as continuations of the prompt
    expert: tuple[int, ...]  # indices of those on a shortest way; never empty


Exam = dict[str, list[list[Question]]]  # "way" or "reachable" -> the questions of each kitchen
HOMES = ("homes way", "homes met")


@cache
def exam(kitchens: int = 6, ingredients: tuple[int, ...] = (2, 3), states: int = 100) -> Exam:
    """The states of the first `kitchens` of dev with each number of ingredients.

    They are every state on any shortest way from the start, and reachable ones, evenly sampled down to `states`.
    """
    those = [random_kitchen("dev", index, n) for n in ingredients for index in range(kitchens)]
    prompt = Prompt(compose([]).prompt)
    return {
        "way": [_questions(kitchen, on_the_way(kitchen), prompt) for kitchen in those],
        "reachable": [_questions(kitchen, reachable(kitchen, states), prompt) for kitchen in those],
    }


@cache
def homes_exam(games: int = 30, memory: Memory = "wanted") -> Exam:
    """The states of the first `games` of dev in homes, the six tasks in turn.

    They are every state that is met on a shortest way, and on the way of an author who errs in half of the decisions.
    """
    prompt = Prompt(compose([]).prompt)
    found: Exam = {which: [] for which in HOMES}
    for index in range(games):
        home = Home(random_game("mixed", "dev", index))
        expert, words = Expert(home), Words(home, memory)
        for which, mistakes in zip(HOMES, (0.0, 0.5), strict=True):
            cfg, rng = HomesConfig(mistakes=(mistakes, mistakes)), np.random.Generator(np.random.PCG64(index))
            found[which].append(
                [
                    Question(
                        prompt.render(d.told, history_turns=0),
                        tuple(prompt.continuations(d.told.actions)),
                        tuple(sorted(d.good)),
                    )
                    for d in walkthrough(home, expert, words, cfg, rng)
                ]
            )
    return found


def measure(model: str | Path, held_out: Exam) -> dict[str, dict[str, float]]:
    """{"expert_mass": {"way": 0 to 1, "reachable": ...}, "log_likelihood": {"way": nats, <= 0, ...}} of a model."""
    lm = TransformersLM(str(model), device="cpu")
    mass: dict[str, float] = {}
    log_likelihood: dict[str, float] = {}
    for which, kitchens in held_out.items():
        answered = np.array([np.mean([_answer(lm, question) for question in those], axis=0) for those in kitchens])
        mass[which], log_likelihood[which] = (round(float(mean), 4) for mean in answered.mean(0))
    return {"expert_mass": mass, "log_likelihood": log_likelihood}


def chance(held_out: Exam) -> dict[str, float]:
    """The expert mass of the uniform prior."""
    return {
        which: float(np.mean([np.mean([len(q.expert) / len(q.actions) for q in those]) for those in kitchens]))
        for which, kitchens in held_out.items()
    }


def _answer(lm: TransformersLM, question: Question) -> tuple[float, float]:
    """The question's expert mass and log-likelihood."""
    (scores,) = lm.score([question.prompt], [question.actions])
    logprobs = np.array([score.logprob for score in scores])
    expert = np.logaddexp.reduce(logprobs[list(question.expert)])
    return float(np.exp(expert - np.logaddexp.reduce(logprobs))), float(expert)


def _questions(kitchen: Kitchen, states: Sequence[KitchenState], prompt: Prompt) -> list[Question]:
    found = []
    for state in states:
        menu = text.menu(kitchen, state)
        shown = TextState(text.task(kitchen), text.observation(kitchen, state), menu, ())
        asked = prompt.render(shown, history_turns=0)
        found.append(Question(asked, tuple(prompt.continuations(menu)), tuple(sorted(expert_actions(kitchen, state)))))
    return found
