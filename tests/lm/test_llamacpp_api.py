"""The client, against a small server of ours that speaks llama.cpp's API; tests/llamacpp has a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from fixture_lm import ACTIONS, PROMPTS
from own_time import OwnTime
from small_llamacpp import SmallLlamaCpp
from small_server import ModelBackend

from llmrl.lm.language_model import Conversation, LanguageModelError, Outage, Sampling, WrongSetting, distance
from llmrl.lm.openai_lm import OpenAILM
from llmrl.lm.transformers_lm import TransformersLM

TEXTS = [f" {action}\n" for action in ACTIONS]
Client = Callable[..., OpenAILM]


@pytest.fixture(scope="module")
def lm(llama_folder: str) -> TransformersLM:
    return TransformersLM(llama_folder, device="cpu", threads=1)


@pytest.fixture
def server(lm: TransformersLM) -> Iterator[SmallLlamaCpp]:
    with SmallLlamaCpp(ModelBackend(lm, name="small.gguf")) as server:
        yield server


@pytest.fixture
def client(server: SmallLlamaCpp) -> Iterator[Client]:
    made: list[OpenAILM] = []

    def make(**settings: Any) -> OpenAILM:
        about: dict[str, Any] = {"url": server.url, "dtype": "float32", "tokenizer": "unknown", "clock": OwnTime()}
        made.append(OpenAILM("small", **{**about, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_scores_are_those_of_the_model_itself(lm: TransformersLM, client: Client) -> None:
    served = client()
    menus = [TEXTS[i:] for i in range(len(PROMPTS))]
    assert distance(served.score(PROMPTS, menus), lm.score(PROMPTS, menus)) < 1e-4
    assert served.provenance["scoring"] == "forced"
    assert served.provenance["server"] == "llama.cpp b1-small"


def test_a_conversation_is_put_into_the_servers_own_template(
    lm: TransformersLM, server: SmallLlamaCpp, client: Client
) -> None:
    said = Conversation([{"role": "user", "content": PROMPTS[0]}], "small")
    lm.tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}[assistant]"
    served = client()
    assert distance(served.score([said], [TEXTS]), lm.score([said], [TEXTS])) < 1e-4


def test_every_token_is_asked_for_once_and_those_of_one_prompt_follow_each_other(
    lm: TransformersLM, server: SmallLlamaCpp, client: Client
) -> None:
    """A server with one slot would else compute each prompt again for each token."""
    server.slots = 1
    served = client(concurrency=1)
    served.score(PROMPTS[:3], [TEXTS] * 3)
    server.seen.clear()
    served.score(PROMPTS[:3], [TEXTS] * 3)
    starts = [tuple(lm.texts.prompts([prompt])[0]) for prompt in PROMPTS[:3]]
    owners = [next(i for i, s in enumerate(starts) if tuple(body["prompt"][: len(s)]) == s) for body in server.seen]
    asked = [(*body["prompt"], body["logit_bias"][0][0]) for body in server.seen]
    assert sum(a != b for a, b in pairwise(owners)) == 2
    assert len(set(asked)) == len(asked)


def test_no_more_connections_are_opened_and_probed_than_the_server_has_slots(
    server: SmallLlamaCpp, client: Client
) -> None:
    served = client()
    served.sample(PROMPTS, [range(3)] * len(PROMPTS), Sampling(max_tokens=4))
    assert served.connection.limiter.peak <= served.connection.opened <= server.slots


def test_an_address_without_v1_is_named(server: SmallLlamaCpp, client: Client) -> None:
    """llama.cpp has a list of models there, too, and completions of another form."""
    without = server.url.removesuffix("/v1")
    server.instead = lambda path, body: server.answer("/v1/models", None) if path == "/models" else None
    with pytest.raises(WrongSetting, match=f"lm.url={without}/v1"):
        client(url=without).probe()


def test_a_server_whose_log_probabilities_are_those_with_the_bias_cannot_score(
    server: SmallLlamaCpp, client: Client
) -> None:
    server.biases = True
    served = client()
    with pytest.raises(LanguageModelError, match="cannot score actions"):
        served.score(PROMPTS[:1], [TEXTS])


def test_a_server_that_answers_a_little_otherwise_each_time_is_the_same_model(
    lm: TransformersLM, server: SmallLlamaCpp, client: Client
) -> None:
    server.noise = 0.001  # a token: a probe is 0.028 nats apart
    served = client()
    for _ in range(2):
        served.score(PROMPTS, [TEXTS] * len(PROMPTS))  # on several connections, on each of which it is probed
    assert served.connection.opened > 1
    assert served.counters()["lm/outages"] == 0


def test_a_server_that_answers_as_another_quantisation_would_is_another_model(
    lm: TransformersLM, server: SmallLlamaCpp, client: Client
) -> None:
    server.noise = 0.01
    served = client()
    with pytest.raises(Outage, match=r"0\.28 nats apart, and 0\.05 are allowed"):
        served.score(PROMPTS, [TEXTS] * len(PROMPTS))  # on a second connection


def test_answers_are_drawn_from_all_tokens_and_asked_for_one_by_one(
    lm: TransformersLM, server: SmallLlamaCpp, client: Client
) -> None:
    served, sampling = client(), Sampling(max_tokens=8)
    served.probe()
    server.seen.clear()
    assert served.sample(PROMPTS[:1], [[7, 8, 9]], sampling) == lm.sample(PROMPTS[:1], [[7, 8, 9]], sampling)
    asked = [body for body in server.seen if "seed" in body]
    assert sorted((body["seed"], body["n"]) for body in asked) == [(7, 1), (8, 1), (9, 1)]
    assert {(body["top_k"], body["min_p"], body["repeat_penalty"]) for body in asked} == {(0, 0.0, 1.0)}
