"""Projects a free answer to an admissible action, or to none. It never guesses.

The rule, in this order:

1. Only the first line with anything on it counts.
2. A line that is an action, letter for letter, is that action. Then case, repeated spaces, and quotes and punctuation
   at the ends are taken off both sides; a line that now equals one action is that action. Where it equals two actions
   that read alike, it is ambiguous. Words inside the action's own text, such as "not", play no part here.
3. Else actions are looked for whole, on word boundaries ("cabinet 1" is not in "cabinet 10"). An occurrence inside a
   longer one does not count. Nothing left: the answer names nothing. Two different actions left: it is ambiguous. The
   same one twice is that one.
4. An action that is left is negated where any of its occurrences follows a negation in the same clause. Negations are
   the words of `_NEGATION`, wherever in the clause they stand, so "not only go left" is negated. "No" reaches as far as
   the next punctuation mark alone ("no, go left" and "no problem, go left" name that action). A clause ends at
   . ! ? ; … before a space, at "but", and at ", so". Words after the action do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|without|avoid(?:s|ed|ing)?|instead of|rather than"
    r"|(?:refus(?:e|es|ed|ing)|declin(?:e|es|ed|ing)|unable|impossible|unwise) to"
    r"|\w+n['\N{RIGHT SINGLE QUOTATION MARK}]t|(?:do|does|did|ca|wo|is|must|should|would|could)nt"
    r"|no(?!(?:[^,.!?;:\N{HORIZONTAL ELLIPSIS}\N{EN DASH}\N{EM DASH}-]|-(?![\s-]))*"
    r"(?:[,.!?;:\N{HORIZONTAL ELLIPSIS}\N{EN DASH}\N{EM DASH}]|-[\s-])))\b"
)
_CLAUSE_END = re.compile(r"[.!?;\N{HORIZONTAL ELLIPSIS}](?=\s)|\bbut\b|,\s*so\b")


class Projection(NamedTuple):
    """Which action an answer names."""

    action: int | None  # its index in the menu; None: none, for the reason `how`
    how: Literal["named", "nothing", "ambiguous", "negated"]

    @property
    def failed(self) -> bool:
        """Whether the answer names no one action, also where an action is put down to it (`project_last`)."""
        return self.how != "named"


def project(answer: str, actions: Sequence[str]) -> Projection:
    """The action that `answer` names, by the rule above."""
    lines = answer.strip().splitlines()
    if not lines:
        return Projection(None, "nothing")
    line = lines[0].strip()
    if line in actions:
        return Projection(actions.index(line), "named")
    said = _normalise(line)
    texts = [_normalise(action) for action in actions]
    if said and said in texts:
        alike = texts.count(said) > 1
        return Projection(None, "ambiguous") if alike else Projection(texts.index(said), "named")
    spans = _outermost([(*span, i) for i, text in enumerate(texts) if text for span in _occurrences(said, text)])
    found = {i for _, _, i in spans}
    if len(found) != 1:
        return Projection(None, "ambiguous" if found else "nothing")
    for start, end, _ in spans:  # a "not" in the action's own text negates no other occurrence
        said = f"{said[:start]}{'_' * (end - start)}{said[end:]}"
    if any(_is_negated(said[:start]) for start, _, _ in spans):
        return Projection(None, "negated")
    return Projection(found.pop(), "named")


def project_last(answer: str, actions: Sequence[str]) -> Projection:
    """The rule of the paper's released code: what the answer holds most often, in any case, the last of several.

    An action counts inside longer words, too. An answer that holds none is put down to the last action of the menu, as
    that code does, and has named nothing all the same.
    """
    said = answer.lower()
    counts = [said.count(action.lower()) for action in actions]
    most = max(counts)
    last = len(counts) - 1 - counts[::-1].index(most)
    return Projection(last, "named" if most else "nothing")


PROJECTIONS = {"whole": project, "last": project_last}


def _occurrences(said: str, text: str) -> list[tuple[int, int]]:
    # Looking for the text alone comes first: most of a menu is not in an answer, and a pattern takes longer.
    if text not in said:
        return []
    starts = re.finditer(rf"(?<!\w)(?={re.escape(text)}(?!\w))", said)  # by a look ahead, so that they may overlap
    return [(match.start(), match.start() + len(text)) for match in starts]


def _outermost(spans: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The (start, end, action) that lie inside no longer one."""
    return [
        (start, end, i)
        for start, end, i in spans
        if not any(s <= start and end <= e and e - s > end - start for s, e, _ in spans)
    ]


def _is_negated(before: str) -> bool:
    """Whether what follows `before` stands behind a negation in its clause."""
    return _NEGATION.search(_CLAUSE_END.split(before)[-1]) is not None


@lru_cache(2**16)
def _normalise(text: str) -> str:
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
