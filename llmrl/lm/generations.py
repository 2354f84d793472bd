"""Free answers of a server: what is asked, what of it a server may refuse, and answers that have no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmrl.lm.http.choices import LACKS, Said, read_said
from llmrl.lm.http.completions import Completions, Server, choices_of
from llmrl.lm.http.connection import Refused
from llmrl.lm.http.loop import together
from llmrl.lm.language_model import Conversation, LanguageModelError, Sampling, WrongSetting, stops

JUDGED = 4  # answers without text, and none with one: that is the model, and not chance
# A text is cut here, too, and a record repeats an answer; a server does the next by itself where they are 1; the last
# has another name.
NEEDLESS = ("stop", "seed", "n", "temperature", "top_p", "max_tokens")


class Generations:
    """Asks one server for free answers. `lacks` counts those without text, by a name of `LACKS`."""

    def __init__(self, api: Completions) -> None:
        self._api = api
        self.lacks = Counter(dict.fromkeys(LACKS, 0))
        self._with_text = 0

    async def sample(
        self, server: Server, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[str]]:
        """An answer without text is "". Raises as `OpenAILM.sample`; and where no answer has a text."""
        await self._stop(server, sampling)  # asked for once, before many wait for it
        found = await together([self._of_prompt(server, p, s, sampling) for p, s in zip(prompts, seeds, strict=True)])
        without = sum(self.lacks.values())
        if without >= JUDGED and not self._with_text:
            name, count = self.lacks.most_common(1)[0]
            lack = LACKS[name]
            raise (WrongSetting if lack.is_setting else LanguageModelError)(
                f"{self._api.connection.url} gave {without} answers, and none has a text: {count} of them each "
                f"{lack.what} (prior.max_tokens or prompt.think_tokens was {sampling.max_tokens}). {lack.mend}"
            )
        return [[said.text for said in some] for some in found]

    async def _of_prompt(self, server: Server, prompt: str, seeds: Sequence[int], sampling: Sampling) -> list[Said]:
        if not seeds:
            return []
        if sampling.temperature == 0:  # all seeds give the likeliest answer, and vLLM then gives only one
            return await self._generate(server, prompt, seeds[0], 1, sampling) * len(seeds)
        runs = list(_runs(seeds)) if server.many else [(seed, 1) for seed in seeds]
        found = await together([self._generate(server, prompt, first, n, sampling) for first, n in runs])
        return [said for some in found for said in some]

    async def _generate(self, server: Server, prompt: str, seed: int, n: int, sampling: Sampling) -> list[Said]:
        """The prompt goes as text: the server makes of it the same tokens that scoring starts from.

        A conversation goes as its tokens. Where the server does not say which they are, it goes to the chat API. A
        parameter that the server refuses is left out from then on, if the answers do not depend on it.
        """
        is_chat = False
        try:
            asked: dict[str, Any] = {"prompt": prompt}
            if isinstance(prompt, Conversation):
                is_chat = not server.tokenizes
                asked = (
                    {"messages": list(prompt.messages)}
                    if is_chat
                    else {"prompt": await self._api.tokenize(server, prompt)}
                )
            asked |= await self._stop(server, sampling)
            while True:
                body = _body(server, asked, seed, n, sampling)
                found = await self._answer(server, body, n, sampling, is_chat, isinstance(prompt, Conversation))
                if found is None:
                    continue
                if "stop" in body and any(said.lack == "cut_short" and said.ended for said in found):
                    server.left_out.add("stop")  # it ended a thought; texts are cut here as well
                    continue
                break
        except Refused:
            if n == 1:
                raise
            server.many = False  # so many at once may be what it declines
            alone = [self._generate(server, prompt, seed + i, 1, sampling) for i in range(n)]
            return [said for some in await together(alone) for said in some]
        for said in found:
            self._count(said)
        return found

    async def _stop(self, server: Server, sampling: Sampling) -> dict[str, Any]:
        """The texts that stop an answer.

        vLLM removes special tokens before it looks for them, and one may be such a text.
        """
        if not (texts := stops(sampling.stop)):
            return {}
        tokens = [await self._api.ids(server, text) for text in texts] if server.tokenizes else []
        ids = [token for some in tokens if len(some) == 1 for token in some]
        return {"stop": list(texts), **({"stop_token_ids": ids} if ids else {})}

    async def _answer(
        self, server: Server, body: Mapping[str, Any], n: int, sampling: Sampling, is_chat: bool, thinks: bool
    ) -> list[Said] | None:
        """None: what the server refused is left out from now on, and it is to be asked again."""

        def read(raw: Any) -> list[Said]:
            self._api.count(raw)
            return [read_said(choice, is_chat, sampling.stop, thinks) for choice in choices_of(raw, n)]

        try:
            return await self._api.ask(body, read, path="chat/completions" if is_chat else "completions")
        except Refused as refused:
            if refused.complaint.filtered:
                return [Said("", "filtered")] * n
            if refused.complaint.unfinished:
                return [Said("", "cut_short", ended=False)] * n
            name = refused.complaint.find_name([k for k in NEEDLESS if k in body and _is_needless(k, body[k])])
            if name is None or (name == "max_tokens" and "max_completion_tokens" not in refused.complaint.words):
                raise
            server.left_out.add(name)
            return None

    def _count(self, said: Said) -> None:
        self._with_text += not said.lack
        if not said.lack:
            return
        self.lacks[said.lack] += 1
        if self.lacks[said.lack] == 1:
            lack = LACKS[said.lack]
            self._api.connection.say(
                f"an answer of {self._api.connection.url} {lack.what}: such answers name no action, and lm/{said.lack} "
                f"of cost.json counts them. {lack.mend}"
            )


def _body(server: Server, asked: Mapping[str, Any], seed: int, n: int, sampling: Sampling) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": server.name,
        **asked,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "n": n,
        "seed": seed,
    }
    if server.version:  # which else takes these from a file beside the weights
        body |= {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    if server.llamacpp:  # which else draws from 40 tokens, and from none that is 20 times less likely than the first
        body |= {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
    if "max_tokens" in server.left_out:
        body["max_completion_tokens"] = sampling.max_tokens
    return {k: value for k, value in body.items() if k not in server.left_out or not _is_needless(k, value)}


def _is_needless(name: str, value: Any) -> bool:
    """Whether answers are the same without it."""
    return value == 1 or name not in ("n", "temperature", "top_p")


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
