"""Which groups, options and settings there are, and what each means: for `llmrl configs`.

A setting's meaning stands in `llmrl/schema/`, as the comment beside its field or above it; an option's, at the head of
its YAML file.
"""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmrl.config.compose import ConfigError, config_folder, dataclass_in, kind_in_words
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigFolders, one_of, unknown_key
from llmrl.schema.fields import Allowed, read_allowed
from llmrl.schema.kinds import PARTS, schema_of
from llmrl.schema.priors import PriorConfig, PromptConfig
from llmrl.schema.run import TrainConfig

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
    """The groups, options and settings that may be typed, with those of a person's own folder."""

    def __init__(self, config_dir: Path | None = None) -> None:
        self._folders = ConfigFolders(config_folder(), config_dir)
        main = _plain(OmegaConf.load(self._folders.own / "train.yaml"))
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
        """The value of a setting in each option that has it."""
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
        preset = self._folders.read(group, option)
        others = _plain(preset.settings)
        own = others.pop(group, {})
        of = OF_GROUP.get(group) or (schema_of(group, own) if group in PARTS else None)
        return [
            *_settings(of, own, group),
            *(Setting(key, value, "", "", "comes with it") for key, value in preset.choices.items()),
            *_settings(TrainConfig, others, ""),
        ]

    def in_no_group(self) -> Iterator[Setting]:
        return _settings(TrainConfig, self._main, "")

    def _files(self, group: str) -> dict[str, Path]:
        return self._folders.groups.get(group, {})


def _settings(of: type | None, node: Mapping[str, Any], path: str) -> Iterator[Setting]:
    hints = get_type_hints(of) if of is not None else {}
    for name, value in node.items():
        key = f"{path}.{name}" if path else name
        if name == "_target_" or (name == "name" and path) or (name == "kind" and of is not None and path in PARTS):
            continue
        inner = dataclass_in(hints.get(name))
        if isinstance(value, Mapping) and inner is not None:
            yield from _settings(inner, value, key)
        elif of is None or name not in hints or isinstance(value, Mapping):
            for inner_key, leaf in flatten(value, key).items():
                yield Setting(inner_key, leaf, "", "", "")
        else:
            allows = read_allowed(of)[name]
            yield Setting(key, value, kind_in_words(hints[name], key, allows), _in_words(allows), meanings(of)[name])


def _in_words(allows: Allowed) -> str:
    if allows.choices:
        return " | ".join(allows.choices)
    numbers = [] if allows.range is None else [str(allows.range)]
    return ", or ".join((*numbers, *(f"{name} ({number})" for name, number in allows.names.items())))


@cache
def meanings(schema: type) -> dict[str, str]:
    """Setting -> its meaning, read off the comments of the schema's source; "" where there is none."""
    found = {f.name: "" for f in fields(schema)}
    for base in filter(is_dataclass, reversed(schema.__mro__)):
        source = inspect.getsource(base)
        lines = source.splitlines()
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
        (definition,) = ast.parse(source).body
        assert isinstance(definition, ast.ClassDef)
        for node in definition.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                beside = [comments[n] for n in range(node.lineno, (node.end_lineno or 0) + 1) if n in comments]
                above = node.lineno - 1
                if not beside and lines[above - 1].lstrip().startswith("#"):
                    beside = [comments[above]]
                found |= {node.target.id: " ".join(beside)} if beside else {}
    return found


def _plain(node: Any) -> dict[str, Any]:
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
