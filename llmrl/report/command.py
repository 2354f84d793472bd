"""The shortest command that makes a run: its choices of config groups, and each setting that differs from theirs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from llmrl.config.compose import PARTS, ConfigError, check, compose, config_folder
from llmrl.config.unread import Settings
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigFolders

GROUPS = ("learner", "env", "prior", "lm", "prompt", "encoder")  # a learner chooses for others, so it comes first
TRIED = 3  # options of a group that look alike
_NEVER_TYPED = ("numerics", "paths.config_dir")
_MISSING = object()


def command_of(config: Mapping[str, Any]) -> list[str]:
    """The words after `llmrl train` that make this config; quoted for Hydra, not for the shell.

    Raises ConfigError where parts of it come from a folder or a file that is not there any more.
    """
    folder = (config.get("paths") or {}).get("config_dir")
    folders = ConfigFolders(config_folder(), Path(folder) if folder else None)
    with suppress(ConfigError):  # as a run of today has it, with the settings that are younger than the run
        config = _plain(check(OmegaConf.create(dict(config)), folders))
    wanted = flatten(config)
    file = wanted.get("data.file")
    chosen = [override("data", file)] if file else []
    differing, found = _differing(wanted, chosen, folders)
    for group in GROUPS:
        if any(key.partition(".")[0] == group for key in differing):
            tried = [[*chosen, *option] for option in _likely(group, config.get(group), folders)]
            for words in tried:
                left, flat = _differing(wanted, words, folders)
                if len(left) < len(differing):
                    chosen, differing, found = words, left, flat
    if not found:
        compose(chosen, folders.extra)  # says why it cannot be typed
    changed = [override(key if key in found else f"+{key}", wanted[key]) for key in differing]
    unknown = [override(key, wanted[key]) for key in differing if key in [f"{group}._target_" for group in GROUPS]]
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)} is in a config folder of somebody's own; type --config-dir FOLDER, and "
            "the choices in it"
        )
    return [*chosen, *changed, *(["--config-dir", str(folder)] if folder else [])]


def shell_line(config: Mapping[str, Any]) -> str:
    """`command_of` on one line, as a shell takes it."""
    return " ".join(["llmrl", "train", *map(shell_word, command_of(config))])


def shell_word(word: str) -> str:
    """Quoted where it has to be; with what cannot stand on a line as its escape."""
    if not re.search(r"[\x00-\x1f\x7f]", word):
        return shlex.quote(word)
    text = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", text) + "'"


def override(key: str, value: Any) -> str:
    """The setting as an override that Hydra reads."""
    return f"{key}={_type_value(value)}"


def _type_value(value: Any) -> str:
    if isinstance(value, str):
        from hydra.core.override_parser.types import Quote, QuotedString

        plain = re.fullmatch(r"[\w./:@-]*[A-Za-z_/][\w./:@-]*", value, re.ASCII) and not _PARSED.fullmatch(value)
        return value if plain else QuotedString(text=value, quote=Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_type_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_type_value, value)) + "]"
    return json.dumps(value)


_PARSED = re.compile(r"null|true|false|nan|inf|.*:.*|[\d_.]+(e[\d+-]*)?", re.IGNORECASE)  # not read as text, or as one


def _likely(group: str, wanted: Any, folders: ConfigFolders) -> list[list[str]]:
    """GROUP=OPTION, with what such an option leaves open, of the options that look most like what is wanted."""
    flat = flatten(wanted)
    ranked = []
    for option in folders.groups.get(group, {}):
        own = flatten(_plain(folders.read(group, option).settings).get(group) or None)
        is_open = [key for key, value in own.items() if value == "???"]
        fixed = {key: value for key, value in own.items() if key not in is_open and "${" not in str(value)}
        differing = sum(flat.get(key, _MISSING) != value for key, value in fixed.items())
        words = [f"{group}={option}", *(override(f"{group}.{key}", flat[key]) for key in is_open if flat.get(key))]
        ranked.append((_made_of(group, flat) != _made_of(group, own), differing, words))
    best = min((rank for *rank, _ in ranked), default=None)
    return [words for *rank, words in ranked if rank == best][:TRIED]


def _made_of(group: str, part: Mapping[str, Any]) -> Any:
    """The choices that determine which settings a part has."""
    return (Settings.of({group: part}).kind(group) if group in PARTS else None) or part.get("_target_")


def _differing(
    wanted: Mapping[str, Any], typed: Sequence[str], folders: ConfigFolders
) -> tuple[list[str], dict[str, Any]]:
    """The keys of the settings that are other than wanted after typing these words, and all settings then.

    Where the words cannot be typed, the list is longer than any real difference, and there are no settings.
    """
    try:
        found = flatten(_plain(compose(typed, folders.extra)))
    except ConfigError:
        return [*wanted, *wanted], {}
    return [key for key in wanted if key not in _NEVER_TYPED and found.get(key, _MISSING) != wanted[key]], found


def _plain(cfg: Any) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
