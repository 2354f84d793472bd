"""The error of a server, in the shapes that servers give it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

FILTERED = re.compile(
    r"content_filter|content[_ ]?policy|content management policy|responsibleaipolicy|invalid_prompt|\bflagged\b", re.I
)
UNFINISHED = re.compile(r"could not finish the message", re.I)  # OpenAI, of a thought that used up all tokens
UNPAID = re.compile(r"insufficient_quota|billing_hard_limit|billing_not_active|insufficient_balance", re.I)
PASSING = re.compile(r"server_error|internal|overloaded|rate_limit|timeout|unavailable|exhausted", re.I)
# How a setting is named: pydantic's place of an error; in quotes; after such a word.
NAMED = (
    re.compile(r"""["']loc["']:\s*\[[^\]]*?["'](\w+)["']\s*\]"""),
    re.compile(r"""["'`](\w+)["'`]"""),
    re.compile(r"(?:parameters?|arguments?|fields?|this model):? (\w+)", re.I),
)

MENDS = {
    "temperature": "set prior.temperature=1",
    "top_p": "set prior.top_p=1",
    "max_tokens": "set prior.max_tokens (of a thought, prompt.think_tokens)",
    "max_completion_tokens": "set prior.max_tokens (of a thought, prompt.think_tokens)",
}
ANOTHER_API = re.compile(r"^(?!.*v1/responses).*(chat model|v1/(chat/)?completions)", re.I)
ADVICE = (
    (re.compile(r"context (length|size|window)|too long|too many tokens", re.I), "show less: prompt.history_turns=N"),
    (re.compile(r"system (role|message|prompt)|'system'|must alternate", re.I), "set prompt.system=''"),
)


@dataclass(frozen=True)
class Complaint:
    """words: for a person. code: the error's code and type. param: what of the question it is about."""

    words: str = ""
    code: str = ""
    param: str = ""

    @property
    def filtered(self) -> bool:
        """The prompt is one that a filter lets nobody ask."""
        return FILTERED.search(f"{self.code} {self.words}") is not None

    @property
    def unfinished(self) -> bool:
        """The model had not begun to answer when its tokens were used up."""
        return UNFINISHED.search(self.words) is not None

    @property
    def unpaid(self) -> bool:
        return UNPAID.search(self.code) is not None

    def find_name(self, names: Collection[str]) -> str | None:
        """The one of these parts of a question that the complaint is about."""
        if self.param in names:
            return self.param
        words = self.words.replace("\\", "")
        found = (name for pattern in NAMED for name in pattern.findall(words) if name in names)
        return next(found, None)

    def mend(self, status: int, path: str) -> str | None:
        """The setting that mends it, where one does. path: what was asked."""
        named = self.find_name(MENDS)
        found = MENDS[named] if named else None
        found = found or next((advice for pattern, advice in ADVICE if pattern.search(self.words)), None)
        if found is None and path.endswith("completions") and (status == 404 or ANOTHER_API.search(self.words)):
            found = f"prompt={'plain' if path.startswith('chat') else 'chat'} asks its other API"
        return found


def complaint_of(body: str) -> Complaint:
    """The complaint in the body of an error answer; the body need not be JSON."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    return _complaint(told) if isinstance(told, dict) else Complaint(" ".join(body.split()))


def complaint_within(raw: Any) -> tuple[int | None, Complaint] | None:
    """The error in what came back as if it were an answer, and the status that it should have had; None without one.

    The status is None where the error has none and does not look as if it passed.
    """
    if not isinstance(raw, dict):
        return None
    choices = raw.get("choices")
    places = [raw, *(choices if isinstance(choices, list) else [])]
    told = next((place for place in places if isinstance(place, dict) and place.get("error")), None)
    if told is None:
        return None
    complaint = _complaint(told)
    status = next((int(word) for word in complaint.code.split() if re.fullmatch("[45][0-9]{2}", word)), None)
    if status is None and PASSING.search(complaint.code):
        status = 503
    return status, complaint


def _complaint(told: dict[str, Any]) -> Complaint:
    error = told.get("error")
    if not isinstance(error, dict):
        error = {**told, "message": error} if error else told
    words = error.get("message") or error.get("detail") or told
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and metadata.get("raw"):  # what whom a router asked has said
        words = f"{words} ({metadata['raw']})"
    code = " ".join(str(error[name]) for name in ("code", "type") if error.get(name))
    return Complaint(" ".join(str(words).split()), code, str(error.get("param") or ""))
