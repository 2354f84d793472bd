"""The field of a setting: `setting` writes its range and choices beside type and default, `read_allowed` reads them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from math import inf, isfinite
from typing import Any


class Schema:
    """Base of the classes of settings. `problems` of each one in a config is asked, the inner ones too."""

    def problems(self, has_data: bool) -> Iterator[str]:
        """The combinations of these settings that are refused; `has_data`: the run learns from a file."""
        yield from ()


@dataclass(frozen=True)
class Range:
    """The finite numbers a setting may take; a setting that may also be null says so by its type."""

    low: float
    high: float = inf
    above: bool = False  # `low` itself is excluded
    instead: str = ""  # what else a person may want

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not isfinite(value):
            return False
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        if self.low == -inf:
            return "finite"
        if self.high < inf:
            return f"{'above' if self.above else 'at least'} {self.low:g} and at most {self.high:g}{self.instead}"
        return f"{'above' if self.above else 'at least'} {self.low:g}{self.instead}"


@dataclass(frozen=True)
class Allowed:
    """The values a setting may take, beside what its type says."""

    range: Range | None = None  # of a number, or of each in a list
    choices: tuple[str, ...] = ()
    word: str = ""  # that may stand for a number
    names: Mapping[str, int] = field(default_factory=dict)  # of numbers: what may be typed for them


def setting(
    default: Any,
    *,
    low: float | None = None,
    high: float = inf,
    above: bool = False,
    instead: str = "",
    choices: Sequence[str] = (),
    word: str = "",
    names: Mapping[str, int] | None = None,
    free: bool = False,
    since: bool = False,
) -> Any:
    """A field of a schema. The comment beside it, or in the line above, is its meaning in help texts and documents.

    `default`: a list is copied, and a schema is made anew, for each config. `low`, `high`, `above` and `instead` are
    its `Range`, and `choices`, `word` and `names` as in `Allowed`. `free`: it changes speed, place or looks, never a
    result. `since`: it came later; at the default given here, which is what was done before it, runs keep their older
    names. A YAML file may choose another value, and that names the run.
    """
    numbers = None if low is None else Range(low, high, above, instead)
    metadata: dict[str, Any] = {"allowed": Allowed(numbers, tuple(choices), word, names or {})}
    if free:
        metadata["affects_result"] = False
    if since:
        metadata["absent_default"] = default
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=partial(copy.copy, default), metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def read_allowed(schema: type) -> dict[str, Allowed]:
    """The values that each setting of a schema may take."""
    return {f.name: f.metadata.get("allowed", Allowed()) for f in fields(schema)}
