"""What is read from one answer of a (chat) completions API, in the shapes that real servers give it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.lm.http.choices import LACKS, Said, read_said
from llmrl.lm.http.connection import BadAnswer
from llmrl.lm.language_model import LanguageModelError


def read(content: Any, reason: str | None = "stop", stop: str = "", **message: Any) -> Said:
    """Of the chat API."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": reason}
    return read_said(choice, True, stop, True)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("go left", "go left"),
        ("", ""),
        ([{"type": "text", "text": "go "}, {"type": "text", "text": "left"}], "go left"),
        ([{"type": "output_text", "text": "go left", "annotations": []}], "go left"),
        (["go ", "left"], "go left"),
        # Mistral's magistral
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "right?"}]}, {"type": "text", "text": "\nL"}],
            "L",
        ),
        # a server without a parser of thoughts; templates that begin the thought themselves
        ("<think>\nright?\n</think>\n\ngo left", "go left"),
        ("so right?\n</think>\n\ngo left", "go left"),
    ],
)
def test_texts_are_read_whatever_they_come_in(content: Any, text: str) -> None:
    assert read(content) == Said(text)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_a_thought_beside_the_answer_is_no_part_of_it(name: str) -> None:
    assert read("\n\ngo left\nnow", stop="\n", **{name: "right?"}) == Said("go left")
    assert read("go left", **{name: None}) == Said("go left")


@pytest.mark.parametrize(
    ("content", "reason", "message", "lack"),
    [
        (None, "length", {"reasoning_content": "Okay, so"}, "cut_short"),  # vLLM and llama.cpp
        ("", "length", {"reasoning": "Okay, so"}, "cut_short"),  # Ollama, OpenRouter
        ("", "length", {"refusal": None}, "cut_short"),  # OpenAI, which shows no thought
        (None, "max_tokens", {}, "cut_short"),
        ("<think>\nOkay, so", "length", {}, "cut_short"),
        (None, "stop", {"reasoning": "Okay, so"}, "cut_short"),
        ([{"type": "thinking", "thinking": []}], "length", {}, "cut_short"),
        (None, "content_filter", {}, "filtered"),
        ("go to the", "content_filter", {}, "filtered"),  # cut by the filter, and not by the model
        (None, "SAFETY", {}, "filtered"),
        (None, "stop", {"refusal": "I cannot go left."}, "refused"),
        ([{"type": "refusal", "refusal": "I cannot go left."}], "stop", {}, "refused"),
        (None, "tool_calls", {"tool_calls": [{"type": "function"}]}, "tool_calls"),
        (None, "stop", {"tool_calls": [{"type": "function"}]}, "tool_calls"),
        (None, "function_call", {"function_call": {"name": "go"}}, "tool_calls"),
        (None, "stop", {"tool_calls": None}, "empty"),
        ([{"type": "image_url"}], "stop", {}, "empty"),
    ],
)
def test_an_answer_without_text_says_why(content: Any, reason: str, message: dict[str, Any], lack: str) -> None:
    said = read(content, reason, **message)
    assert (said.text, said.lack) == ("", lack)
    assert lack in LACKS


def test_only_a_thought_that_a_stop_text_may_have_ended_ended_by_itself() -> None:
    assert read(None, "stop", reasoning="Okay, so").ended
    assert not read(None, "length", reasoning="Okay, so").ended


@pytest.mark.parametrize(
    "reason", ["stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP", "COMPLETE", None, ""]
)
def test_servers_call_the_end_of_an_answer_differently(reason: str | None) -> None:
    assert read("go left", reason) == Said("go left")


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "model_length", "max_output_tokens", "tool_calls"])
def test_a_text_that_was_cut_is_read_as_far_as_it_goes(reason: str) -> None:
    assert read("go left and", reason) == Said("go left and")


@pytest.mark.parametrize("reason", ["abort", "error", "network_error", "insufficient_system_resource", "load"])
def test_what_broke_off_is_no_answer(reason: str) -> None:
    with pytest.raises(BadAnswer, match=reason):
        read("go left", reason)


def test_what_says_nothing_at_all_is_no_answer() -> None:
    for content in (None, ""):
        with pytest.raises(BadAnswer):
            read(content, None)
    with pytest.raises(BadAnswer):
        read_said({"text": None, "finish_reason": "stop"}, False, "", False)


def test_an_end_that_is_not_known_is_neither_read_nor_asked_again() -> None:
    with pytest.raises(LanguageModelError, match="finish_reason='vanished'"):
        read("go left", "vanished")


def test_a_text_keeps_what_looks_like_a_thought() -> None:
    """Only in a conversation the mark is a model's own; a text may go on with anything."""
    choice = {"text": "<think>\n</think> go left", "finish_reason": "length"}
    assert read_said(choice, False, "", False) == Said("<think>\n</think> go left")
    assert read_said(choice, False, "", True) == Said("go left")
    assert read_said({"text": "", "finish_reason": "length"}, False, "", False) == Said("")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["<think>", "</think>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text"]), inner, max_size=2),
    max_leaves=6,
)


@given(values, st.sampled_from(["stop", "length", "content_filter", "abort", "", None]), st.booleans())
def test_whatever_comes_is_a_text_or_has_a_known_lack_or_is_no_answer(content: Any, reason: Any, thought: bool) -> None:
    try:
        said = read(content, reason, stop="\n", reasoning="Okay" if thought else None)
    except (BadAnswer, KeyError, TypeError):  # the last two are no answers, too, to whoever asks
        return
    assert said.lack in {"", *LACKS}
    assert not (said.text and said.lack)
    assert "\n" not in said.text
