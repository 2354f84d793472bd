"""Overrides of a person, checked before Hydra sees them, and Hydra's complaints in words a person can act on."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmrl.core.secrets import found_in, names_secret, names_variable_of_secret
from llmrl.core.suggestions import nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


class ConfigError(ValueError):
    """A configuration that cannot run. The message says what was wrong, what was found and what to type instead."""


class TextExpected(ConfigError):
    """A list, or settings, where `key` holds a text."""

    def __init__(self, said: str, key: str) -> None:
        super().__init__(said)
        self.key = key


class Preset(NamedTuple):
    """An option of a config group."""

    settings: DictConfig  # by section: those of the group `learner` are in `learner`
    choices: dict[str, str]  # of options in other groups


class ConfigFolders:
    """The config groups and their options, as files: llmrl's own, and those of a person's `--config-dir`.

    Raises ConfigError for a folder that is not there, hides a file of llmrl's own, or holds one that cannot be read.
    """

    def __init__(self, own: Path, extra: Path | None = None) -> None:
        self.own, self.extra = own, extra
        if extra is not None and not extra.is_dir():
            raise ConfigError(f"--config-dir {extra}: there is no such folder")
        self._presets: dict[tuple[str, str], Preset] = {}  # that were read
        self.groups: dict[str, dict[str, Path]] = {}
        for root in (own, extra) if extra else (own,):
            for file in sorted(root.rglob("*.yaml"), key=lambda file: file.with_suffix("")):
                group, _, option = (
                    file.relative_to(root).with_suffix("").as_posix().partition("/")
                )  # env, household/pick
                if not option:  # train.yaml
                    continue
                options = self.groups.setdefault(group, {})
                if option in options:
                    name = file.relative_to(root)
                    raise ConfigError(f"{file}: llmrl has a {name} of its own, so this one would be ignored; rename it")
                if root == extra and (own / group).is_dir():
                    _refuse_unreadable(file)
                options[option] = file
        for no_part_of_a_run in ("tune", "study", "paper"):  # `llmrl tune` and `llmrl reproduce` read them
            self.groups.pop(no_part_of_a_run, None)
        self.models = self.groups.pop("models", {})  # what `llmrl models get` can get, by name

    def read(self, group: str, option: str, heirs: tuple[str, ...] = ()) -> Preset:
        """The settings of an option, with those inherited from others of its group, as Hydra composes them.

        `heirs` inherit from it. Raises ConfigError for an option that inherits from itself.
        """
        from omegaconf import OmegaConf

        if (group, option) in self._presets:
            return self._presets[group, option]
        file = self.groups[group][option]
        if option in heirs:
            raise ConfigError(f"{file} inherits from itself: {' from '.join([*heirs, option])}; change its defaults")
        node: Any = OmegaConf.load(file)
        lines = list(node.pop("defaults", []))
        if "@package _global_" not in file.read_text(encoding="utf-8").partition("\n")[0]:
            node = OmegaConf.create({group: node})
        parts: list[Any] = []
        choices: dict[str, str] = {}
        for line in lines if "_self_" in lines else [*lines, "_self_"]:
            base = line.partition("@")[0].removeprefix(f"/{group}/") if isinstance(line, str) else None
            if base == "_self_":
                parts.append(node)
            elif base in self.groups[group]:
                inherited = self.read(group, base, (*heirs, option))
                parts.append(inherited.settings)
                choices |= inherited.choices
        for line in lines:
            for key, chosen in line.items() if not isinstance(line, str) else ():
                choices[key.partition("@")[0].removeprefix("override ").removeprefix("/")] = chosen
        settings: Any = OmegaConf.merge(*parts) if len(parts) > 1 else parts[0]
        self._presets[group, option] = Preset(settings, choices)
        return self._presets[group, option]

    def get_group_options(self, group_name: str, *_: object, **__: object) -> list[str]:
        """The part of Hydra's ConfigLoader that expands `glob(*)`."""
        return list(self.groups.get(group_name, ()))


def long_form(overrides: Sequence[str]) -> list[str]:
    """`data=FILE` stands for `data.file=FILE`."""
    return [f"data.file={text[5:]}" if text.startswith("data=") and text[5:6] != "{" else text for text in overrides]


def parse(overrides: Sequence[str], folders: ConfigFolders) -> list[Override]:
    """Hydra's own parse of every override; sweeps are let through.

    Raises ConfigError for a text that does not parse, something that looks like a secret, a key given twice, a setting
    of Hydra's own, and an option that its group does not have.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=folders)  # type: ignore[arg-type]
    parsed: list[Override] = []
    for text in overrides:  # first of all: messages show what was typed
        _refuse_secret(text)
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(_not_an_assignment(text, folders))
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException as error:
            raise ConfigError(f"{text}: this does not parse{_reason(error, text)}; {_instead(text, parser)}") from None
        _refuse_lost_blanks(override)
        if override.is_hydra_override():
            raise ConfigError(f"{text}: Hydra's own settings change nothing here; paths.runs=FOLDER says where runs go")
        _refuse_option(override, folders)
        parsed.append(override)
    _refuse_repeats(parsed)
    return parsed


def refuse_secrets(settings: Any, path: str = "") -> None:
    """Raises ConfigError for a composed config with what looks like a secret: it would lie in the run folder."""
    if isinstance(settings, str):
        _refuse_value(path, settings)
    elif isinstance(settings, list):
        for i, value in enumerate(settings):
            refuse_secrets(value, f"{path}[{i}]")
    elif isinstance(settings, dict):
        for key, value in settings.items():
            where = f"{path}.{key}" if path else str(key)
            if value is not None and names_secret(str(key)):
                raise ConfigError(_secret(f"{where} looks like a secret"))
            if value is not None and names_variable_of_secret(str(key)):
                _refuse_no_variable(where, str(value))
            refuse_secrets(value, where)


def as_text(override: str) -> str:
    """The words to type in a POSIX shell, so that the whole value of `key=value` is one text."""
    key, _, value = override.partition("=")
    return f"if it is one text, type {key}={_in_shell(value)}"


def unknown_key(key: str, value: str | None, known: Iterable[str]) -> str:
    """The message about a setting that does not exist; `known` are dotted keys and groups."""
    known = list(known)
    section, _, last = key.rpartition(".")
    siblings = _inside(section, known)
    near = (
        [f"{section}.{name}".lstrip(".") for name in nearest(last, siblings)]
        or [other for other in known if other.rpartition(".")[2] == last]
        or nearest(key, known, cutoff=0.8)
    )
    if near:
        return f"{key}: there is no such setting; did you mean {near[0]}{'' if value is None else f'={value}'}?"
    while section and not siblings:
        section = section.rpartition(".")[0]
        siblings = _inside(section, known)
    return f"{key}: there is no such setting; {section or 'a run'} has {', '.join(siblings)}"


def one_of(key: str, found: object, choices: Iterable[str]) -> str:
    """The message about a value that is none of the choices."""
    choices = list(choices)
    near = nearest(str(found), choices)
    hint = f"did you mean {key}={near[0]}? " if near else ""
    return f"{key}={found}: {hint}choose one of {', '.join(choices)}"


def closest_first(name: str, others: Iterable[str]) -> list[str]:
    return sorted(others, key=lambda other: -SequenceMatcher(None, name, other).ratio())


def format_value(value: Any) -> str:
    """A value as a person would type it."""
    return json.dumps(value) if value is None or isinstance(value, bool | list | dict) else str(value)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _refuse_unreadable(file: Path) -> None:
    import yaml  # type: ignore[import-untyped]

    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}, line {mark.line + 1}" if mark else str(file)
        raise ConfigError(f"{where}: this is no YAML ({error.problem or error.context})") from None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {first_line(error)}") from None
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{file} has to hold settings, one KEY: VALUE a line")


def _reason(error: BaseException, text: str) -> str:
    """Hydra names the override on the first of two lines, and points to its manual on the last."""
    about = ("Error parsing override", "See https://", "LexerNoViableAltException")
    lines = [line for line in str(error).replace(text, "").splitlines() if not line.startswith(about)]
    told = [line for line in lines if line.strip(" ^~")]  # the others point at a place of the line above
    return f" ({told[0]})" if told else ""


def _instead(text: str, parser: OverridesParser) -> str:
    """The words to type for an override that does not parse: its value in quotes, unless the key is wrong."""
    from hydra.errors import HydraException

    key, _, value = text.partition("=")
    try:
        parser.parse_overrides([f"{key}={_in_hydra(value)[0]}"])
    except HydraException:
        return "write key=value"
    return as_text(text)


def _refuse_lost_blanks(override: Override) -> None:
    """Hydra drops blanks around a text that is not quoted."""
    from hydra.core.override_parser.types import ValueType

    text = str(override.input_line)
    value = text.partition("=")[2]
    if override.value_type is ValueType.ELEMENT and type(override.value()) is str and value != value.strip():
        raise ConfigError(f"{text}: blanks around a value are dropped; {as_text(text)}")


def _in_hydra(value: str) -> list[str]:
    from hydra.core.override_parser.types import Quote, QuotedString

    return [QuotedString(value, quote).with_quotes() for quote in (Quote.single, Quote.double)]


def _in_shell(value: str) -> str:
    """The shortest of the ways to quote a text for Hydra, and that again for the shell."""
    ways = []
    for word in _in_hydra(value):
        if not re.search("[$`!]", word):  # which a shell reads inside double quotes
            ways.append('"' + re.sub(r'([\\"])', r"\\\1", word) + '"')
        ways.append(shlex.quote(word))
    return min(ways, key=len)


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
    shown = re.match(r"[+~]*([\w.-]*)", key)
    assert shown is not None
    name = shown[1]  # without what follows it: in api_key:sk-1 nothing is assigned, and all of it is the key
    for inner in [key, *re.findall(r"[{,]\s*[\"']?([\w.-]+)[\"']?\s*:", value)]:
        if names_secret(inner):
            raise ConfigError(_secret(f"{name if inner == key else inner} looks like a secret"))
    if names_variable_of_secret(key):
        _refuse_no_variable(name, value)
    _refuse_value("the text typed" if found_in(key) else name, text)


def _refuse_value(where: str, text: str) -> None:
    if kind := found_in(text):
        raise ConfigError(_secret(f"{where} holds {kind}"))


def _refuse_no_variable(where: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z_]\w*", value):
        raise ConfigError(f"{where} has to be the name of an environment variable, as in {where}=MY_API_KEY")


def _secret(what: str) -> str:
    return (
        f"{what}, and a config is kept in the run folder for others to read; "
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
    options = {option: group for group in reversed(folders.groups) for option in folders.groups[group]}
    for option in nearest(text, options, cutoff=0.8):
        return f"{text}: write key=value; did you mean {options[option]}={option}?"
    return f"{text}: write key=value, as in env=overcooked_tomato or learner.alpha=0.1"


def _inside(section: str, known: Iterable[str]) -> list[str]:
    """The names directly inside a section; "" is the top."""
    depth = len(section) + 1 if section else 0
    inside = (key[depth:].split(".")[0] for key in known if not section or key.startswith(f"{section}."))
    return list(dict.fromkeys(inside))
