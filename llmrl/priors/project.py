"""project: from a free answer to an admissible action, or to none. Never a guess."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache


def project(answer: str, actions: Sequence[str]) -> int | None:
    """The index of the action that `answer` names, or None.

    Only the first line with anything on it counts. An action as it stands is itself. Else both sides are compared
    without regard to case, repeated spaces, and quotes and punctuation at the ends: an action equal to the answer; or
    the longest action found whole in it, on word boundaries ("cabinet 1" is not in "cabinet 10"). Two different actions
    that would do equally well, or none: None.
    """
    lines = answer.strip().splitlines()
    if not lines:
        return None
    line = lines[0].strip()
    if line in actions:
        return actions.index(line)
    said = _normalised(line)
    texts = [_normalised(action) for action in actions]
    if said and said in texts:
        return texts.index(said) if texts.count(said) == 1 else None
    found = [i for i, text in enumerate(texts) if text and _holds(said, text)]
    longest = max((len(texts[i]) for i in found), default=0)
    best = [i for i in found if len(texts[i]) == longest]
    return best[0] if len(best) == 1 else None


def _holds(said: str, text: str) -> bool:
    # Looking for the text alone comes first: most of a menu is not in an answer, and a pattern takes longer.
    return text in said and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said) is not None


@lru_cache(2**16)
def _normalised(text: str) -> str:
    # Composed, so that an accent written as a character of its own is not taken for the end of a word.
    text = " ".join(unicodedata.normalize("NFC", text.casefold()).split())
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]):
        start += 1
    while end > start and _is_edge(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_edge(character: str) -> bool:
    # Backticks and acute accents pass for quotes, but unicode counts them among the symbols.
    return character in " `\N{ACUTE ACCENT}" or unicodedata.category(character).startswith("P")
