"""The command that works, where the runs that were named cannot be compared."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrl.config.compose import ConfigError
from llmrl.report.comparable import Refused, cell_of, prepare
from llmrl.report.groups import group_runs, settings
from llmrl.report.select import filters_of, same_key, sides, two_sides, typed_filter
from llmrl.run.load import RunInfo

FLAGS = ("allow_dirty", "allow_different")  # added in this order, where nothing works without
TRIED = 10  # groups after --against
FIRST = ("env.name", "env_steps", "learner.name", "prior.name")  # the settings that a person names first

Part = tuple[list[RunInfo], list[RunInfo]]


def working_command(
    words: Sequence[str],
    options: Sequence[str],
    a: Sequence[RunInfo],
    b: Sequence[RunInfo],
    root: Path,
    asked: Mapping[str, Any],
) -> str | None:
    """One line for a shell: `llmrl compare` of the largest part of both sides that may be compared.

    `words` are what was typed, `options` the other options as they are typed, `asked` the arguments of `prepare`. None
    where no two runs may be compared.
    """  # fmt: skip
    a, b = ([run for run in side if run.status == "complete"] for side in (a, b))
    more: list[str] = []
    for flag in (None, *FLAGS):
        if flag is not None and not asked[flag]:
            asked, more = {**asked, flag: True}, [*more, f"--{flag.replace('_', '-')}"]
        if part := _largest_part(a, b, asked):
            return shlex.join(["llmrl", "compare", *_words(words, (a, b), part, root), *options, *more])
    return None


def _largest_part(a: Sequence[RunInfo], b: Sequence[RunInfo], asked: Mapping[str, Any]) -> Part | None:
    groups = sorted(group_runs(dict.fromkeys([*a, *b])).values(), key=len, reverse=True)
    best: Part | None = None
    for group in [own for each in groups if (own := _one_each([run for run in each if run in b]))][:TRIED]:
        chosen: list[RunInfo] = []
        for other in groups:
            more = _one_each([run for run in other if run in a and run not in group])
            if more and _accepts([*chosen, *more], group, asked):
                chosen += more
        if chosen and (best is None or len(chosen) + len(group) > len(best[0]) + len(best[1])):
            best = chosen, group
    return best


def _accepts(a: Sequence[RunInfo], b: Sequence[RunInfo], asked: Mapping[str, Any]) -> bool:
    try:
        prepare(a, b, **asked)
    except Refused:
        return False
    return True


def _one_each(group: Sequence[RunInfo]) -> list[RunInfo]:
    """One run of each seed: the one that was written last."""
    return list({cell_of(run): run for run in sorted(group, key=lambda run: -run.age)}.values())


def _words(
    words: Sequence[str], named: tuple[Sequence[RunInfo], Sequence[RunInfo]], part: Part, root: Path
) -> list[str]:
    """The words to type for this part: those typed, and KEY=VALUE; where none tells the runs apart, their folders."""
    flats = {run: settings(run) | {"seed": cell_of(run)[0]} for side in named for run in side}
    keys = list(dict.fromkeys(key for run in (*part[0], *part[1]) for key in flats[run]))
    keys.sort(key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
    unwanted = [[run for run in side if run not in own] for side, own in zip(named, part, strict=True)]
    chosen: dict[str, list[list[Any]]] = {}

    def values(key: str) -> list[list[Any]]:
        return [[flats[run].get(key) for run in own] for own in part]

    def find_left(key: str) -> list[list[RunInfo]]:
        found = values(key)
        return [[run for run in side if flats[run].get(key) in own] for side, own in zip(unwanted, found, strict=True)]

    while any(unwanted) and keys:
        key = min(keys, key=lambda key: (sum(map(len, find_left(key))), _differ(values(key))))
        if sum(map(len, find_left(key))) == sum(map(len, unwanted)):
            break
        unwanted, chosen[key] = find_left(key), values(key)
    typed = []
    for i, own in enumerate(sides(words)):
        kept = [word for word in own if word not in filters_of(own) or not any(same_key(word, key) for key in chosen)]
        typed.append(
            kept
            + [
                typed_filter(key, each[i])
                for key, each in chosen.items()
                if (i or _differ(each)) and all(key in flats[run] for run in part[i])
            ]
        )
    found = [*typed[0], "--against", *typed[1]]
    try:
        if [_complete(side) for side in two_sides(found, root)[:2]] == [set(own) for own in part]:
            return found
    except ConfigError:
        pass
    return [*(str(run.path) for run in part[0]), "--against", *(str(run.path) for run in part[1])]


def _differ(values: Sequence[Sequence[Any]]) -> bool:
    return {repr(value) for value in values[0]} != {repr(value) for value in values[1]}


def _complete(runs: Sequence[RunInfo]) -> set[RunInfo]:
    return {run for run in runs if run.status == "complete"}
