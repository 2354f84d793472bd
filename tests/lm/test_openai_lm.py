"""The client, against a small server of ours. tests/vllm holds it against a real one."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from balancer import Balancer
from fixture_lm import ACTIONS, PROMPTS, build_llama
from hypothesis import given, settings
from hypothesis import strategies as st
from own_time import OwnTime
from small_server import FAULTS, ModelBackend, SmallServer

from llmrl.core.secrets import without_secrets
from llmrl.lm.http import connection
from llmrl.lm.http.address import check_url
from llmrl.lm.http.limiter import Limiter
from llmrl.lm.http.token_trie import MOST_IDS, MOST_ROWS, Row, requests, total, trie_nodes
from llmrl.lm.language_model import PROBES, LanguageModelError, ModelIdentity, Outage, Sampling, Score, distance
from llmrl.lm.openai_lm import OpenAILM, VllmLM
from llmrl.lm.transformers_lm import TransformersLM

TEXTS = [f" {action}\n" for action in ACTIONS]
SAMPLING = Sampling(max_tokens=8)
Client = Callable[..., OpenAILM]


@pytest.fixture(scope="module")
def lm(llama_folder: str) -> TransformersLM:
    return TransformersLM(llama_folder, device="cpu", threads=1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> TransformersLM:
    """Of the same name, with other weights."""
    return TransformersLM(build_llama(tmp_path_factory.mktemp("other") / "small-llama", seed=1), device="cpu")


@pytest.fixture(scope="module")
def backend(lm: TransformersLM) -> ModelBackend:
    return ModelBackend(lm)


@pytest.fixture
def server(backend: ModelBackend) -> Iterator[SmallServer]:
    backend.name = "small-llama"
    with SmallServer(backend) as server:
        yield server


@pytest.fixture(scope="module")
def scores(lm: TransformersLM) -> list[list[Score]]:
    return lm.score(PROMPTS, [TEXTS] * 4)


@pytest.fixture(scope="module")
def samples(lm: TransformersLM) -> list[list[str]]:
    return lm.sample(PROMPTS, [[1, 2]] * 4, SAMPLING)


@pytest.fixture
def time() -> OwnTime:
    return OwnTime()


@pytest.fixture
def client(llama_folder: str, server: SmallServer, time: OwnTime) -> Iterator[Client]:
    made: list[OpenAILM] = []

    def make(kind: type[OpenAILM] = VllmLM, **settings: Any) -> OpenAILM:
        about: dict[str, Any] = {"url": server.url, "dtype": "float32", "clock": time, **settings}
        made.append(kind(about.pop("model", llama_folder), **about))
        return made[-1]

    yield make
    for one in made:
        one.close()


# ---- what it answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "way"),
    [((), "trie"), (("return_token_ids",), "trie"), (("logprob_token_ids",), "prompt_logprobs")],
)
def test_scores_are_those_of_the_model_itself(
    lm: TransformersLM, server: SmallServer, client: Client, without: tuple[str, ...], way: str
) -> None:
    server.without = frozenset(without)
    served = client()
    menus = [TEXTS[i:] for i in range(len(PROMPTS))]
    assert distance(served.score(PROMPTS, menus), lm.score(PROMPTS, menus)) < 1e-4
    assert served.provenance["scoring"] == way
    assert served.counters()["lm/outages"] == 0
    assert served.score(["Next:"], [[]]) == [[]]


def test_both_ways_to_score_agree(client: Client) -> None:
    served = client()
    assert distance(served.score(PROMPTS[:2], [TEXTS] * 2), served.score_reference(PROMPTS[:2], [TEXTS] * 2)) < 1e-4


def test_answers_are_the_generations_of_their_seeds(lm: TransformersLM, client: Client) -> None:
    """The small server gives answer i the seed plus i, as vLLM does."""
    seeds = [[7, 8, 9], [2**48 + 5], [], [1, 5, 6]]
    assert client().sample(PROMPTS, seeds, SAMPLING) == lm.sample(PROMPTS, seeds, SAMPLING)


def test_seeds_that_follow_each_other_are_one_request(server: SmallServer, client: Client) -> None:
    served = client()
    served.score(PROMPTS[:1], [TEXTS[:1]])
    server.seen.clear()
    served.sample(PROMPTS[:1], [[7, 8, 9, 20]], SAMPLING)
    asked = sorted((body["seed"], body["n"], body["stop"]) for body in server.seen if "seed" in body)
    assert asked == [(7, 3, ["\n"]), (20, 1, ["\n"])]


def test_a_server_that_gives_one_answer_is_asked_for_each(
    lm: TransformersLM, server: SmallServer, client: Client
) -> None:
    server.without = frozenset({"n", "version", "tokenize"})
    served = client(OpenAILM)
    assert served.sample(PROMPTS[:2], [[3, 4], [5]], SAMPLING) == lm.sample(PROMPTS[:2], [[3, 4], [5]], SAMPLING)
    assert {body["n"] for body in server.seen[1:]} == {1}
    assert "top_k" not in server.seen[-1]  # which only vLLM knows


def test_the_likeliest_answer_is_asked_for_once(lm: TransformersLM, server: SmallServer, client: Client) -> None:
    sampling = Sampling(max_tokens=8, temperature=0)
    (texts,) = client().sample(PROMPTS[:1], [[1, 2, 3]], sampling)
    assert texts == lm.sample(PROMPTS[:1], [[1, 2, 3]], sampling)[0]
    assert server.seen[-1]["n"] == 1


def test_a_server_that_cannot_score_says_so(server: SmallServer, client: Client) -> None:
    server.without = frozenset({"tokenize"})
    served = client()
    assert len(served.sample(PROMPTS[:1], [[1]], SAMPLING)) == 1
    with pytest.raises(LanguageModelError, match=r"cannot score actions: use prior=generated, a vLLM"):
        served.score(PROMPTS[:1], [TEXTS])


@pytest.mark.parametrize(
    ("prompt", "texts", "message"),
    [
        ("Next:" * 500, TEXTS, "more than the 1024 that the server"),
        ("Next:", [""], "has no tokens"),
    ],
)
def test_what_cannot_be_asked_is_not(client: Client, prompt: str, texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        client().score([prompt], [texts])


# ---- the trie --------------------------------------------------------------------------------------------------------

tokens = st.lists(st.integers(0, 400), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(st.lists(tokens, min_size=1, max_size=150), min_size=1, max_size=3))
def test_every_token_is_asked_about_exactly_once_and_no_request_names_too_many(menus: list[list[list[int]]]) -> None:
    rows = [Row(i, node) for i, menu in enumerate(menus) for node in trie_nodes(menu)]
    tables: list[dict[tuple[int, ...], dict[int, float]]] = [{} for _ in menus]
    depths = []
    for some in requests(rows):
        assert len(some) <= MOST_ROWS
        assert len({token for row in some for token in row.node.ids}) <= MOST_IDS
        for prompt, node in some:
            assert not tables[prompt].setdefault(node.before, {}).keys() & set(node.ids)
            tables[prompt][node.before].update({token: -token - len(node.before) / 8 for token in node.ids})
            depths.append(len(node.before))
    assert depths == sorted(depths)
    for menu, table in zip(menus, tables, strict=True):
        for c in menu:
            assert total(table, c) == pytest.approx(sum(-t - i / 8 for i, t in enumerate(c)))
        assert sum(map(len, table.values())) == len({tuple(c[: i + 1]) for c in menu for i in range(len(c))})


# ---- when it fails ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_becomes_a_score_or_an_answer(
    scores: list[list[Score]],
    samples: list[list[str]],
    server: SmallServer,
    client: Client,
    time: OwnTime,
    fault: str,
) -> None:
    served = client()
    server.on_stall = time.expire
    served.score(PROMPTS[:1], [TEXTS[:1]])  # connected
    server.misbehave(fault, times=3, after=1)
    assert distance(served.score(PROMPTS, [TEXTS] * 4), scores) < 1e-4
    in_answers = fault not in ("missing token", "too likely")
    server.misbehave(fault, times=2 if in_answers else 0)
    assert served.sample(PROMPTS, [[1, 2]] * 4, SAMPLING) == samples
    assert server.faulted[fault] == (5 if in_answers else 3)
    # What stalls may take down what runs beside it, which is counted, too.
    assert served.counters()["lm/outages"] == pytest.approx(server.faulted[fault], abs=40 if fault == "stall" else 0)
    assert len(time.waits) == served.counters()["lm/outages"]
    if fault.isdecimal():
        assert min(time.waits) >= 7  # as the server asked


@pytest.mark.parametrize("fault", ["reset", "500", "malformed", "stall"])
def test_a_fault_while_connecting_is_no_lack_of_the_server(
    server: SmallServer, client: Client, time: OwnTime, fault: str
) -> None:
    server.on_stall = time.expire
    server.misbehave(fault, times=4, everywhere=True)
    served = client()
    served.score(PROMPTS[:1], [TEXTS])
    assert served.provenance["scoring"] == "trie"
    assert served.provenance["server"] == "vllm 0.0.small"
    assert served.counters()["lm/outages"] >= 4


def test_what_is_waited_for_is_said_at_once_and_then_now_and_again(
    server: SmallServer, client: Client, time: OwnTime
) -> None:
    said: list[str] = []
    server.stop()
    served = client()
    served.hear(said.append)
    with pytest.raises(Outage, match=r"600 s of trying; at last: ConnectError.*`llmrl serve .*` starts one"):
        served.probe()
    assert said[0].startswith(f"waiting for {served.connection.url}: ConnectError")
    assert "; 0 s of 600 s. If none runs, `llmrl serve" in said[0]
    assert 10 <= len(said) <= 21
    server.start()
    served.probe()
    said.clear()
    time.time += 31
    server.misbehave("429", times=3)
    served.sample(PROMPTS[:1], [[1]], SAMPLING)
    assert len(said) == 1
    assert "llmrl serve" not in said[0]


def test_patience_begins_with_the_first_fault_and_not_in_the_queue(
    server: SmallServer, client: Client, time: OwnTime
) -> None:
    served = client(concurrency=1)
    served.probe()
    answer, asked = server.answer, []

    def slowly(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        if body is not None and "seed" in body:
            time.time += 100
            asked.append(body["prompt"])
            if len(asked) == 8:
                return 503, {"error": {"message": "busy"}}
        return answer(path, body)

    server.answer = slowly  # type: ignore[method-assign]
    assert len(served.sample([f"{i} Next:" for i in range(10)], [[1]] * 10, SAMPLING)) == 10
    assert len(time.waits) == 1
    assert asked[8:10].count(asked[7]) == 1 or asked[9] == asked[7]  # before those whose time has not begun


def test_who_always_answers_something_else_is_named(server: SmallServer, client: Client) -> None:
    served = client()
    served.probe()
    server.misbehave("too few", times=10**4)
    with pytest.raises(Outage, match=r"answered \d+ times in 600 s of trying, and never as asked: .*0 answers"):
        served.sample(PROMPTS[:1], [[1]], SAMPLING)


def test_what_takes_too_long_is_asked_in_halves(
    server: SmallServer, client: Client, time: OwnTime, scores: list[list[Score]]
) -> None:
    served = client()
    served.probe()
    server.on_stall = time.expire
    most = max(len(body["prompt"]) for body in server.seen if isinstance(body["prompt"], list))  # of the probes
    rows: list[int] = []

    def spoil(path: str, body: dict[str, Any] | None) -> str:
        if body is None or not isinstance(body.get("prompt"), list):
            return ""
        rows.append(len(body["prompt"]))
        return "stall" if rows[-1] > most else ""

    server.spoil = spoil
    assert distance(served.score(PROMPTS, [TEXTS] * 4), scores) < 1e-4
    assert max(rows) > most >= rows[-1]


@pytest.mark.parametrize("how", ["501", "505", "html"])
def test_what_a_server_lacks_does_not_keep_anybody_waiting(
    server: SmallServer, client: Client, time: OwnTime, how: str
) -> None:
    server.lacks = {"/version": how, "/tokenize": how}
    served = client(OpenAILM)
    assert len(served.sample(PROMPTS[:1], [[1]], SAMPLING)) == 1
    assert served.provenance["server"] == "OpenAI-compatible"
    assert time.waits == []


def test_an_address_without_its_end_is_said_to_be(server: SmallServer, client: Client) -> None:
    with pytest.raises(LanguageModelError, match=r"does its address end with /v1, as in lm\.url=http\S+/v1\?"):
        client(url=server.url.removesuffix("/v1")).probe()


def test_a_server_of_ours_that_has_ended_is_not_waited_for(
    server: SmallServer, client: Client, time: OwnTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = client()
    served.probe()
    monkeypatch.setitem(connection.ended, server.url, lambda: "vLLM ended by itself; its log is here")
    server.misbehave("429")
    with pytest.raises(Outage, match="its log is here"):
        served.sample(PROMPTS[:1], [[1]], SAMPLING)
    assert time.waits == []


def test_a_server_that_is_down_for_a_minute_is_waited_for(
    scores: list[list[Score]], server: SmallServer, client: Client, time: OwnTime
) -> None:
    served = client()
    served.score(PROMPTS[:1], [TEXTS[:1]])
    server.stop()

    def on_wait(now: float) -> None:
        if now >= 60 and server._http is None:
            server.start()

    time.on_wait = on_wait
    assert distance(served.score(PROMPTS, [TEXTS] * 4), scores) < 1e-4
    assert time.time >= 60
    assert served.counters()["lm/outages"] == len(time.waits) > 3


def test_what_is_asked_when_a_client_is_closed_is_not_asked_again(
    server: SmallServer, client: Client, time: OwnTime
) -> None:
    asked = threading.Event()
    server.on_stall = asked.set
    served = client()
    served.probe()
    server.misbehave("stall")
    served.start_score(PROMPTS, [TEXTS] * 4)
    assert asked.wait(60)
    served.close()
    assert served.counters()["lm/outages"] == 0
    assert not time.waits


def test_patience_ends(server: SmallServer, client: Client, time: OwnTime) -> None:
    served = client()
    served.score(PROMPTS[:1], [TEXTS[:1]])
    server.stop()
    with pytest.raises(Outage, match=r"gave no answer in 600 s of trying; at last: ConnectError"):
        served.sample(PROMPTS[:1], [[1]], SAMPLING)
    assert sum(time.waits) == pytest.approx(600)
    assert max(time.waits) <= 30
    server.start()  # and what was asked may be asked again
    served.sample(PROMPTS[:1], [[1]], SAMPLING)


def test_waits_grow_and_are_not_alike(server: SmallServer, client: Client, time: OwnTime) -> None:
    server.stop()
    with pytest.raises(Outage):
        client().probe()
    assert max(time.waits[:3]) <= 2
    assert max(time.waits) > 10
    assert len(set(time.waits)) == len(time.waits)


# ---- who answers -----------------------------------------------------------------------------------------------------


def test_another_model_under_the_same_name_is_noticed_and_nothing_it_says_is_used(
    backend: ModelBackend, other: TransformersLM, server: SmallServer, client: Client
) -> None:
    served = client()
    before = served.score(PROMPTS[:2], [TEXTS] * 2)
    server.stop()
    server.backend = ModelBackend(other)
    server.start()
    with pytest.raises(Outage, match="answers as another model than small-llama did before"):
        served.score(PROMPTS[2:], [TEXTS] * 2)
    with pytest.raises(Outage):
        served.sample(PROMPTS[2:], [[1], [1]], SAMPLING)
    server.stop()
    server.backend = backend
    server.start()
    assert served.score(PROMPTS[:2], [TEXTS] * 2) == before


def test_a_swap_between_two_attempts_is_noticed(
    other: TransformersLM, server: SmallServer, client: Client, time: OwnTime
) -> None:
    served = client()
    served.score(PROMPTS[:1], [TEXTS])

    def swap(_: float) -> None:
        server.backend = ModelBackend(other)

    time.on_wait = swap
    server.misbehave("503", after=2)
    with pytest.raises(Outage, match="another model"):
        served.score(PROMPTS, [TEXTS] * 4)


def test_probes_are_asked_once_more_only_where_a_connection_was_opened(server: SmallServer, client: Client) -> None:
    served = client(concurrency=1)
    served.score(PROMPTS[:1], [TEXTS[:1]])
    before = len(server.seen)
    served.score(PROMPTS, [TEXTS[:1]] * len(PROMPTS))
    assert len(server.seen) - before == 2  # the nodes at all prompts, and those below
    assert served.connection.opened == 1


def test_each_connection_behind_a_balancer_is_probed_itself(
    other: TransformersLM, server: SmallServer, client: Client, samples: list[list[str]]
) -> None:
    with SmallServer(other) as replica, Balancer([server.port, replica.port], lambda n: n == 3) as balancer:
        served = client(url=balancer.url)
        with pytest.raises(Outage, match="another model"):  # whichever of them came along the fourth connection
            served.sample([*PROMPTS, *PROMPTS], [[1, 2]] * 8, SAMPLING)
        assert balancer.connections >= 4
        assert any("seed" in body for body in replica.seen)
    with SmallServer(server.backend) as replica, Balancer([server.port, replica.port], lambda n: n % 2) as balancer:
        served = client(url=balancer.url)
        assert served.sample(PROMPTS, [[1, 2]] * 4, SAMPLING) == samples
        for one in (server, replica):  # each connection to either was probed, once
            probes = sum(isinstance(body["prompt"], list) and "seed" not in body for body in one.seen)
            assert probes >= 2
        assert served.counters()["lm/outages"] == 0


def test_a_connection_that_ends_before_it_is_probed_gives_no_answer(
    server: SmallServer, client: Client, samples: list[list[str]], time: OwnTime
) -> None:
    served = client(concurrency=1)
    served.sample(["a"], [[1]], SAMPLING)  # it knows the tokens of the stop text by now
    asked: list[str] = []

    def cut_the_first(path: str, body: dict[str, Any] | None) -> str:
        if body is not None and "seed" in body:
            asked.append(body["prompt"])
            server.close_after = len(asked) == 1
        return ""

    server.spoil = cut_the_first
    server.stop()
    server.start()  # so that the next answer comes on another connection
    assert served.sample(PROMPTS, [[1, 2]] * 4, SAMPLING) == samples
    assert len(asked) == 5
    assert asked.count(asked[0]) == 2
    assert served.counters()["lm/outages"] == len(time.waits) > 0


def test_what_is_not_found_any_more_is_asked_again_unless_another_model_is_served(
    backend: ModelBackend, server: SmallServer, client: Client, time: OwnTime, samples: list[list[str]]
) -> None:
    served = client()
    served.probe()
    server.misbehave("404", times=2)
    assert served.sample(PROMPTS, [[1, 2]] * 4, SAMPLING) == samples
    assert served.counters()["lm/outages"] == len(time.waits) == 2
    backend.name = "another"
    for ask in (
        lambda: served.sample(PROMPTS[:1], [[1]], SAMPLING),
        lambda: served.score(PROMPTS[:1], [[" something else"]]),
    ):
        with pytest.raises(Outage, match=r"serves another, and not .*small-llama: start the server for this model"):
            ask()
    assert len(time.waits) == 2


def test_a_model_of_another_name_is_not_asked(server: SmallServer, client: Client) -> None:
    server.backend.name = "another"
    with pytest.raises(Outage, match=r"serves another, and not small-llama: .* lm\.served_name=NAME"):
        client(served_name="small-llama").probe()
    assert client().probe()  # the only one there: the probes say whether it is the right one
    assert client(served_name="another").probe()


def test_a_declared_model_needs_no_files(server: SmallServer, client: Client, lm: TransformersLM) -> None:
    served = client(model="small-llama", tokenizer="theirs", revision="7")
    assert served.identity == ModelIdentity("small-llama", "7", "float32", "theirs")
    assert distance(served.probe(), lm.score([p for p, _ in PROBES], [c for _, c in PROBES])) < 1e-4


# ---- keys and addresses ----------------------------------------------------------------------------------------------


def test_a_key_is_shown_to_the_server_and_to_nobody_else(
    server: SmallServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "correct-horse-battery"
    monkeypatch.setenv("MY_KEY", "correct-horse-battery")
    assert client(api_key_env="MY_KEY").probe()
    monkeypatch.setenv("MY_KEY", "wrong-horse-battery")
    with pytest.raises(Outage, match=r"wants another key .*put the right one into \$MY_KEY") as error:
        client(api_key_env="MY_KEY").probe()
    assert "wrong-horse" not in str(error.value)
    with pytest.raises(Outage, match=r"lm\.api_key_env=NAME"):
        client().probe()
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ValueError, match="export MY_KEY"):
        client(api_key_env="MY_KEY")


@pytest.mark.parametrize("key", ["in two\nlines-1234", "bell-\x07-1234", "euro-\u20ac-1234", "two words-1234"])
def test_what_no_header_carries_is_no_key(client: Client, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ValueError, match=r"lm\.api_key_env=MY_KEY: .* is no key") as error:
        client(api_key_env="MY_KEY")
    assert "1234" not in str(error.value)


def test_what_could_not_be_sent_is_not_shown(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.lm.http.connection.read_key", lambda name: "first-line\nsecond-line")
    with pytest.raises(Outage, match="LocalProtocolError") as error:
        client().probe()
    assert "line" not in str(error.value)


def test_a_key_is_no_part_of_any_message_whatever_its_variable_is_called(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", "correct-horse")
    client(api_key_env="THEIR_KEY")
    assert without_secrets("it was correct-horse, and not EMPTY") == "it was $THEIR_KEY, and not EMPTY"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://10.0.0.7:8000/v1", r"lm\.allow_http=true"),
        ("http://example.com/v1", r"lm\.allow_http=true"),
        ("ftp://127.0.0.1/v1", "has to be a server's address"),
        ("127.0.0.1:8000", "has to be a server's address"),
        ("http://127.0.0.1:port/v1", "has to be a server's address"),
        ("http://[::1/v1", "has to be a server's address"),
        ("http://127.0.0.1:80 00/v1", "has to be a server's address"),
    ],
)
def test_addresses_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_url(url, allow_http=False)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1", "http://localhost/v1", "http://[::1]:8/v1", "https://a.org/v1"]
)
def test_addresses_that_are_taken(url: str) -> None:
    check_url(url, allow_http=False)
    check_url("http://10.0.0.7:8000/v1", allow_http=True)


# ---- how many at once ------------------------------------------------------------------------------------------------


def test_the_number_of_requests_grows_until_a_complaint_and_halves_once_for_those_that_ran_together() -> None:
    async def work() -> None:
        limiter = Limiter(100)
        for _ in range(20):
            async with limiter.slot() as slot:
                slot.count_success()
        assert limiter.limit == 36
        slots = [await limiter.enter() for _ in range(30)]
        for slot in slots[:10]:
            slot.count_overload()
        assert limiter.limit == 18
        for slot in slots[10:]:
            slot.count_success()
        assert 19 < limiter.limit < 20
        waiting = asyncio.ensure_future(limiter.enter())
        for _ in range(11):
            limiter.leave()
            await asyncio.sleep(0)
            assert not waiting.done()
        limiter.leave()
        await waiting
        assert limiter.running == 19

    asyncio.run(work())


def test_a_server_that_complains_is_asked_less(server: SmallServer, client: Client) -> None:
    served = client()
    served.probe()
    before = served.connection.limiter.limit
    server.misbehave("429", times=3)
    served.score(PROMPTS, [TEXTS] * 4)
    assert served.connection.limiter.limit < before
    assert math.isfinite(served.connection.limiter.limit)
    assert served.connection.limiter.running == 0


def test_no_more_requests_than_allowed(server: SmallServer, client: Client) -> None:
    served = client(concurrency=2)
    served.score(PROMPTS, [TEXTS] * 4)
    assert served.connection.limiter.peak <= 2
    assert len(server._http.connections if server._http else []) <= 2


def test_a_model_that_cannot_be_looked_at_has_to_be_declared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lm\.revision=COMMIT and lm\.tokenizer=NAME"):
        VllmLM(str(tmp_path / "none"), url="http://127.0.0.1:1/v1")
