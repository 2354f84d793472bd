"""Which runs a person means: folders, globs, parts of names, and KEY=VALUE over the resolved configs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from glob import glob
from pathlib import Path
from typing import Any

from llmrl.config.compose import ConfigError
from llmrl.core.files import flatten
from llmrl.core.suggestions import nearest
from llmrl.report.groups import settings
from llmrl.run.folder import ASIDE
from llmrl.run.load import RunInfo, is_run, load_runs

_ENDS = ("", ".name", ".id")  # of a key that is typed short: learner=dqn
_PART = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}|[^,])+""")  # of several values with commas


def sides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before `--against`, and those after it. Raises ConfigError where one side is missing."""
    for word in words:
        if word.startswith("--") and word != "--against":
            raise ConfigError(f"no such option: {word}; `llmrl compare --help` lists them")
    before, against, after = _split(words)
    if not before or not after or not against:
        raise ConfigError("two sides are needed, as in `llmrl compare dqn_prior --against dqn`")
    if "--against" in after:
        raise ConfigError("--against is there twice; several groups may stand before it, and one after it")
    return before, after


def two_sides(words: Sequence[str], root: Path) -> tuple[list[RunInfo], list[RunInfo], list[str]]:
    """The runs before and after `--against`, and what should be said about how they were chosen.

    A KEY=VALUE narrows both sides, wherever it stands. It narrows its own side alone where the other side has the same
    key, or no run with this value: it is then what tells the sides apart. Raises ConfigError, as `select`.
    """
    typed = sides(words)
    chosen = [select(side, root) for side in typed]
    filters = [filters_of(side) for side in typed]
    keys = [{_key(word.partition("=")[0], map(_flat, runs)) for word in own}
            for own, runs in zip(filters, chosen, strict=True)]  # fmt: skip
    notes = []
    for side, other in ((0, 1), (1, 0)):
        for word in filters[side]:
            if _key(word.partition("=")[0], map(_flat, chosen[side])) in keys[other]:
                continue
            try:
                kept = _having(word, chosen[other])
            except ConfigError:  # not even a run with this setting
                kept = []
            if kept:
                chosen[other] = kept
            else:
                notes.append(f"{word} narrows its own side alone: no run of the other side has it")
    return chosen[0], chosen[1], notes


def filters_of(words: Sequence[str]) -> list[str]:
    return [word for word in words if "=" in word and not Path(word).exists()]


def select(words: Sequence[str], root: Path, aside: bool = False) -> list[RunInfo]:
    """All runs that are named and have every KEY=VALUE; without names, those under `root` that have.

    A name is a run's folder, a folder of runs, a glob of either, or a part of names of runs under `root`: between
    dashes if there is such a part (`dqn` is then not `dqn_prior`), else anywhere. A value is one of several with
    commas; `learner=dqn` stands for `learner.name=dqn`. `aside`: also runs that were set aside. Raises ConfigError
    saying what did not match.
    """
    filters = filters_of(words)
    names = [word for word in words if word not in filters]
    everything = load_runs(root, aside)
    runs = _unique([run for name in names for run in _find_named(name, root, everything)] if names else everything)
    if not runs:
        raise ConfigError(f"there is no run in {root}/; `llmrl train` makes one, --runs names another folder")
    for word in filters:
        kept = _having(word, runs)
        if not kept:
            raise ConfigError(f"{word}: none of {len(runs)} runs has it; they have {_values(word, runs)}")
        runs = kept
    return runs


def typed_filter(key: str, values: Sequence[Any]) -> str:
    """KEY=VALUE,... as `select` reads it."""
    return f"{key.removesuffix('.name')}={','.join(dict.fromkeys(map(_type_value, values)))}"


def same_key(word: str, key: str) -> bool:
    """Whether KEY=VALUE is about the setting `key`."""
    return key in [f"{word.partition('=')[0]}{end}" for end in _ENDS]


def _split(words: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    at = list(words).index("--against") if "--against" in words else len(words)
    return list(words[:at]), at < len(words), list(words[at + 1 :])


def _find_named(name: str, root: Path, runs: Sequence[RunInfo]) -> list[RunInfo]:
    paths = [Path(name)] if Path(name).is_dir() else [Path(path) for path in sorted(glob(name))]
    found = [run for path in paths for run in ([RunInfo(path)] if is_run(path) else load_runs(path))]
    if found:
        return found
    found = (
        [run for run in runs if name in (run.name, _stem(run)) or fnmatch(run.name, name)]
        or [run for run in runs if f"-{name}-" in f"-{_stem(run)}-"]
        or [run for run in runs if name in run.name]
    )
    if found:
        return found
    if not runs:
        raise ConfigError(f"{name}: there is no run in {root}/; `llmrl train` makes one, --runs names another folder")
    parts = sorted({part for run in runs for part in (run.name, *run.name.split("-"))})
    near = nearest(name, parts, n=3, cutoff=0.5)
    hint = (
        f"; did you mean {' or '.join(near)}?"
        if near
        else f": there {'is 1 run' if len(runs) == 1 else f'are {len(runs)} runs'}"
    )
    raise ConfigError(f"{name}: no run in {root}/ has this in its name{hint}")


def _stem(run: RunInfo) -> str:
    return ASIDE.sub("", run.name)


def _having(word: str, runs: Sequence[RunInfo]) -> list[RunInfo]:
    key, _, text = word.partition("=")
    wanted = [_value(part) for part in _PART.findall(text)] or [""]
    flats = [_flat(run) for run in runs]
    key = _key(key, flats)
    return [run for run, flat in zip(runs, flats, strict=True) if key in flat and flat[key] in wanted]


def _values(word: str, runs: Sequence[RunInfo], most: int = 8) -> str:
    flats = [_flat(run) for run in runs]
    key = _key(word.partition("=")[0], flats)
    values = sorted({_type_value(flat[key]) for flat in flats if key in flat})
    return ", ".join(f"{key}={value}" for value in values[:most]) + (", ..." if len(values) > most else "")


def _key(key: str, flats: Iterable[Mapping[str, Any]]) -> str:
    known = {key for flat in flats for key in flat}
    for end in _ENDS:
        if f"{key}{end}" in known:
            return f"{key}{end}"
    near = nearest(key, sorted(known), n=1, cutoff=0.5)
    raise ConfigError(f"{key}: no run has this setting{f'; did you mean {near[0]}?' if near else ''}")


def _flat(run: RunInfo) -> dict[str, Any]:
    return flatten(run.config) | settings(run) if run.config else {}  # one that has just begun


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _type_value(value: Any) -> str:
    """A value as text that `_value` reads back."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    plain = isinstance(value, str) and _value(value) == value and _PART.fullmatch(value)
    return value if plain else text


def _unique(runs: Sequence[RunInfo]) -> list[RunInfo]:
    return list({run.path.resolve(): run for run in runs}.values())
