"""A language model behind an OpenAI-compatible server: vLLM's, llama.cpp's, and in its plain parts anybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import httpx2

from llmrl.lm.generations import Generations
from llmrl.lm.http.address import is_loopback
from llmrl.lm.http.completions import Completions, Server, refuse_malformed
from llmrl.lm.http.connection import BadAnswer, Clock, Connection, Refused
from llmrl.lm.identify import identify_served
from llmrl.lm.language_model import (
    PROBES,
    Outage,
    Sampling,
    Score,
    WrongSetting,
    another_model,
    distance,
)

T = TypeVar("T")
WAYS_AGREE = 0.3  # nats between two ways to score a probe: more is no rounding, not even of bfloat16
# Nats between two answers of llama.cpp to a probe. Rounding depends on its cache and on the requests beside: at most
# 0.0023 were measured, and 0.18 between two quantisations of one model (SmolLM2; docs/how-to/serve-on-a-laptop.md).
FORCED_AGREE = 0.05


class OpenAILM:
    """Scores and samples through the completions API, asynchronously, with as many requests at once as are sustained.

    model, revision, dtype, tokenizer: its declared identity (`identify_served`), known without the server and held
        against it by probes. served_name: what the server calls it; None: found in the server's list.
    url, api_key_env, allow_http, concurrency, attempt_s, patience_s: `Connection`.
    probe_tolerance: nats by which a probe's answer may differ from its first; where each token is forced, FORCED_AGREE
        at least.
    serve, serve_env: the server that `llmrl` starts for this model; not read here.

    It connects at the first question. What the server can do is found then, and `provenance` says what was found:
    `scoring` is "trie" (log-probabilities of named next tokens, one request for many nodes of the trie of all
    continuations, so that the prompt is computed once), "prompt_logprobs" (each continuation with the whole prompt: the
    reference, and the fallback), "forced" (llama.cpp: each token is generated, by a bias that leaves no other; one
    request for each), or "none".

    Answers are handed over only after whoever gave them was probed: on each connection that was opened, the three
    probes are asked once, after its first answer and before that is used.
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
            hint=self._hint(model, url),
            clock=clock,
        )
        self._server: Server | None = None
        self._connecting = asyncio.Lock()
        self._probes: list[list[Score]] = []
        self._api = Completions(self.connection, self.identity.model)
        self._generations = Generations(self._api)

    # ---- LanguageModel -----------------------------------------------------------------------------------------------

    @property
    def provenance(self) -> Mapping[str, str]:
        """The server that answers, and how it is asked."""
        server = self._server
        if server is None:
            return {"httpx2": httpx2.__version__}
        return {
            "server": _kind(server),
            "served_name": server.name,
            "scoring": server.scoring,
            **({"left_out": ", ".join(sorted(server.left_out))} if server.left_out else {}),
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
            server = await self._connect()
            return await self._api.scores(server, prompts, continuations)

        return self._start(work())

    def score_reference(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """The result of `score`, by `prompt_logprobs`: for tests and benchmarks."""

        async def work() -> list[list[Score]]:
            server = await self._connect()
            return await self._api.scores(server, prompts, continuations, "prompt_logprobs")

        return self._start(work())()

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        """One generation per prompt and seed, without the stop string and what follows it.

        Seeds that follow each other go as one request for so many answers: vLLM gives answer i the seed plus i. What
        repeats an answer is its record, never its seed. An answer that has no text, for a reason that asking again
        does not mend, is "" and counted by that reason; where no answer has one, it ends. Raises as `score`, and
        WrongSetting, which says what to set.
        """
        return self.start_sample(prompts, seeds, sampling)()

    def start_sample(
        self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> Callable[[], list[list[str]]]:
        """Begins `sample` and returns at once; what is returned waits for it."""
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many lists of seeds, not {len(seeds)}")

        async def work() -> list[list[str]]:
            server = await self._connect()
            return await self._generations.sample(server, prompts, seeds, sampling)

        return self._start(work())

    # ---- Served ------------------------------------------------------------------------------------------------------

    def probe(self) -> list[list[Score]]:
        async def work() -> list[list[Score]]:
            known = self._server is not None
            server = await self._connect()
            if known and server.scoring != "none":
                await self._ask_probes(server, server.scoring)  # which holds whoever answers now to those
            return self._probes

        return self._start(work())()

    def hear(self, say: Callable[[str], None]) -> None:
        """`say` is told of what is waited for, from another thread."""
        self.connection.say = say

    def counters(self) -> Mapping[str, float]:
        counts = self.connection.counts
        return {
            "lm/requests": counts.requests,
            "lm/outages": counts.outages,
            "lm/waited_seconds": counts.waited,
            "lm/prompt_tokens": self._api.prompt_tokens,
            "lm/generated_tokens": self._api.generated_tokens,
            **{f"lm/{name}": count for name, count in self._generations.lacks.items()},
        }

    def at_once(self) -> tuple[int, int]:
        limiter = self.connection.limiter
        return limiter.peak, int(limiter.limit)

    def close(self) -> None:
        self.connection.close()

    def _hint(self, model: str, url: str) -> str:
        return f"Is lm.url right, and does a server of {model} run there?"

    def _start(self, work: Coroutine[Any, Any, T]) -> Callable[[], T]:
        return self.connection.start(work)

    # ---- who answers -------------------------------------------------------------------------------------------------

    async def _connect(self) -> Server:
        async with self._connecting:
            if self._server is None:
                with self.connection.lanes.one() as lane, self.connection.stay_on_lane(lane):
                    server = await self._discover()
                    stream = lane.stream
                    if server.scoring != "none":
                        self._probes = await self._ask_probes(server, server.scoring)
                    if lane.stream is stream:
                        self.connection.trust(lane)
                self._server, self.connection.guard = server, self
        return self._server

    async def vouch(self) -> None:
        """Raises Outage where who answers is not our model; of one that cannot score, nothing is known."""
        server = self._server
        if server is None or server.scoring == "none":
            return
        try:
            apart = distance(await self._ask_probes(server, server.scoring), self._probes)
        except Refused as error:
            raise Outage(f"{self.connection.url} does not answer the probes as it did: {error}") from error
        if apart > self.probe_tolerance:
            self.connection.counts.outages += 1
            raise Outage(another_model(self.identity.model, self.connection.url, apart, self.probe_tolerance))

    async def report_missing(self) -> None:
        """Raises Outage where another model is served by now."""
        name = await self._served_name()
        if self._server is not None and name != self._server.name:
            raise Outage(self._serves([name]))

    async def _ask_probes(self, server: Server, way: str, patient: bool = True) -> list[list[Score]]:
        prompts, continuations = zip(*PROBES, strict=True)
        return await self._api.scores(server, prompts, continuations, way, patient)

    async def _discover(self) -> Server:
        """Finds out which model is served, and which requests the server can answer."""
        name = await self._served_name()
        version = await self._optional("/version", None, lambda raw: str(raw["version"]))
        room = await self._optional("/tokenize", {"model": name, "prompt": "a"}, lambda raw: int(raw["max_model_len"]))
        server = Server(name, version, room, tokenizes=room is not None, many=bool(version), scoring="none")
        if not server.tokenizes and (props := await self._optional("/props", None, _props)) is not None:
            server.llamacpp, server.room, server.slots = props
            if not self.connection.url.endswith("/v1"):  # without it, llama.cpp speaks another API
                raise self._lacks_v1(f"{self.connection.url} is not where llama.cpp speaks OpenAI's API")
            server.tokenizes = True
            self.connection.limiter.cap(server.slots)  # more would wait there, on connections that are all probed
            if await self._try_probes(server, "forced") is not None:
                server.scoring = "forced"
                self.probe_tolerance = max(self.probe_tolerance, FORCED_AGREE)
        elif server.tokenizes:
            reference, trie = [await self._try_probes(server, way) for way in ("prompt_logprobs", "trie")]
            if trie is not None and (reference is None or distance(trie, reference) <= WAYS_AGREE):
                server.scoring = "trie"
            elif reference is not None:
                server.scoring = "prompt_logprobs"
        # Several answers in one request spoil llama.cpp's cache of prompts: what it scores beside and after is wrong.
        if not server.many and not server.llamacpp:
            server.many = await self._gives_many(server)
        return server

    async def _served_name(self) -> str:
        try:
            served = await self.connection.ask("models", None, refuse_malformed(_names))
        except Refused as error:
            lacks = error.status in (200, 404)
            if lacks and self._name_is_given:  # a server that has no list
                return self._names[0]
            if lacks and not self.connection.url.endswith("/v1"):
                raise self._lacks_v1(str(error)) from None
            raise
        for name in self._names:
            if name in served:
                return name
        if len(served) == 1 and not self._name_is_given:
            return served[0]  # by what name, does not matter: the probes say whether it is the one
        raise Outage(self._serves(served))

    def _lacks_v1(self, problem: str) -> WrongSetting:
        url = self.connection.url
        return WrongSetting(f"{problem}; does its address end with /v1, as in lm.url={url}/v1?")

    def _serves(self, names: Sequence[str]) -> str:
        return (
            f"{self.connection.url} serves {', '.join(names) or 'nothing'}, and not {self._names[0]}: start the "
            "server for this model, or say under which name it is served there with lm.served_name=NAME"
        )

    async def _optional(self, path: str, body: Any, read: Callable[[Any], T]) -> T | None:
        """Asks a question that not every server can answer; None where it cannot."""

        def lenient(raw: Any) -> T | None:
            try:
                return read(raw)
            except (KeyError, TypeError, ValueError):
                return None

        try:
            return await self.connection.ask(path, body, lenient, optional=True)
        except Refused:
            return None

    async def _try_probes(self, server: Server, way: str) -> list[list[Score]] | None:
        """The probes in one way to score; None where the server does not know it."""
        for gives_ids in (True, False):
            server.gives_ids = gives_ids
            try:
                return await self._ask_probes(server, way, patient=False)
            except (Refused, BadAnswer):
                continue
        return None

    async def _gives_many(self, server: Server) -> bool:
        """Whether n answers are n draws: some servers give one, or the same one n times."""
        body = {"model": server.name, "prompt": PROBES[0][0], "max_tokens": 16, "temperature": 1.0, "n": 2, "seed": 1}
        read = lambda raw: [str(choice["text"]) for choice in raw["choices"]]  # noqa: E731
        texts = await self._optional("completions", body, read)
        return texts is not None and len(set(texts)) == 2


class VllmLM(OpenAILM):
    """The same, and what it says is kept as vLLM's."""

    engine = "vllm"

    def _hint(self, model: str, url: str) -> str:
        if not is_loopback(url):
            return super()._hint(model, url)
        return f"If none runs, `llmrl serve {model}` starts one, and lm.serve={model} does for as long as the run"


def _kind(server: Server) -> str:
    if server.llamacpp:
        return f"llama.cpp {server.llamacpp}"
    return f"vllm {server.version}" if server.version else "OpenAI-compatible"


def _props(raw: Any) -> tuple[str, int, int]:
    """llama.cpp's properties: its build, the tokens that one answer has room for, and how many answers are computed at
    once.
    """
    room, slots = int(raw["default_generation_settings"]["n_ctx"]), int(raw["total_slots"])
    return str(raw["build_info"]), room, max(1, slots)


def _names(raw: Any) -> list[str]:
    """The names of the models in a server's list. Some servers give them bare, and some null where there are none."""
    return [str(model["id"]) for model in (raw if isinstance(raw, list) else raw["data"] or [])]
