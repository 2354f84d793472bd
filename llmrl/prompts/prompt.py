"""Prompt: TextState -> text, by a Jinja2 template that a person chooses.

Templates are rendered in Jinja's sandbox: one that comes with a run of somebody else can run no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import filters, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmrl.core.state import TextState
from llmrl.lm.language_model import Conversation
from llmrl.schema.priors import PromptConfig

if TYPE_CHECKING:
    from llmrl.prompts.examples import Examples

KNOWN = ("task", "observation", "actions", "history")  # what a template may use


class Prompt:
    """Renders states for a language model, and its actions as continuations of the rendered text.

    chat_template: the name of the model's template, where the prompt is a conversation. examples: decisions shown
    before the question. Each is rendered like the question, with the expert's action behind it. In a conversation, each
    is a question and its answer.

    Raises ValueError for a template that does not parse or names something unknown.
    """

    def __init__(self, cfg: PromptConfig, chat_template: str = "", examples: Examples | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
        )
        environment.filters["map"] = _map
        try:
            self._template = environment.from_string(cfg.template)
            unknown = names_in(cfg.template) - set(KNOWN)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"prompt {cfg.id!r}, line {error.lineno} of its template: {error.message}") from None
        if unknown:
            raise ValueError(
                f"prompt {cfg.id!r} names {', '.join(sorted(unknown))}; a template may use {', '.join(KNOWN)}"
            )
        self._globals = dict(self._template.globals)
        self._system = cfg.system if cfg.kind == "chat" else None
        self._chat_template = chat_template
        self._shots, self._examples = cfg.shots, examples
        self.think, self.think_tokens, self.think_end, self.then = cfg.think, cfg.think_tokens, cfg.think_end, cfg.then
        self.id, self.prefix, self.end, self.history_turns = cfg.id, cfg.prefix, cfg.end, cfg.history_turns

    def render(self, state: TextState, history_turns: int | None = None) -> str:
        turns = self.history_turns if history_turns is None else history_turns
        text = self._render_text(state, turns)
        shown: list[tuple[str, str]] = []
        if self._shots:
            assert self._examples is not None, "a prompt with examples is made by llmrl.build.build_prompt"
            shown = [
                (self._render_text(step.state, turns), f"{self.prefix}{step.action}")
                for step in self._examples.of(state)
            ]
        if self._system is None:
            return "".join(f"{asked}{answer}{self.end}\n" for asked, answer in shown) + text
        said = [{"role": "system", "content": self._system}] if self._system else []
        for asked, answer in shown:
            said += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        return Conversation([*said, {"role": "user", "content": text}], self._chat_template)

    def _render_text(self, state: TextState, turns: int) -> str:
        names = {
            **self._globals,
            "task": state.task,
            "observation": state.observation,
            "actions": state.actions,
            "history": state.history[-turns:] if turns else (),
        }
        try:
            # What `render` does, in half the time: it copies all names once more.
            return "".join(self._template.root_render_func(self._template.new_context(names, shared=True)))
        except jinja2.UndefinedError as error:
            raise ValueError(f"prompt {self.id!r}: {error}; a template may use {', '.join(KNOWN)}") from None
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"prompt {self.id!r} cannot be rendered: {error}") from None

    def continuations(self, actions: Sequence[str]) -> list[str]:
        """The texts to be scored: log p of one is the log-probability that the model writes this action and stops."""
        return [f"{self.prefix}{action}{self.end}" for action in actions]


@lru_cache
def names_in(template: str) -> frozenset[str]:
    """The names that a template uses. Raises jinja2.TemplateSyntaxError."""
    return frozenset(meta.find_undeclared_variables(jinja2.Environment().parse(template)))


@jinja2.pass_context
def _map(context: jinja2.runtime.Context, value: Iterable[Any], *args: Any, **options: Any) -> Iterable[Any]:
    """Jinja's own, which looks up and calls a filter for each item; a history of pairs is mapped at every state."""
    if args in (("first",), ("last",)) and not options and isinstance(value, tuple):
        at = 0 if args == ("first",) else -1
        return [pair[at] for pair in value]
    mapped: Iterable[Any] = filters.do_map(context, value, *args, **options)
    return mapped
