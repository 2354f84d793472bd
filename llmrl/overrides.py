"""What a person types, checked before Hydra sees it, and Hydra's complaints in words a person can act on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_SECRET = re.compile(r"(?i)(?:^|[^a-z0-9])(?:api_?key|access_?key|token|password|passwd|secret)(?:$|[^a-z0-9])")


class ConfigError(ValueError):
    """A configuration that cannot run. The message says what was wrong, what was found and what to type instead."""


class ConfigFolders:
    """The config groups and their options, as files: llmrl's own, and those of a person's `--config-dir`.

    Raises ConfigError for a folder that is not there or that hides a file of llmrl's own.
    """

    def __init__(self, own: Path, extra: Path | None = None) -> None:
        self.own, self.extra = own, extra
        if extra is not None and not extra.is_dir():
            raise ConfigError(f"--config-dir {extra}: there is no such folder")
        self.groups: dict[str, dict[str, Path]] = {}
        for root in (own, extra) if extra else (own,):
            for file in sorted(root.rglob("*.yaml")):
                group = file.parent.relative_to(root).as_posix()
                options = self.groups.setdefault(group, {})
                if file.stem in options:
                    name = file.relative_to(root)
                    raise ConfigError(f"{file}: llmrl has a {name} of its own, so this one would be ignored; rename it")
                options[file.stem] = file
        for no_group in (".", "tune"):  # train.yaml, and the spaces of `llmrl tune`, which are no part of a run
            self.groups.pop(no_group, None)

    def get_group_options(self, group_name: str, *_: object, **__: object) -> list[str]:
        """The part of Hydra's ConfigLoader that expands `glob(*)`."""
        return list(self.groups.get(group_name, ()))


def parse(overrides: Sequence[str], folders: ConfigFolders) -> list[Override]:
    """Hydra's own parse of every override; sweeps are let through.

    Raises ConfigError for a text that does not parse, something that looks like a secret, a key given twice, a setting
    of Hydra's own, and an option that its group does not have.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=folders)  # type: ignore[arg-type]
    parsed: list[Override] = []
    for text in overrides:
        _refuse_secret(text)
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(_not_an_assignment(text, folders))
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException as error:
            raise ConfigError(f"{text}: this does not parse ({_reason(error)}); write key=value") from None
        if override.is_hydra_override():
            raise ConfigError(f"{text}: Hydra's own settings change nothing here; paths.runs=FOLDER says where runs go")
        _refuse_option(override, folders)
        parsed.append(override)
    _refuse_repeats(parsed)
    return parsed


def refuse_secrets(settings: Any, path: str = "") -> None:
    """Raises ConfigError for a composed config with a key that looks like a secret: it would lie in the run folder."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            where = f"{path}{key}"
            if value is not None and _SECRET.search(str(key)):
                raise ConfigError(_secret(where))
            refuse_secrets(value, f"{where}.")


def unknown_key(key: str, value: str | None, known: Iterable[str]) -> str:
    """What to say about a setting that does not exist; `known` are dotted keys and groups."""
    known = list(known)
    section, _, last = key.rpartition(".")
    siblings = _inside(section, known)
    near = (
        [f"{section}.{name}".lstrip(".") for name in get_close_matches(last, siblings, n=1)]
        or [other for other in known if other.rpartition(".")[2] == last]
        or get_close_matches(key, known, n=1, cutoff=0.8)
    )
    if near:
        return f"{key}: there is no such setting; did you mean {near[0]}{'' if value is None else f'={value}'}?"
    while section and not siblings:
        section = section.rpartition(".")[0]
        siblings = _inside(section, known)
    return f"{key}: there is no such setting; {section or 'a run'} has {', '.join(siblings)}"


def one_of(key: str, found: object, choices: Iterable[str]) -> str:
    """What to say about a value that is none of the choices."""
    choices = list(choices)
    near = get_close_matches(str(found), choices, n=1)
    hint = f"did you mean {key}={near[0]}? " if near else ""
    return f"{key}={found}: {hint}choose one of {', '.join(choices)}"


def closest_first(name: str, others: Iterable[str]) -> list[str]:
    return sorted(others, key=lambda other: -SequenceMatcher(None, name, other).ratio())


def shown(value: Any) -> str:
    """A value as a person would type it."""
    return json.dumps(value) if value is None or isinstance(value, bool | list | dict) else str(value)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reason(error: BaseException) -> str:
    """Hydra names the override on the first of two lines, and points to its manual on the last."""
    lines = [
        line for line in str(error).splitlines() if not line.startswith(("Error parsing override", "See https://"))
    ]
    return (lines or [type(error).__name__])[0]


def _refuse_option(override: Override, folders: ConfigFolders) -> None:
    group, text = override.key_or_group, override.input_line
    options = folders.groups.get(group)
    if options is None:
        if override.is_delete():
            raise ConfigError(f"{text}: a setting cannot be removed, only given a value; ~lm removes a whole group")
        return
    if override.is_delete() or override.is_range_sweep() or override.is_interval_sweep():
        return
    if override.package is None and (override.is_add() or override.is_force_add()) and (folders.own / group).is_dir():
        raise ConfigError(f"{text}: {group} has a choice already; to make another, leave out the +")
    found = list(override.sweep_string_iterator()) if override.is_choice_sweep() else [override.value()]
    for option in found:
        if not isinstance(option, dict | list) and option not in options:
            raise ConfigError(one_of(group, "null" if option is None else option, options))


def _refuse_secret(text: str) -> None:
    key, _, value = text.partition("=")
    names = [key, *re.findall(r"[{,]\s*[\"']?([\w.-]+)[\"']?\s*:", value)]
    for name in names:
        if _SECRET.search(name):
            raise ConfigError(_secret(name.lstrip("+~")))


def _secret(key: str) -> str:
    return (
        f"{key} looks like a secret, and a config is kept in the run folder for others to read; "
        "put secrets in environment variables, never in a config"
    )


def _refuse_repeats(parsed: Sequence[Override]) -> None:
    """The last of two would win, so that the order of overrides mattered."""
    keys = [override.key_or_group for override in parsed if override.package is None]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            raise ConfigError(
                f"{key} is given twice: {' and '.join(str(o.input_line) for o in parsed if o.key_or_group == key)}"
            )
    for override in parsed:
        inner = [key for key in keys if key.startswith(f"{override.key_or_group}.")]
        if inner and isinstance(override.value(), dict):
            raise ConfigError(f"{inner[0]} is given twice: also in {override.input_line}")


def _not_an_assignment(text: str, folders: ConfigFolders) -> str:
    for group, options in folders.groups.items():
        if text in options:
            return f"{text}: write key=value; did you mean {group}={text}?"
    return f"{text}: write key=value, as in env=overcooked_tomato or learner.alpha=0.1"


def _inside(section: str, known: Iterable[str]) -> list[str]:
    """The names directly inside a section; "" is the top."""
    depth = len(section) + 1 if section else 0
    inside = (key[depth:].split(".")[0] for key in known if not section or key.startswith(f"{section}."))
    return list(dict.fromkeys(inside))
