"""Free answers of servers that are not vLLM's: what they refuse, what has no text, what is not asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from own_time import OwnTime
from small_server import SmallServer

from llmrl.lm.language_model import Conversation, LanguageModelError, Outage, Sampling, WrongSetting
from llmrl.lm.openai_lm import OpenAILM

ASKED = Conversation([{"role": "user", "content": "Where to?"}], "")
SAMPLING = Sampling(max_tokens=16, stop="<|im_end|>")


class Nobody:
    """What stands behind a server whose answers a test gives."""

    name, room = "thinker", 100


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with SmallServer(Nobody()) as server:  # type: ignore[arg-type]
        server.without = frozenset({"version", "tokenize"})
        server.lacks = {"/v1/completions": "404"}
        yield server


@pytest.fixture
def time() -> OwnTime:
    return OwnTime()


@pytest.fixture
def client(server: SmallServer, time: OwnTime) -> Iterator[OpenAILM]:
    lm = OpenAILM("thinker", url=server.url, dtype="unknown", tokenizer="unknown", clock=time)
    yield lm
    lm.close()


def answered(content: Any, reason: str = "stop", **message: Any) -> tuple[int, Any]:
    message = {"role": "assistant", "content": content, **message}
    return 200, {"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": None}


def declined(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> tuple[int, Any]:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return status, {"error": error}


def chats(server: SmallServer, say: Callable[[dict[str, Any]], tuple[int, Any]]) -> list[dict[str, Any]]:
    """The chat API answers so; what it was asked."""
    asked: list[dict[str, Any]] = []

    def instead(path: str, body: dict[str, Any] | None) -> tuple[int, Any] | None:
        if path != "/v1/chat/completions" or body is None:
            return None
        asked.append(body)
        return say(body)

    server.instead = instead
    return asked


# ---- answers without text --------------------------------------------------------------------------------------------


def test_a_model_that_thinks_until_its_tokens_are_used_up_ends_at_once_and_names_what_to_set(
    server: SmallServer, client: OpenAILM, time: OwnTime
) -> None:
    chats(server, lambda _: answered(None, "length", reasoning_content="Okay, the user"))
    with pytest.raises(
        WrongSetting, match=r"none has a text: 4 of them .* was 16\)\. Allow more with prior\.max_to"
    ) as e:
        client.sample([ASKED, ASKED], [[1, 2], [3, 4]], SAMPLING)
    assert "max_completion_tokens" in str(e.value)
    assert (e.value.exit_code, isinstance(e.value, Outage), time.waits) == (2, False, [])
    assert client.counters()["lm/cut_short"] == 4


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (answered(None, "length"), "cut_short"),
        (answered(None, "content_filter"), "filtered"),
        (
            declined("The response was filtered due to the prompt triggering ...", "prompt", "content_filter"),
            "filtered",
        ),
        (answered(None, refusal="I cannot help with that."), "refused"),
        (answered(None, "tool_calls", tool_calls=[{}]), "tool_calls"),
        (answered(None), "empty"),
        (declined("Could not finish the message because max_tokens or model output limit was reached."), "cut_short"),
    ],
)
def test_single_answers_without_text_are_counted_by_their_name_and_said_once(
    server: SmallServer, client: OpenAILM, time: OwnTime, reply: tuple[int, Any], name: str
) -> None:
    said: list[str] = []
    client.hear(said.append)
    chats(server, lambda body: reply if body["seed"] % 2 else answered("go left"))
    texts = ["go left" if seed % 2 == 0 else "" for seed in range(12)]
    assert client.sample([ASKED], [list(range(12))], SAMPLING) == [texts]
    counters = client.counters()
    assert {key for key in counters if counters[key] and key.removeprefix("lm/") in ("filtered", name)} == {
        f"lm/{name}"
    }
    assert counters[f"lm/{name}"] == 6
    assert counters["lm/outages"] == 0
    assert len(said) == 1
    assert f"lm/{name} of cost.json" in said[0]
    assert time.waits == []


def test_a_filter_that_withholds_everything_ends_the_run_too(server: SmallServer, client: OpenAILM) -> None:
    chats(server, lambda _: answered(None, "content_filter"))
    with pytest.raises(LanguageModelError, match="withheld by a filter") as error:
        client.sample([ASKED], [[1, 2, 3, 4]], SAMPLING)
    assert not isinstance(error.value, Outage | WrongSetting)


def test_the_likeliest_answer_is_one_and_not_as_many_as_were_wanted(server: SmallServer, client: OpenAILM) -> None:
    chats(server, lambda _: answered(None, "length"))
    assert client.sample([ASKED], [[1, 2, 3, 4, 5]], Sampling(16, 0, stop="")) == [[""] * 5]
    assert client.counters()["lm/cut_short"] == 1


def test_a_stop_text_that_ended_a_thought_is_not_sent_again(server: SmallServer, client: OpenAILM) -> None:
    def say(body: dict[str, Any]) -> tuple[int, Any]:
        if "stop" in body:
            return answered(None, "stop", reasoning="The user wants")
        return answered("\ngo left\nor not", "stop", reasoning="The user wants\nto go")

    asked = chats(server, say)
    assert client.sample([ASKED], [[1]], Sampling(16, stop="\n")) == [["go left"]]
    assert client.sample([ASKED], [[2]], Sampling(16, stop="\n")) == [["go left"]]
    assert ["stop" in body for body in asked] == [True, False, False]
    assert client.counters()["lm/cut_short"] == 0
    assert client.provenance["left_out"] == "stop"


def test_a_thought_among_the_tokens_of_a_conversation_is_no_part_of_the_answer(
    server: SmallServer, client: OpenAILM
) -> None:
    def instead(path: str, body: dict[str, Any] | None) -> tuple[int, Any] | None:
        if path == "/tokenize":
            return 200, {"tokens": [1, 2], "max_model_len": 100}
        if path == "/v1/completions":
            return 200, {"choices": [{"text": "<think>\nright?\n</think>\n\ngo left", "finish_reason": "stop"}]}
        return None

    server.lacks, server.instead = {}, instead
    assert client.sample([ASKED], [[1]], SAMPLING) == [["go left"]]


# ---- what a server refuses -------------------------------------------------------------------------------------------

NOT_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("max_tokens", declined(NOT_MAX_TOKENS, "max_tokens", "unsupported_parameter")),
        ("max_tokens", declined(NOT_MAX_TOKENS, code="invalid_request_body")),
        ("stop", declined("Unsupported parameter: 'stop' is not supported with this model.", "stop")),
        ("stop", (400, {"code": "an invalid argument", "error": "Argument not supported on this model: stop"})),
        ("stop", (400, {"code": "an invalid argument", "error": "Model grok-4 does not support parameter stop."})),
        ("seed", (422, {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "input": 1}]}})),
        ("seed", (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs", "input": {"top_p": 1, "n": 1}}]})),
        ("temperature", declined("Unsupported parameter: 'temperature' is not supported with this model.")),
        ("temperature", declined("`temperature` and `top_p` cannot both be specified for this model.")),
        (
            "n",
            (200, {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "no 'n' here"}}}),
        ),
    ],
)
def test_what_a_server_refuses_is_left_out_once_and_for_all_where_no_answer_depends_on_it(
    server: SmallServer, client: OpenAILM, time: OwnTime, name: str, refusal: tuple[int, Any]
) -> None:
    asked = chats(server, lambda body: refusal if name in body else answered("go left<|im_end|>ed"))
    assert client.sample([ASKED], [[1]], SAMPLING) == [["go left"]]
    assert client.sample([ASKED], [[2]], SAMPLING) == [["go left"]]
    assert [name in body for body in asked] == [True, False, False]
    assert all(set(a) - set(b) == {name} for a, b in [asked[:2]])
    assert [body.get("max_completion_tokens") for body in asked[1:]] == [16 if name == "max_tokens" else None] * 2
    assert (time.waits, client.counters()["lm/outages"]) == ([], 0)
    assert client.provenance["left_out"] == name


def test_what_was_left_out_is_sent_where_an_answer_depends_on_it(server: SmallServer, client: OpenAILM) -> None:
    refusal = declined("`temperature` and `top_p` cannot both be specified for this model.")
    asked = chats(server, lambda body: refusal if {"temperature", "top_p"} <= body.keys() else answered("go left"))
    client.sample([ASKED], [[1]], SAMPLING)
    assert "temperature" not in asked[-1]
    client.sample([ASKED], [[1]], Sampling(16, temperature=0.5))
    assert (asked[-1]["temperature"], "top_p" in asked[-1]) == (0.5, False)
    with pytest.raises(LanguageModelError, match=r"prior\.t"):
        client.sample([ASKED], [[1]], Sampling(16, temperature=0.5, top_p=0.5))


@pytest.mark.parametrize(
    ("refusal", "setting"),
    [
        (
            declined(
                "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is "
                "supported.", "temperature", "unsupported_value",
            ),
            "prior.temperature=1",
        ),
        (declined("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"), "prior.top_p=1"),
        (declined("max_tokens is too large: 16.", "max_tokens", "invalid_value"), "prior.max_tokens"),
        (declined("This model's maximum context length is 8 tokens."), "prompt.history_turns"),
        (declined("the request exceeds the available context size, try increasing it"), "prompt.history_turns"),
        (declined("'messages[0].role' does not support 'system'.", "messages[0].role"), "prompt.system=''"),
        (declined("System role not supported"), "prompt.system=''"),
        (
            declined("This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you "
                     "mean to use v1/completions?", status=404),
            "prompt=plain",
        ),
        ((404, {"detail": "Not Found"}), "prompt=plain"),
        ((413, {"detail": "too much"}), ""),
        ((422, {"detail": "not like this"}), ""),
        ((200, {"error": "Unexpected endpoint or method. (POST /v1/chat/completions)"}), "prompt=plain"),
        (declined("This model is only supported in v1/responses and not in v1/chat/completions."), ""),
    ],
)  # fmt: skip
def test_what_is_refused_for_good_ends_the_run_and_names_the_setting(
    server: SmallServer, client: OpenAILM, time: OwnTime, refusal: tuple[int, Any], setting: str
) -> None:
    asked = chats(server, lambda _: refusal)
    with pytest.raises(LanguageModelError, match="declined") as error:
        client.sample([ASKED], [[1]], Sampling(16, temperature=0.5, top_p=0.5, stop=""))
    assert setting in str(error.value)
    assert getattr(error.value, "exit_code", 1) == (2 if setting else 1)
    assert (len(asked), time.waits, isinstance(error.value, Outage)) == (1, [], False)


def test_a_chat_model_that_is_asked_for_texts_says_so_at_once(
    server: SmallServer, client: OpenAILM, time: OwnTime
) -> None:
    server.lacks = {}
    server.instead = lambda path, body: (
        declined("This is a chat model and not supported in the v1/completions endpoint.", status=404)
        if path == "/v1/completions"
        else None
    )
    with pytest.raises(LanguageModelError, match="prompt=chat"):
        client.sample(["Where to?"], [[1]], SAMPLING)
    assert time.waits == []


def test_so_many_answers_at_once_as_a_server_declines_are_asked_for_one_by_one(
    server: SmallServer, client: OpenAILM
) -> None:
    def instead(path: str, body: dict[str, Any] | None) -> tuple[int, Any] | None:
        if path != "/v1/completions" or body is None:
            return None
        if body["n"] > 2:
            return declined("n_cmpl cannot be greater than the number of slots")
        texts = [str(body["seed"] + i) for i in range(body["n"])]
        return 200, {"choices": [{"index": i, "text": t, "finish_reason": "stop"} for i, t in enumerate(texts)]}

    server.lacks, server.instead = {}, instead
    assert client.sample(["Where to?"], [[4, 5, 6, 8]], SAMPLING) == [["4", "5", "6", "8"]]


# ---- errors, of now and for good -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        (200, {"error": {"message": "Provider returned error", "code": 502}}),
        (200, {"choices": [{"error": {"code": 429, "message": "later"}, "message": {}, "finish_reason": "error"}]}),
        (200, {"error": {"message": "busy", "type": "overloaded_error"}}),
        (200, {"choices": None}),
        declined("Rate limit reached", code="rate_limit_exceeded", status=429),
    ],
)
def test_an_error_that_passes_is_asked_again_also_where_it_comes_as_an_answer(
    server: SmallServer, client: OpenAILM, time: OwnTime, error: tuple[int, Any]
) -> None:
    replies = iter([error])
    chats(server, lambda _: next(replies, answered("go left")))
    assert client.sample([ASKED], [[1]], SAMPLING) == [["go left"]]
    assert client.counters()["lm/outages"] == len(time.waits) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (declined("You exceeded your current quota", code="insufficient_quota", status=429), "wants to be paid first"),
        ((402, {"error": {"message": "Insufficient credits", "code": 402}}), "wants to be paid first"),
        ((200, {"error": {"message": "Insufficient credits", "code": 402}}), "wants to be paid first"),
        (declined("Incorrect API key provided", code="invalid_api_key", status=401), "wants another key"),
        (declined("no access to this model", status=403), "wants another key"),
    ],
)
def test_what_a_person_has_to_mend_elsewhere_pauses_the_run_at_once(
    server: SmallServer, client: OpenAILM, time: OwnTime, error: tuple[int, Any], message: str
) -> None:
    asked = chats(server, lambda _: error)
    with pytest.raises(Outage, match=message):
        client.sample([ASKED], [[1]], SAMPLING)
    assert (len(asked), time.waits) == (1, [])


def test_an_end_that_is_not_known_is_asked_once_and_is_no_outage(
    server: SmallServer, client: OpenAILM, time: OwnTime
) -> None:
    asked = chats(server, lambda _: answered("go left", "vanished"))
    with pytest.raises(LanguageModelError, match="finish_reason='vanished'") as raised:
        client.sample([ASKED], [[1]], SAMPLING)
    assert (len(asked), time.waits, isinstance(raised.value, Outage)) == (1, [], False)


def test_a_path_that_only_gateways_keep_to_themselves_is_a_lack_and_no_wrong_key(
    server: SmallServer, client: OpenAILM
) -> None:
    server.lacks = {"/version": "403", "/tokenize": "401", "/v1/completions": "403"}
    chats(server, lambda _: answered("go left"))
    assert client.sample([ASKED], [[1]], SAMPLING) == [["go left"]]


def test_who_wants_to_be_left_alone_for_longer_than_patience_lasts_is_not_waited_for(
    server: SmallServer, time: OwnTime
) -> None:
    lm = OpenAILM("thinker", url=server.url, tokenizer="unknown", dtype="unknown", clock=time, patience_s=6)
    chats(server, lambda _: answered("go left"))
    lm.sample([ASKED], [[1]], SAMPLING)
    server.misbehave("429")  # Retry-After: 7
    with pytest.raises(Outage, match=r"not to be asked for 7 s, and lm\.patience_s is 6"):
        lm.sample([ASKED], [[1]], SAMPLING)
    assert time.waits == []
    lm.close()


@pytest.mark.parametrize("listed", [[{"id": "thinker"}], {"data": [{"id": "other"}, {"id": "thinker"}]}])
def test_lists_of_models_come_bare_or_wrapped(server: SmallServer, client: OpenAILM, listed: Any) -> None:
    server.instead = lambda path, body: (200, listed) if path == "/v1/models" else None
    assert client.probe() == []
    assert client.provenance["served_name"] == "thinker"


def test_an_empty_list_of_models_is_said_to_be(server: SmallServer, client: OpenAILM) -> None:
    server.instead = lambda path, body: (200, {"object": "list", "data": None}) if path == "/v1/models" else None
    with pytest.raises(Outage, match="serves nothing, and not thinker"):
        client.probe()
