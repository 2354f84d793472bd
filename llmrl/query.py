"""`llmrl lm score | sample | bench`: a model asked directly, without keeping what it says.

Where the prompt has the model think first, it does, and the thoughts are shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmrl.answers.answers import AnswerCache, Answers
from llmrl.build import build_env, build_model, build_prompt
from llmrl.config.checks import refuse_keyless
from llmrl.config.compose import ConfigError
from llmrl.core.secrets import without_secrets
from llmrl.core.seeding import integer, stream
from llmrl.core.state import TextState
from llmrl.lm.language_model import Closing, LanguageModel, Served, Speaking
from llmrl.lm.serve import serve_for_block
from llmrl.prompts.project import PROJECTIONS
from llmrl.prompts.prompt import Prompt
from llmrl.prompts.thinking import Asked, asked_first, sampling_of, thoughts_before

STEPS = 100_000  # at most so many random decisions to find states that differ


@dataclass(frozen=True)
class Question:
    """A prompt and its menu: a person's own, or the first state of the config's world."""

    prompt: str
    actions: tuple[str, ...]


def score(cfg: DictConfig, prompt: str | None, actions: Sequence[str]) -> RenderableType:
    """log p of each action, most likely first, and its share of the menu."""
    question, template = _question(cfg, prompt, actions)
    with _model(cfg) as model:
        began = time.perf_counter()
        ask, thoughts = _make_asked(cfg, template, model, question, 1)
        (scores,) = ask.scores([question.prompt], [template.continuations(question.actions)])
        seconds = time.perf_counter() - began
        about = _about(model, seconds)
    logits = np.array([s.logprob for s in scores])
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    table = _table("action", "log p", "tokens", "of the menu")
    for i in np.argsort(-logits, kind="stable"):
        table.add_row(Text(question.actions[i]), f"{logits[i]:.4f}", str(scores[i].tokens), f"{shares[i]:.1%}")
    return Group(_show(question.prompt), *thoughts, table, about)


def sample(cfg: DictConfig, prompt: str | None, actions: Sequence[str], n: int) -> RenderableType:
    """Free answers, raw, and the action that each names."""
    question, template = _question(cfg, prompt, actions)
    with _model(cfg) as model:
        began = time.perf_counter()
        ask, thoughts = _make_asked(cfg, template, model, question, n)
        (texts,) = ask.generations([question.prompt], n, sampling_of(cfg.prior, cfg.seed, template))
        seconds = time.perf_counter() - began
        about = _about(model, seconds)
    table = _table("answer", "names")
    for text in texts:
        action, how = found = PROJECTIONS[cfg.prior.projection](text, question.actions)
        named = Text(how, style="red") if found.failed or action is None else Text(question.actions[action])
        table.add_row(Text(repr(text)), named)
    return Group(_show(question.prompt), *thoughts, table, about)


def bench(cfg: DictConfig, states: int, k: int, repeats: int) -> Iterator[str]:
    """How fast the model scores and samples states of the config's world, each asked about once per repeat."""
    template = _template(cfg)
    if template.think is not None:
        raise ConfigError("lm bench measures single questions, without thoughts: use prompt=plain or prompt=chat")
    found = distinct_states(cfg, template, states)
    prompts = [prompt for prompt, _ in found]
    menus = [template.continuations(actions) for _, actions in found]
    sampling = sampling_of(cfg.prior, cfg.seed, template)
    with _model(cfg) as model:
        model.score(["Ready?"], [[" yes", " no"]])  # what is loaded or compiled at the first question is no part of it
        actions = sum(map(len, menus))
        yield f"{_name(model)}: {len(found)} states, {actions / len(found):.1f} actions each"
        for i in range(repeats):
            seconds = _time(lambda: model.score(prompts, menus))
            yield f"scored:    {len(found) / seconds:8.1f} states/s, {actions / seconds:8.1f} actions/s"
            seeds = [_seeds(cfg, f"{i} {prompt}", k) for prompt in prompts]
            seconds = _time(lambda seeds=seeds: model.sample(prompts, seeds, sampling))  # type: ignore[misc]
            yield f"generated: {len(found) / seconds:8.1f} states/s, {len(found) * k / seconds:8.1f} answers/s (k={k})"
        if isinstance(model, Served):
            yield "requests at once: {} at most, {} would be sent now".format(*model.at_once())


def distinct_states(cfg: DictConfig, template: Prompt, wanted: int) -> list[tuple[str, tuple[str, ...]]]:
    """The first `wanted` different prompts, and their menus, of random play."""
    found: dict[str, tuple[str, ...]] = {}
    rng = stream(cfg.seed, "bench")
    env: Any = build_env(cfg)
    tasks, episode, over = getattr(env, "task_ids", ()), 0, True
    for _ in range(STEPS):
        if over:
            options = {"task": tasks[episode % len(tasks)]} if tasks else {}
            seen, _ = env.reset(seed=integer(cfg.seed, "bench", episode), options=options)
            episode, state = episode + 1, TextState.of(seen)
        found.setdefault(template.render(state), state.actions)
        if len(found) == wanted:
            break
        action = state.actions[rng.integers(len(state.actions))]
        seen, _, terminated, truncated, _ = env.step(action)
        state = state.after(action, seen, template.history_turns)
        over = terminated or truncated
    env.close()
    return list(found.items())


def _question(cfg: DictConfig, prompt: str | None, actions: Sequence[str]) -> tuple[Question, Prompt]:
    template = _template(cfg)
    if prompt is not None and actions:
        return Question(prompt, tuple(actions)), template
    if prompt is not None:
        raise ConfigError("a prompt of your own needs its menu: add --action TEXT, once for each action")
    ((text, menu),) = distinct_states(cfg, template, 1)
    return Question(text, tuple(actions) or menu), template


def _template(cfg: DictConfig) -> Prompt:
    if cfg.lm is None or cfg.prompt is None:
        raise ConfigError(f"learner={cfg.learner.name} with prior={cfg.prior.name} asks no model: leave them out")
    return build_prompt(cfg)


def _make_asked(
    cfg: DictConfig, template: Prompt, model: LanguageModel, question: Question, n: int
) -> tuple[Asked, list[Text]]:
    """The questions for n answers, as a prior asks them, and the thoughts before them; most prompts have none."""
    answers = Answers(AnswerCache(":memory:"), model.identity, model.engine, lambda: model)
    answers.tell(_say, lambda what, done, total: None, cfg.lm.name)
    ask = asked_first(template, cfg.prior, cfg.seed, answers)
    thoughts = thoughts_before(ask, question.prompt, n)
    return ask, [Text(f"thinks: {thought!r}", style="dim") for thought in thoughts]


def _seeds(cfg: DictConfig, text: str, n: int) -> list[int]:
    first = integer(cfg.seed, "ask", text) % 2**48
    return [first + i for i in range(n)]


@contextmanager
def _model(cfg: DictConfig) -> Iterator[LanguageModel]:
    torch.set_num_threads(cfg.threads)
    refuse_keyless(cfg)
    with ExitStack() as opened:
        cfg = opened.enter_context(serve_for_block(cfg, _say))
        url = cfg.lm.get("url")
        _say(f"asking {url}" if url else f"loading {cfg.lm.get('model', cfg.lm.name)}")
        model = build_model(cfg)
        if isinstance(model, Speaking):
            model.hear(_say)
        if isinstance(model, Closing):
            opened.callback(model.close)
        yield model


def _say(text: str) -> None:
    print(without_secrets(text), file=sys.stderr)


def _time(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _name(model: LanguageModel) -> str:
    about = ", ".join(f"{key} {value}" for key, value in model.provenance.items())
    return f"{model.identity.model}, revision {model.identity.revision[:12]}, {model.identity.dtype} ({about})"


def _about(model: LanguageModel, seconds: float) -> Text:
    return Text(f"{_name(model)}; {seconds:.2f} s", style="dim")


def _show(prompt: str) -> Text:
    return Text(f"{prompt}\n")


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, title in enumerate(titles):
        table.add_column(title, justify="left" if i == 0 or title == "names" else "right", overflow="fold")
    return table
