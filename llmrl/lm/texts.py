"""Texts to tokens and back: prompts, their continuations, and where an answer ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from llmrl.lm.language_model import Conversation, before_stop, last_line, stops


class Texts:
    """The tokens of prompts and answers.

    bos: whether a text begins with the beginning-of-text token; None: as the tokenizer has it.
    notes: messages for a person, each once.

    Raises ValueError where bos=True and there is no such token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: str, bos: bool | None, bos_token: int | None) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.notes: list[str] = []
        full, bare = self._ids("a", special=True), self._ids("a")
        starts = [i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare]
        # Some tokenizers also end a text, with </s> or [SEP]; what is continued has no such end.
        before = full[: starts[0]] if starts else []
        if bos and bos_token is None:
            raise ValueError(f"lm.bos=true, but {model} names no beginning-of-text token: leave lm.bos=null")
        self.adds_bos = bool(before) and before[0] == bos_token
        if bos and not self.adds_bos and bos_token is not None:
            before = [bos_token, *before]
        elif bos is False and self.adds_bos:
            before = before[1:]
        self._line = lru_cache(2**12)(self._ids)
        self._after = lru_cache(2**16)(self._continue)
        self._before, self._bos = before, bos_token if bos else None
        specials = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) or r"(?!)")

    def prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        """Raises ValueError for a prompt without tokens, and a conversation that the model's template refuses."""
        if not prompts:
            return []
        found: list[list[int]] = self.tokenizer(
            [self._text(prompt) for prompt in prompts], add_special_tokens=False, verbose=False
        )["input_ids"]
        tokens = [self._start(prompt) + ids for prompt, ids in zip(prompts, found, strict=True)]
        if not all(tokens):
            raise ValueError("a prompt has no tokens and this tokenizer adds none at the beginning: give it some text")
        return tokens

    def continuations(self, prompt: str, tokens: list[int], texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each continuation: those of prompt and continuation as one text, after the prompt's own
        `tokens`.

        So a continuation has the tokens that the model was taught, also where a tokenizer puts a space before any text.
        Where the two texts share a token, the continuation is tokenised apart, and `notes` says so.

        Raises ValueError for a continuation without tokens.
        """
        line = last_line(prompt)
        own = self._line(line)
        if own and tokens[-len(own) :] == own:  # most tokenizers: the line is what it is, whatever stands before it
            return [self._after(line, text) or self._apart(prompt, text) for text in texts]
        written, start = self._text(prompt), self._start(prompt)
        own = tokens[len(start) :]
        return [_rest(self._ids(written + text), own) or self._apart(prompt, text) for text in texts]

    def _continue(self, line: str, text: str) -> list[int]:
        return _rest(self._ids(line + text), self._line(line))

    def _apart(self, prompt: str, text: str) -> list[int]:
        tokens = self._ids(text)
        if not tokens:
            raise ValueError(f"the continuation {text!r} has no tokens, so it has no probability: give it some text")
        self._note(
            f"the tokenizer of {self.model} joins the end of the prompt ({prompt[-12:]!r}) and the beginning of an "
            f"action ({text[:12]!r}) into one token, so the action is scored as a text of its own: let a space stand "
            "between them (prompt.prefix=' '), and none at the end of the template"
        )
        return tokens

    def _text(self, prompt: str) -> str:
        if not isinstance(prompt, Conversation):
            return prompt
        try:
            found: Any = self.tokenizer.apply_chat_template(
                list(prompt.messages), add_generation_prompt=True, tokenize=False
            )
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            roles = ", ".join(message["role"] for message in prompt.messages)
            says = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"the chat template of {self.model} refuses a conversation of {roles} ({says})"
                + (": set prompt.system='' (no system message)" if "system" in roles else ": use prompt=plain")
            ) from None
        return str(found)

    def _start(self, prompt: str) -> list[int]:
        """The tokens before a prompt's own. A chat template writes them itself, if it does."""
        if not isinstance(prompt, Conversation):
            return self._before
        if self._bos is None or self._ids(self._text(prompt))[:1] == [self._bos]:
            return []
        return [self._bos]

    def _ids(self, text: str, special: bool = False) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return ids

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < 8:
            self.notes.append(text)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def before_stop(self, tokens: list[int], stop: str | tuple[str, ...]) -> tuple[str, bool]:
        """The text of `tokens` before `stop`, special tokens left out; and whether `stop` came.

        A stop may itself be, or hold, a special token, which is looked for before they are left out.
        """
        special = any(self._special.search(one) is not None for one in stops(stop))
        text = self.tokenizer.decode(tokens, skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        before, found = before_stop(text, stop)
        return (self._special.sub("", before) if special else before), found


def _rest(ids: list[int], own: list[int]) -> list[int]:
    """The tokens after `own`, with which `ids` begin; none where they do not."""
    return ids[len(own) :] if ids[: len(own)] == own else []
