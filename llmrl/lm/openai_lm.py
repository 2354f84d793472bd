"""A language model behind an OpenAI-compatible server: vLLM's, and in its plain parts anybody's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from llmrl.lm.connection import BadAnswer, Clock, Connection, Refused, together
from llmrl.lm.identify import identify_served
from llmrl.lm.language_model import (
    PROBES,
    LanguageModelError,
    Outage,
    Sampling,
    Score,
    another_model,
    distance,
)
from llmrl.lm.token_trie import Node, requests, total, trie_nodes

T = TypeVar("T")
ROUNDING = 1e-3  # nats above zero that are rounding, and how far above one probabilities may sum
CLAMPED = -9999.0  # how vLLM writes minus infinity
WAYS_AGREE = 0.3  # nats between two ways to score a probe: more is no rounding, not even of bfloat16


class OpenAILM:
    """Scores and samples through the completions API, asynchronously, with as many requests at once as are sustained.

    model, revision, dtype, tokenizer: its declared identity (`identify_served`), known without the server and held
        against it by probes. served_name: what the server calls it; None: found in the server's list.
    url, api_key_env, allow_http, concurrency, attempt_s, patience_s: `Connection`.
    probe_tolerance: nats by which a probe's answer may differ from its first.
    serve, serve_env: the server that `llmrl` starts for this model; not read here.

    It connects at the first question. What the server can do is found then, and `provenance` says what was found:
    `scoring` is "trie" (log-probabilities of named next tokens, one request for many nodes of the trie of all
    continuations, so that the prompt is computed once), "prompt_logprobs" (each continuation with the whole prompt: the
    reference, and the fallback), or "none".

    Answers are handed over only after whoever gave them was probed: when a connection was opened meanwhile, the three
    probes are asked once more.
    """

    engine = "openai"

    def __init__(
        self,
        model: str,
        *,
        url: str,
        revision: str | None = None,
        dtype: str = "float32",
        tokenizer: str | None = None,
        served_name: str | None = None,
        api_key_env: str | None = None,
        allow_http: bool = False,
        concurrency: int = 256,
        attempt_s: float = 120.0,
        patience_s: float = 600.0,
        probe_tolerance: float = 1e-2,
        serve: str | None = None,
        serve_env: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.identity = identify_served(model, revision, dtype, tokenizer)
        self.probe_tolerance = probe_tolerance
        self._names = [served_name] if served_name else list(dict.fromkeys((model, self.identity.model)))
        self._name_is_given = served_name is not None
        self.connection = Connection(
            url,
            key_env=api_key_env,
            allow_http=allow_http,
            concurrency=concurrency,
            attempt_s=attempt_s,
            patience_s=patience_s,
            clock=clock,
        )
        self._server: _Server | None = None
        self._connecting = asyncio.Lock()
        self._probes: list[list[Score]] = []
        self._probed_at = 0  # connections opened when the last probe began
        self._tokens: dict[tuple[str, bool], asyncio.Task[list[int]]] = {}  # of continuations
        self._prompt_tokens = self._generated_tokens = 0

    # ---- LanguageModel -----------------------------------------------------------------------------------------------

    @property
    def provenance(self) -> Mapping[str, str]:
        """What answers, and how it is asked."""
        server = self._server
        if server is None:
            return {"httpx2": httpx2.__version__}
        return {
            "server": f"vllm {server.version}" if server.version else "OpenAI-compatible",
            "served_name": server.name,
            "scoring": server.scoring,
            "httpx2": httpx2.__version__,
        }

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """log p(continuation | prompt) for every continuation of every prompt, in the caller's order.

        Raises Outage where the server is out of reach or is another one; LanguageModelError where it cannot score;
        ValueError for what has no tokens, or more than the model reads.
        """
        return self.start_score(prompts, continuations)()

    def start_score(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> Callable[[], list[list[Score]]]:
        """Begins `score` and returns at once; what is returned waits for it."""
        if len(continuations) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many lists of continuations, not {len(continuations)}")

        async def work() -> list[list[Score]]:
            server = await self._connected()
            return await self._vouched([self._score(server, p, c) for p, c in zip(prompts, continuations, strict=True)])

        return self._start(work())

    def score_reference(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """What `score` returns, by `prompt_logprobs`: for tests and benchmarks."""

        async def work() -> list[list[Score]]:
            server = await self._connected()
            pairs = zip(prompts, continuations, strict=True)
            return await self._vouched([self._score(server, p, c, "prompt_logprobs") for p, c in pairs])

        return self._start(work())()

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        """One generation per prompt and seed, without the stop string and what follows it.

        Seeds that follow each other go as one request for so many answers: vLLM gives answer i the seed plus i. What
        repeats an answer is its record, never its seed. Raises as `score`.
        """
        return self.start_sample(prompts, seeds, sampling)()

    def start_sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> Callable[[], list[list[str]]]:
        """Begins `sample` and returns at once; what is returned waits for it."""
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many lists of seeds, not {len(seeds)}")

        async def work() -> list[list[str]]:
            server = await self._connected()
            return await self._vouched(
                [self._sample(server, p, s, sampling) for p, s in zip(prompts, seeds, strict=True)]
            )

        return self._start(work())

    # ---- Served ------------------------------------------------------------------------------------------------------

    def probe(self) -> list[list[Score]]:
        async def work() -> list[list[Score]]:
            await self._connected()
            await self._vouched([])
            return self._probes

        return self._start(work())()

    def counters(self) -> Mapping[str, float]:
        counts = self.connection.counts
        return {
            "lm/requests": counts.requests,
            "lm/outages": counts.outages,
            "lm/waited_seconds": counts.waited,
            "lm/prompt_tokens": self._prompt_tokens,
            "lm/generated_tokens": self._generated_tokens,
        }

    def close(self) -> None:
        self.connection.close()

    def _start(self, work: Coroutine[Any, Any, T]) -> Callable[[], T]:
        return self.connection.start(work)

    # ---- who answers -------------------------------------------------------------------------------------------------

    async def _connected(self) -> _Server:
        async with self._connecting:
            if self._server is None:
                server = await self._discover()
                self._probes = [] if server.scoring == "none" else await self._ask_probes(server, server.scoring)
                self._server, self._probed_at = server, self.connection.opened
        return self._server

    async def _vouched(self, questions: Sequence[Awaitable[T]]) -> list[T]:
        """The answers, when it is known that it was our model that gave them."""
        answers = await together(questions)
        server = self._server
        if server is not None and server.scoring != "none" and self._probed_at != self.connection.opened:
            apart = distance(await self._ask_probes(server, server.scoring), self._probes)
            if apart > self.probe_tolerance:
                self.connection.counts.outages += 1
                raise Outage(another_model(self.identity.model, self.connection.url, apart, self.probe_tolerance))
            self._probed_at = self.connection.opened  # what the probe itself opened has answered it
        return answers

    async def _ask_probes(self, server: _Server, way: str) -> list[list[Score]]:
        return [await self._score(server, prompt, continuations, way) for prompt, continuations in PROBES]

    async def _discover(self) -> _Server:
        """What is served, and what it can do."""
        name = await self._served_name()
        version = await self._optional("/version", None, lambda raw: str(raw["version"]))
        room = await self._optional("/tokenize", {"model": name, "prompt": "a"}, lambda raw: int(raw["max_model_len"]))
        server = _Server(name, version, room, tokenizes=room is not None, many=bool(version), scoring="none")
        if server.tokenizes:
            ways = {way: await self._try_probes(server, way) for way in ("trie", "prompt_logprobs")}
            trie, reference = ways["trie"], ways["prompt_logprobs"]
            if trie is not None and (reference is None or distance(trie, reference) <= WAYS_AGREE):
                server.scoring = "trie"
            elif reference is not None:
                server.scoring = "prompt_logprobs"
        if not server.many:
            server.many = await self._gives_many(server)
        return server

    async def _served_name(self) -> str:
        try:
            served = await self.connection.ask("models", None, lambda raw: [str(m["id"]) for m in raw["data"]])
        except Refused as error:
            if error.status == 404 and self._name_is_given:  # a server that has no list
                return self._names[0]
            raise
        for name in self._names:
            if name in served:
                return name
        if len(served) == 1 and not self._name_is_given:
            return served[0]  # by what name, does not matter: the probes say whether it is the one
        raise Outage(
            f"{self.connection.url} serves {', '.join(served) or 'nothing'}, and not {self._names[0]}: start the "
            "server for this model, or say under which name it is served there with lm.served_name=NAME"
        )

    async def _optional(self, path: str, body: Any, read: Callable[[Any], T]) -> T | None:
        """What not every server has."""

        def lenient(raw: Any) -> T | None:
            try:
                return read(raw)
            except (KeyError, TypeError, ValueError):
                return None

        try:
            return await self.connection.ask(path, body, lenient)
        except Refused:
            return None

    async def _try_probes(self, server: _Server, way: str) -> list[list[Score]] | None:
        """The probes in one way to score; None where the server does not know it."""
        try:
            return [await self._score(server, p, c, way, patient=False) for p, c in PROBES]
        except (Refused, BadAnswer):
            return None

    async def _gives_many(self, server: _Server) -> bool:
        """Whether n answers are n draws: some servers give one, or the same one n times."""
        body = {"model": server.name, "prompt": PROBES[0][0], "max_tokens": 16, "temperature": 1.0, "n": 2, "seed": 1}
        read = lambda raw: [str(choice["text"]) for choice in raw["choices"]]  # noqa: E731
        texts = await self._optional("completions", body, read)
        return texts is not None and len(set(texts)) == 2

    # ---- tokens ------------------------------------------------------------------------------------------------------

    async def _tokenize(self, server: _Server, text: str, is_prompt: bool) -> list[int]:
        body = {"model": server.name, "prompt": text, "add_special_tokens": is_prompt}
        tokens = await self.connection.ask("/tokenize", body, _read(lambda raw: [int(t) for t in raw["tokens"]]))
        if not tokens and is_prompt:
            raise ValueError("a prompt has no tokens and this tokenizer adds none at the beginning: give it some text")
        if not tokens:
            raise ValueError(f"the continuation {text!r} has no tokens, so it has no probability: give it some text")
        return tokens

    async def _continuation(self, server: _Server, text: str) -> list[int]:
        """As `_tokenize`, each text once: menus repeat."""
        known = self._tokens.get((text, False))
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            known = self._tokens[text, False] = asyncio.ensure_future(self._tokenize(server, text, is_prompt=False))
        return await asyncio.shield(known)

    def _check_length(self, server: _Server, prompt: str, tokens: int, more: int, what: str) -> None:
        if server.room is not None and tokens + more > server.room:
            raise ValueError(
                f"the prompt {prompt[:40]!r}... has {tokens} tokens; with {more} {what} that is more than the "
                f"{server.room} that the server of {self.identity.model} reads: show less history "
                "(prompt.history_turns), or start it with more (llmrl serve --max-model-len N)"
            )

    # ---- scoring -----------------------------------------------------------------------------------------------------

    async def _score(
        self, server: _Server, prompt: str, texts: Sequence[str], way: str | None = None, patient: bool = True
    ) -> list[Score]:
        """`patient`: what is no answer is asked again; else it raises BadAnswer."""
        way = way or server.scoring
        if way == "none":
            raise LanguageModelError(
                f"{self.connection.url} gives no log-probabilities of named tokens and none of prompts, so it cannot "
                "score actions: use prior=generated, a vLLM server from 0.32 on (`llmrl serve MODEL` starts one), or "
                "the model in this process (lm=hf)"
            )
        if not texts:
            return []
        ids, *continuations = await together(
            [self._tokenize(server, prompt, True), *(self._continuation(server, text) for text in texts)]
        )
        self._check_length(
            server, prompt, len(ids), max(map(len, continuations)) + 1, "tokens of an answer and its end"
        )
        if way == "trie":
            sums = await self._by_trie(server, ids, continuations, patient)
        else:
            sums = await self._by_prompt(server, ids, continuations, patient)
        return [Score(min(s, 0.0), len(c)) for s, c in zip(sums, continuations, strict=True)]

    async def _by_trie(
        self, server: _Server, prompt: list[int], continuations: Sequence[list[int]], patient: bool
    ) -> list[float]:
        """The node at the prompt goes first: it fills the prefix cache, from which all others read."""
        nodes = trie_nodes(continuations)
        at_prompt = [node for node in nodes if not node.before]
        table: dict[tuple[int, ...], dict[int, float]] = {}
        for wave in (at_prompt, nodes[len(at_prompt) :]):
            some = list(requests(wave))
            found = await together([self._nodes(server, prompt, part, patient) for part in some])
            for part, rows in zip(some, found, strict=True):
                for node, row in zip(part, rows, strict=True):
                    table.setdefault(node.before, {}).update(row)
        return [total(table, continuation) for continuation in continuations]

    async def _nodes(
        self, server: _Server, prompt: list[int], nodes: Sequence[Node], patient: bool
    ) -> list[dict[int, float]]:
        ids = list(dict.fromkeys(token for node in nodes for token in node.ids))
        body = {
            "model": server.name,
            "prompt": [[*prompt, *node.before] for node in nodes],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": ids,
            "return_tokens_as_token_ids": True,
        }

        def read(raw: Any) -> list[dict[int, float]]:
            self._count(raw)
            rows = []
            for node, choice in zip(nodes, _choices(raw, len(nodes)), strict=True):
                (named,) = choice["logprobs"]["top_logprobs"]
                row = {token: _logprob(named[f"token_id:{token}"]) for token in ids}
                if sum(map(math.exp, row.values())) > 1 + ROUNDING:
                    raise BadAnswer("probabilities of different tokens that sum to more than one")
                rows.append({token: row[token] for token in node.ids})
            return rows

        return await self._ask(body, read, patient)

    async def _by_prompt(
        self, server: _Server, prompt: list[int], continuations: Sequence[list[int]], patient: bool
    ) -> list[float]:
        body = {
            "model": server.name,
            "prompt": [[*prompt, *continuation] for continuation in continuations],
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": 0,
        }

        def read(raw: Any) -> list[float]:
            self._count(raw)
            sums = []
            for continuation, choice in zip(continuations, _choices(raw, len(continuations)), strict=True):
                rows = choice["prompt_logprobs"][len(prompt) :]
                if len(rows) != len(continuation):
                    raise BadAnswer(f"log-probabilities of {len(rows)} tokens instead of {len(continuation)}")
                sums.append(
                    sum(_logprob(row[str(token)]["logprob"]) for row, token in zip(rows, continuation, strict=True))
                )
            return sums

        return await self._ask(body, read, patient)

    # ---- sampling ----------------------------------------------------------------------------------------------------

    async def _sample(self, server: _Server, prompt: str, seeds: Sequence[int], sampling: Sampling) -> list[str]:
        if not seeds:
            return []
        asked: str | list[int] = prompt
        if server.tokenizes:
            asked = await self._tokenize(server, prompt, True)
            self._check_length(server, prompt, len(asked), sampling.max_tokens, "max_tokens")
        if sampling.temperature == 0:  # all seeds give the likeliest answer, and vLLM then gives only one
            return await self._generate(server, asked, seeds[0], 1, sampling) * len(seeds)
        runs = list(_runs(seeds)) if server.many else [(seed, 1) for seed in seeds]
        found = await together([self._generate(server, asked, first, n, sampling) for first, n in runs])
        return [text for texts in found for text in texts]

    async def _generate(
        self, server: _Server, prompt: str | list[int], seed: int, n: int, sampling: Sampling
    ) -> list[str]:
        body: dict[str, Any] = {
            "model": server.name,
            "prompt": prompt,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "n": n,
            "seed": seed,
        }
        if sampling.stop:
            body["stop"] = [sampling.stop]
        if server.version:  # which else takes these from a file beside the weights
            body |= {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}

        def read(raw: Any) -> list[str]:
            self._count(raw)
            texts = []
            for choice in _choices(raw, n):
                if not isinstance(choice["text"], str) or choice.get("finish_reason") not in ("stop", "length"):
                    raise BadAnswer(f"a generation that ended with {choice.get('finish_reason')!r}")
                texts.append(choice["text"].partition(sampling.stop)[0] if sampling.stop else choice["text"])
            return texts

        return await self._ask(body, read)

    async def _ask(self, body: Any, read: Callable[[Any], T], patient: bool = True) -> T:
        if patient:
            return await self.connection.ask("completions", body, _read(read))
        return _read(read)(await self.connection.ask("completions", body, lambda raw: raw))

    def _count(self, raw: Any) -> None:
        usage = raw.get("usage") or {}
        self._prompt_tokens += usage.get("prompt_tokens") or 0
        self._generated_tokens += usage.get("completion_tokens") or 0


class VllmLM(OpenAILM):
    """The same, and what it says is kept as vLLM's."""

    engine = "vllm"


@dataclass
class _Server:
    name: str  # of the model, there
    version: str | None  # vLLM's; None for others
    room: int | None  # tokens, of prompt and answer
    tokenizes: bool
    many: bool  # n answers in one request
    scoring: str  # trie | prompt_logprobs | none


def _read(read: Callable[[Any], T]) -> Callable[[Any], T]:
    """What is missing or of another shape is no answer."""

    def checked(raw: Any) -> T:
        try:
            return read(raw)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BadAnswer(f"{type(error).__name__}: {error}") from error

    return checked


def _choices(raw: Any, n: int) -> list[Any]:
    choices = sorted(raw["choices"], key=lambda choice: choice["index"])
    if [choice["index"] for choice in choices] != list(range(n)):
        raise BadAnswer(f"{len(choices)} answers where {n} were asked for")
    return choices


def _logprob(value: Any) -> float:
    if not isinstance(value, int | float) or not CLAMPED < value <= ROUNDING:
        raise BadAnswer(f"a log-probability that is {value!r}")
    return float(value)


def _runs(seeds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Seeds that follow each other: the first, and how many."""
    first, n = seeds[0], 1
    for seed in seeds[1:]:
        if seed == first + n:
            n += 1
        else:
            yield first, n
            first, n = seed, 1
    yield first, n
