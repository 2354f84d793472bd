"""The completions API as far as it is read here: tokens, log-probabilities of continuations, usage."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from llmrl.lm.http.connection import BadAnswer, Connection, Patience, TooLong
from llmrl.lm.http.loop import together
from llmrl.lm.http.token_trie import Row, requests, total, trie_nodes
from llmrl.lm.language_model import Conversation, LanguageModelError, Score, last_line

T = TypeVar("T")
ROUNDING = 1e-3  # nats above zero that are rounding, and how far above one probabilities may sum
FORCE = 1000.0  # added to a logit: no other token is drawn then
FORCED_ROUNDING = 0.5  # the same of several requests, which round apart; those after a bias sum to two or more
CLAMPED = -9999.0  # how vLLM writes minus infinity


@dataclass
class Server:
    name: str  # of the model, there
    version: str | None  # vLLM's; None for others
    room: int | None  # tokens, of prompt and answer
    tokenizes: bool
    many: bool  # n answers in one request
    scoring: str  # trie | prompt_logprobs | forced | none
    llamacpp: str | None = None  # the build of llama.cpp; None for others
    slots: int | None = None  # answers that llama.cpp computes at once
    gives_ids: bool = False  # the tokens of a prompt that came as text, beside the answer
    left_out: set[str] = field(default_factory=set)  # of what a question for answers says: what it refused


class _Asked(NamedTuple):
    """A prompt, and the tokens of its continuations."""

    prompt: str
    continuations: list[list[int]]


class Completions:
    """Asks one server's completions API, and reads strictly what it says."""

    def __init__(self, connection: Connection, model: str) -> None:
        self.connection, self.model = connection, model
        self.prompt_tokens = self.generated_tokens = 0
        self._tokens: dict[tuple[str, str], asyncio.Task[list[int]]] = {}  # of continuations after a line
        self._lines: dict[str, list[int]] = {}

    async def ask(
        self, body: Any, read: Callable[[Any], T], patient: bool = True, path: str = "completions", **how: Any
    ) -> T:
        """`patient`: what is no answer is asked again; else it raises BadAnswer. how: as in `Connection.ask`."""
        if patient:
            return await self.connection.ask(path, body, refuse_malformed(read), **how)
        return refuse_malformed(read)(await self.connection.ask(path, body, lambda raw: raw, **how))

    def count(self, raw: Any) -> None:
        usage = raw.get("usage")
        told = usage if isinstance(usage, dict) else {}
        prompt, generated = (told.get(f"{kind}_tokens") for kind in ("prompt", "completion"))
        self.prompt_tokens += prompt if isinstance(prompt, int) else 0
        self.generated_tokens += generated if isinstance(generated, int) else 0

    # ---- tokens ------------------------------------------------------------------------------------------------------

    async def tokenize(self, server: Server, text: str, is_prompt: bool = True) -> list[int]:
        """Tokenises with the server's own tokenizer. Raises ValueError for a text without tokens."""
        body: dict[str, Any] = {"model": server.name, "prompt": text, "add_special_tokens": is_prompt}
        if server.llamacpp:
            if isinstance(text, Conversation):
                messages = {"messages": text.messages, "add_generation_prompt": True}
                text = await self.connection.ask(
                    "/apply-template", messages, refuse_malformed(lambda raw: str(raw["prompt"]))
                )
            body = {"content": text, "add_special": is_prompt}
        elif isinstance(text, Conversation):
            body = {"model": server.name, "messages": text.messages, "add_generation_prompt": True}
        tokens = await self.connection.ask(
            "/tokenize", body, refuse_malformed(lambda raw: [int(t) for t in raw["tokens"]])
        )
        if not tokens and is_prompt:
            raise ValueError("a prompt has no tokens and this tokenizer adds none at the beginning: give it some text")
        if not tokens:
            raise ValueError(f"the continuation {text!r} has no tokens, so it has no probability: give it some text")
        return tokens

    async def _continuation(self, server: Server, line: str, text: str) -> list[int]:
        """The tokens that `text` has after a prompt's last line, the two tokenised as one; each pair is asked once.

        Only the prompt's last line is tokenised with it: a token that reaches back further than a line is none. Where
        the two share a token, and after a conversation, whose text only the server knows, `text` is tokenised apart.
        """
        key = line, text
        known = self._tokens.get(key)
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            known = self._tokens[key] = asyncio.ensure_future(self._after(server, *key))
            known.add_done_callback(lambda task: task.cancelled() or task.exception())  # whoever still waits is told
        return await asyncio.shield(known)

    async def _after(self, server: Server, line: str, text: str) -> list[int]:
        if line:
            before = await self.ids(server, line)
            both = await self.tokenize(server, line + text, is_prompt=False)
            if both[: len(before)] == before and len(both) > len(before):
                return both[len(before) :]
        return await self.tokenize(server, text, is_prompt=False)

    async def ids(self, server: Server, line: str) -> list[int]:
        """The tokens of a text that comes again and again, asked for once."""
        if line not in self._lines:
            self._lines[line] = await self.tokenize(server, line, is_prompt=False)
        return self._lines[line]

    def _check_length(self, server: Server, asked: _Asked, tokens: int) -> None:
        more = 1 + max(map(len, asked.continuations))
        if server.room is not None and tokens + more > server.room:
            raise ValueError(
                f"the prompt {asked.prompt[:40]!r}... has {tokens} tokens; with {more} of an answer that is more than "
                f"the {server.room} that the server of {self.model} reads: show less history "
                "(prompt.history_turns), or start it with more (llmrl serve --max-model-len N; llama-server -c N)"
            )

    # ---- scoring -----------------------------------------------------------------------------------------------------

    async def scores(
        self,
        server: Server,
        prompts: Sequence[str],
        menus: Sequence[Sequence[str]],
        way: str | None = None,
        patient: bool = True,
    ) -> list[list[Score]]:
        """`patient`: what is no answer is asked again; else it raises BadAnswer."""
        way = way or server.scoring
        if way == "none":
            raise LanguageModelError(
                f"{self.connection.url} gives no log-probabilities of named tokens and none of prompts, so it cannot "
                "score actions: use prior=generated, a vLLM server from 0.32 on (`llmrl serve MODEL` starts one), a "
                "llama.cpp server of 2026, or the model in this process (lm=hf)"
            )
        ends = list(
            dict.fromkeys((last_line(p), text) for p, menu in zip(prompts, menus, strict=True) for text in menu)
        )
        tokens = dict(zip(ends, await together([self._continuation(server, *end) for end in ends]), strict=True))
        asked = [
            _Asked(prompt, [tokens[last_line(prompt), text] for text in menu])
            for prompt, menu in zip(prompts, menus, strict=True)
            if menu
        ]
        by = {"trie": self._by_trie, "prompt_logprobs": self._by_prompt, "forced": self._by_force}[way]
        sums = iter(await by(server, asked, patient))
        menu_tokens = iter(a.continuations for a in asked)
        return [
            [Score(min(s, 0.0), len(its)) for s, its in zip(next(sums), next(menu_tokens), strict=True)] if menu else []
            for menu in menus
        ]

    async def _by_trie(self, server: Server, asked: Sequence[_Asked], patient: bool) -> list[list[float]]:
        """The nodes at the prompts go first: they fill the prefix cache, from which all others read."""
        ids: list[list[int]] = [[] for _ in asked]
        gives_ids = server.gives_ids and not any(isinstance(a.prompt, Conversation) for a in asked)
        if not gives_ids:
            ids = await together([self.tokenize(server, a.prompt, True) for a in asked])
        rows = [Row(i, node) for i, a in enumerate(asked) for node in trie_nodes(a.continuations)]
        tables: list[dict[tuple[int, ...], dict[int, float]]] = [{} for _ in asked]
        for at_prompt in (True, False):
            wave = list(requests([row for row in rows if (not row.node.before) == at_prompt]))
            as_text = at_prompt and gives_ids
            found = await together(
                [
                    self._rows(
                        server,
                        [asked[r.prompt].prompt if as_text else [*ids[r.prompt], *r.node.before] for r in some],
                        some,
                        as_text,
                        patient,
                    )
                    for some in wave
                ]
            )
            for some, answers in zip(wave, found, strict=True):
                for row, (named, prompt_ids) in zip(some, answers, strict=True):
                    tables[row.prompt].setdefault(row.node.before, {}).update(named)
                    ids[row.prompt] = prompt_ids or ids[row.prompt]
            if at_prompt:
                for a, tokens in zip(asked, ids, strict=True):
                    self._check_length(server, a, len(tokens))
        return [[total(table, c) for c in a.continuations] for a, table in zip(asked, tables, strict=True)]

    async def _rows(
        self,
        server: Server,
        prompts: Sequence[str | list[int]],
        rows: Sequence[Row],
        as_text: bool,
        patient: bool,
        patience: Patience | None = None,
    ) -> list[tuple[dict[int, float], list[int]]]:
        """The log-probabilities of each row's next tokens and, where prompts are texts, the prompt's tokens.

        Rows that take too long are asked in two halves.
        """
        patience, half = patience or Patience(), len(rows) // 2
        ids = list(dict.fromkeys(token for row in rows for token in row.node.ids))
        body = {
            "model": server.name,
            "prompt": prompts,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": ids,
            "return_tokens_as_token_ids": True,
        }
        if as_text:
            body["return_token_ids"] = True

        def read(raw: Any) -> list[tuple[dict[int, float], list[int]]]:
            self.count(raw)
            found = []
            for row, choice in zip(rows, _read_scores(raw, len(rows)), strict=True):
                (named,) = choice["logprobs"]["top_logprobs"]
                values = {token: _logprob(named[f"token_id:{token}"]) for token in ids}
                if sum(map(math.exp, values.values())) > 1 + ROUNDING:
                    raise BadAnswer("probabilities of different tokens that sum to more than one")
                prompt_ids = [int(token) for token in choice["prompt_token_ids"]] if as_text else []
                found.append(({token: values[token] for token in row.node.ids}, prompt_ids))
            return found

        try:
            return await self.ask(body, read, patient, patience=patience, divisible=half > 0)
        except TooLong:
            parts = [slice(half), slice(half, None)]
            found = [self._rows(server, prompts[p], rows[p], as_text, patient, patience) for p in parts]
            return [row for part in await together(found) for row in part]

    async def _by_prompt(self, server: Server, asked: Sequence[_Asked], patient: bool) -> list[list[float]]:
        async def one(a: _Asked) -> list[float]:
            prompt = await self.tokenize(server, a.prompt, True)
            self._check_length(server, a, len(prompt))
            body = {
                "model": server.name,
                "prompt": [[*prompt, *continuation] for continuation in a.continuations],
                "max_tokens": 1,
                "temperature": 0,
                "prompt_logprobs": 0,
            }

            def read(raw: Any) -> list[float]:
                self.count(raw)
                sums = []
                for tokens, choice in zip(a.continuations, _read_scores(raw, len(a.continuations)), strict=True):
                    found = choice["prompt_logprobs"][len(prompt) :]
                    if len(found) != len(tokens):
                        raise BadAnswer(f"log-probabilities of {len(found)} tokens instead of {len(tokens)}")
                    sums.append(sum(_logprob(at[str(t)]["logprob"]) for at, t in zip(found, tokens, strict=True)))
                return sums

            return await self.ask(body, read, patient)

        return await together([one(a) for a in asked])

    async def _by_force(self, server: Server, asked: Sequence[_Asked], patient: bool) -> list[list[float]]:
        """llama.cpp gives log-probabilities of generated tokens alone, and takes them before a bias moves any. So each
        token is generated, by a bias that leaves no other.

        Those of one prompt go one after another: the slot that computed the prompt keeps it for the next.
        """
        slots = asyncio.Semaphore(server.slots or 1)

        async def one(a: _Asked) -> list[float]:
            async with slots:
                prompt = await self.tokenize(server, a.prompt, True)
                self._check_length(server, a, len(prompt))
                table: dict[tuple[int, ...], dict[int, float]] = {}
                for tokens in a.continuations:
                    for i, token in enumerate(tokens):
                        known = table.setdefault(tuple(tokens[:i]), {})
                        if token not in known:
                            known[token] = await self._force(server, [*prompt, *tokens[:i]], token, known, patient)
                return [total(table, tokens) for tokens in a.continuations]

        return await together([one(a) for a in asked])

    async def _force(
        self, server: Server, prompt: list[int], token: int, known: Mapping[int, float], patient: bool
    ) -> float:
        """The log-probability of one next token; `known` has those of others."""
        body = {
            "model": server.name,
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logit_bias": [[token, FORCE]],
        }

        def read(raw: Any) -> float:
            self.count(raw)
            (choice,) = _read_scores(raw, 1)
            (found,) = choice["logprobs"]["content"]
            if found["id"] != token:
                raise BadAnswer(f"the token {found['id']} where only {token} may come")
            value = _logprob(found["logprob"])
            if math.exp(value) + sum(map(math.exp, known.values())) > 1 + FORCED_ROUNDING:
                raise BadAnswer("probabilities of different tokens that sum to more than one")
            return value

        return await self.ask(body, read, patient)


def refuse_malformed(read: Callable[[Any], T]) -> Callable[[Any], T]:
    """Makes a reader that raises BadAnswer where a value is missing or of another shape."""

    def reader(raw: Any) -> T:
        try:
            return read(raw)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BadAnswer(f"{type(error).__name__}: {error}") from error

    return reader


def choices_of(raw: Any, n: int) -> list[Any]:
    """In the order of their indices; one alone need not have one."""
    choices: list[Any] = raw["choices"]
    if n > 1:
        choices = sorted(choices, key=lambda choice: choice["index"])
    if len(choices) != n or (n > 1 and [choice["index"] for choice in choices] != list(range(n))):
        raise BadAnswer(f"{len(choices)} answers where {n} were asked for")
    return choices


def _read_scores(raw: Any, n: int) -> list[Any]:
    choices = choices_of(raw, n)
    for choice in choices:
        if choice.get("finish_reason") not in ("stop", "length"):  # such as "abort", of a server that is being stopped
            raise BadAnswer(f"an answer that ended with {choice.get('finish_reason')!r}")
    return choices


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not CLAMPED < value <= ROUNDING:
        raise BadAnswer(f"a log-probability that is {value!r}")
    return float(value)
