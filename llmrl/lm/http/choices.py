"""One answer of a (chat) completions API, in the shapes that servers give it: its text, or why it has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from llmrl.lm.http.connection import BadAnswer
from llmrl.lm.language_model import LanguageModelError, before_stop

# finish_reason, in lower case, of those who give others than OpenAI, too.
BY_ITSELF = {
    "stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "end_of_text", "complete", "completed",
}  # fmt: skip
AT_ITS_LENGTH = {"length", "max_tokens", "max_output_tokens", "max_length", "model_length", "length_capped"}
FILTERED = {
    "content_filter", "content_filtered", "guardrail_intervened", "sensitive", "safety", "recitation", "blocklist",
    "prohibited_content", "spii",
}  # fmt: skip
CALLS = {"tool_calls", "tool_call", "tool_use", "function_call"}
BROKEN_OFF = {  # nothing that the model did: asked again
    "abort", "aborted", "cancel", "cancelled", "canceled", "error", "network_error", "timeout", "load", "unload",
    "insufficient_system_resource",
}  # fmt: skip
THINKS, THOUGHT = "<think>", "</think>"  # where a server does not tell a thought from what is said


class Lack(NamedTuple):
    """Why answers have no text. is_setting: a setting of the run mends it."""

    what: str
    mend: str
    is_setting: bool = False


LACKS: Mapping[str, Lack] = {
    "cut_short": Lack(
        "used up all tokens before an answer began, as a model does that thinks first",
        "Allow more with prior.max_tokens=N (of a thought that prompt.think asks for: prompt.think_tokens=N), which "
        "some servers call max_completion_tokens, or switch the model's thinking off",
        is_setting=True,
    ),
    "filtered": Lack("was withheld by a filter of the server", "Ask another server, or set its filter otherwise"),
    "refused": Lack("was refused by the model", "Another prompt (prompt=...) may not be"),
    "tool_calls": Lack("calls a tool, though none was offered", "Start the server without tools"),
    "empty": Lack("is null", "Ask for text: prompt=chat or prompt=plain, whichever the model was taught"),
}


class Said(NamedTuple):
    """text: "" where there is none. lack: a key of LACKS, or "". ended: by itself, or at the stop text."""

    text: str
    lack: str = ""
    ended: bool = True


def read_said(choice: Mapping[str, Any], is_chat: bool, stop: str | tuple[str, ...], thinks: bool) -> Said:
    """The model's text, without the stop text and the rest after it.

    is_chat: the choice is one of the chat API. thinks: a thought before the answer is no part of it. Raises BadAnswer
    for a choice to be asked again, LanguageModelError for an end that is not known.
    """
    reason = str(choice.get("finish_reason") or "").lower()
    message = choice["message"] if is_chat else {"content": choice.get("text")}
    text, thought, refusal = _content(message.get("content"))
    if reason in FILTERED:
        return Said("", "filtered")
    if message.get("refusal") or refusal or reason == "refusal":
        return Said("", "refused")
    if reason in BROKEN_OFF:
        raise BadAnswer(f"an answer that ended with {reason!r}")
    if reason and reason not in BY_ITSELF | AT_ITS_LENGTH | CALLS:
        raise LanguageModelError(
            f"an answer ended with finish_reason={choice['finish_reason']!r}, which says neither that it is whole nor "
            "that it is to be asked again, so nothing is made of it: start the server so that it says stop or length"
        )
    thought = thought or any(message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    if thinks and text:
        _, end, after = text.rpartition(THOUGHT)
        if end or after.lstrip().startswith(THINKS):
            thought, text = True, after if end else ""
    if thought and text:
        text = text.lstrip()
    if text:
        return Said(before_stop(text, stop)[0])
    if message.get("tool_calls") or message.get("function_call") or reason in CALLS:
        return Said("", "tool_calls")
    if thought or (is_chat and reason in AT_ITS_LENGTH):
        return Said("", "cut_short", reason not in AT_ITS_LENGTH)
    if text is None and is_chat and reason:
        return Said("", "empty")
    if text is None or not reason:
        raise BadAnswer("a generation without text")
    return Said("")


def _content(content: Any) -> tuple[str | None, bool, bool]:
    """The text, None where there is none; whether there is a thought; whether there is a refusal."""
    if content is None or isinstance(content, str):
        return content, False, False
    if not isinstance(content, list):
        raise BadAnswer("a generation whose text is no text")
    texts, kinds = [], set()
    for part in content:
        kind = "text" if isinstance(part, str) else part["type"]
        kinds.add(kind)
        if kind in ("text", "output_text"):
            texts.append(part if isinstance(part, str) else part["text"])
    return "".join(texts) if texts else None, bool(kinds & {"thinking", "reasoning"}), "refusal" in kinds
