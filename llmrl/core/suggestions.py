"""Which of the names there are a misspelt one may have meant. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(found: str, names: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """At most `n` of `names`, the nearest first: in any case of letters, else by difflib, else those it is a part of.

    `household/pick` is as near to `pick` as to its whole name.
    """
    names = list(dict.fromkeys(names))
    folded = found.casefold()
    same = [name for name in names if folded in (name.casefold(), name.casefold().rpartition("/")[2])]
    if same:
        return same[:n]
    by_folded = {name.casefold(): name for name in reversed(names)}
    close = get_close_matches(folded, list(by_folded), n=n, cutoff=cutoff)
    parts = [name for name in names if len(folded) > 2 and folded in name.casefold()]
    return [by_folded[name] for name in close] or parts[:n]


def did_you_mean(found: Iterable[str], names: Iterable[str]) -> str:
    """`; did you mean ...?` for those of `found` that there are not, or "" where nothing is near."""
    names = list(names)
    near = [n for name in found if name not in names for n in nearest(name, names)]
    return f"; did you mean {' and '.join(near)}?" if near else ""
