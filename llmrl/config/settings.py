"""Which groups, options and settings there are, and what each means: for `llmrl configs`.

A setting's meaning stands in `llmrl/schema.py`, as the comment beside its field (or above it, or beside the field of
that name in a schema before); an option's, at the head of its YAML file.
"""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmrl import schema
from llmrl.config.compose import ConfigError, config_folder, dataclass_in, kind_in_words
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigFolders, one_of, unknown_key
from llmrl.schema import CHOICES, NAMES, OF_SCHEMA, RANGES, SCHEMAS, PriorConfig, PromptConfig, TrainConfig

OF_GROUP = {"prior": PriorConfig, "prompt": PromptConfig}  # the schemas of groups that have one, whatever the option


@dataclass(frozen=True)
class Setting:
    key: str
    value: Any  # what it is, unless it is typed
    kind: str  # a whole number, text, ...
    allowed: str  # its range, or its choices; "" where anything goes
    meaning: str


@dataclass(frozen=True)
class Option:
    name: str
    text: str  # about it: what its file begins with
    is_default: bool

    @property
    def in_short(self) -> str:
        """The first sentence, which may say more after a colon."""
        sentence = self.text.partition(". ")[0].rstrip(".")
        before = sentence.partition(": ")[0]
        return before if len(sentence) > 160 and len(before) > 20 else sentence


class Catalogue:
    """What may be typed, with the groups of a person's own folder."""

    def __init__(self, config_dir: Path | None = None) -> None:
        self._folders = ConfigFolders(config_folder(), config_dir)
        main = _read(self._folders.own / "train.yaml")
        self._chosen: dict[str, str] = {}
        for line in main.pop("defaults"):
            self._chosen |= line if isinstance(line, Mapping) else {}
        self._main = main

    def groups(self) -> dict[str, list[Option]]:
        return {group: self.options(group) for group in self._folders.groups}

    def options(self, group: str) -> list[Option]:
        files = self._folders.groups[group]
        return [Option(name, head(file), self._chosen.get(group) == name) for name, file in files.items()]

    def sections(self) -> list[str]:
        """The settings that are in no group, and the sections of such."""
        return list(self._main)

    def look_up(self, name: str) -> list[Setting] | None:
        """The settings of a section or a key; None for a group. Raises ConfigError for what there is not."""
        if name in self._folders.groups:
            return None
        options = [(group, option) for group in self._folders.groups for option in self._files(group)]
        options.sort(key=lambda option: self._chosen.get(option[0]) == option[1])  # a default run's value is the last
        everything = {s.key: s for option in options for s in self.of(*option)}
        everything |= {s.key: s for s in self.in_no_group()}
        found = [s for key, s in everything.items() if key == name or key.startswith(f"{name}.")]
        if not found:
            known = [*everything, *self._folders.groups]
            raise ConfigError(unknown_key(name, None, known))
        return found

    def values(self, key: str) -> dict[str, Any]:
        """What a setting is in each option that has it."""
        group = key.partition(".")[0]
        found = {}
        for option in self._files(group):
            for setting in self.of(group, option):
                if setting.key == key:
                    found[option] = setting.value
        return found

    def of(self, group: str, option: str) -> list[Setting]:
        """The settings of an option, and what else it sets. Raises ConfigError for one that there is not."""
        files = self._files(group)
        if option not in files:
            raise ConfigError(one_of(group, option, files))
        node = _read(files[option])
        own = node.pop(group, None) if group in node else None
        others = [] if own is None else [line for line in node.pop("defaults", []) if isinstance(line, Mapping)]
        plain = own if own is not None else node
        of = OF_GROUP.get(group) or SCHEMAS.get(str(plain.get("_target_")))
        settings = list(_settings(of, plain, group))
        if own is not None:
            chosen = {key.removeprefix("override /"): value for line in others for key, value in line.items()}
            settings += [Setting(key, value, "", "", "what it is learned with") for key, value in chosen.items()]
            settings += _settings(TrainConfig, node, "")
        return settings

    def in_no_group(self) -> Iterator[Setting]:
        return _settings(TrainConfig, self._main, "")

    def _files(self, group: str) -> dict[str, Path]:
        return self._folders.groups.get(group, {})


def _settings(of: type | None, node: Mapping[str, Any], path: str) -> Iterator[Setting]:
    hints = get_type_hints(of) if of is not None else {}
    for name, value in node.items():
        key = f"{path}.{name}" if path else name
        if name == "_target_" or (name == "name" and path):
            continue
        inner = dataclass_in(hints.get(name))
        if isinstance(value, Mapping) and inner is not None:
            yield from _settings(inner, value, key)
        elif of is None or name not in hints or isinstance(value, Mapping):
            for inner_key, leaf in flatten(value, key).items():
                yield Setting(inner_key, leaf, "", "", "")
        else:
            yield Setting(key, value, kind_in_words(hints[name], key), _allowed(of, key), meanings()[of][name])


def _allowed(of: type, key: str) -> str:
    if key in CHOICES:
        return " | ".join(OF_SCHEMA.get(of, {}).get(key, CHOICES[key]))
    names = NAMES.get(of, {}).get(key.rpartition(".")[2], {})
    return ", or ".join((*([str(RANGES[key])] if key in RANGES else []), *(f"{n} ({v})" for n, v in names.items())))


@lru_cache(maxsize=1)
def meanings() -> dict[type, dict[str, str]]:
    """Schema -> field -> its meaning, read off the comments of the schemas' source."""
    source = inspect.getsource(schema)
    lines = source.splitlines()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    found: dict[type, dict[str, str]] = {}
    shared: dict[str, str] = {}
    for node in ast.parse(source).body:
        of: Any = getattr(schema, node.name) if isinstance(node, ast.ClassDef) else None
        if not isinstance(node, ast.ClassDef) or not hasattr(of, "__dataclass_fields__"):
            continue
        own: dict[str, str] = {}
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                beside = [comments[n] for n in range(field.lineno, (field.end_lineno or 0) + 1) if n in comments]
                above = field.lineno - 1
                if not beside and lines[above - 1].lstrip().startswith("#"):
                    beside = [comments[above]]
                own |= {field.target.id: " ".join(beside)} if beside else {}
        shared = own | shared
        inherited = {name: text for base in reversed(of.__mro__) for name, text in found.get(base, {}).items()}
        found[of] = {f.name: own.get(f.name) or inherited.get(f.name) or shared.get(f.name, "") for f in fields(of)}
    return found


def _read(file: Path) -> dict[str, Any]:
    node = OmegaConf.load(file)
    try:
        plain = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException:  # it refers to what another file sets
        plain = OmegaConf.to_container(node)
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def head(file: Path) -> str:
    """The comment that a YAML file begins with, but for what it says to Hydra."""
    said = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            said.append(line.lstrip("# "))
    return " ".join(said)
