"""Composes overrides to a checked config.

Hydra composes the YAML files under `configs/`; the dataclasses of `llmrl.schema` check the result. The config is typed,
resolved and read-only. Nothing heavy is imported.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmrl.config.checks import plain_settings, refuse_invalid
from llmrl.config.unread import asks_a_model, find_unread
from llmrl.core.files import flatten
from llmrl.core.overrides import (
    ConfigError,
    ConfigFolders,
    TextExpected,
    as_text,
    first_line,
    format_value,
    long_form,
    one_of,
    parse,
    refuse_secrets,
    unknown_key,
)
from llmrl.schema.fields import Allowed, read_allowed
from llmrl.schema.kinds import KINDS, OLD_TARGETS, PARTS, has_schema, schema_of
from llmrl.schema.learners import NoLearnerConfig
from llmrl.schema.lm import OpenAILMConfig
from llmrl.schema.run import TrainConfig

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


__all__ = [
    "ConfigError",
    "as_checked",
    "check",
    "compose",
    "config_folder",
    "expand_sweep",
    "unread_overrides",
]


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None) -> DictConfig:
    """The config of one run: what `llmrl train OVERRIDES` would do.

    `config_dir` is a person's own folder of config groups, beside llmrl's. Raises ConfigError.
    """
    folders = ConfigFolders(config_folder(), config_dir)
    overrides = long_form(overrides)
    parsed = parse(overrides, folders)
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(
                f"{override.input_line} names several values: add -m to run each of them, "
                f"or, {as_text(str(override.input_line))}"
            )
        if override.key_or_group == "paths.config_dir":
            raise ConfigError(f"{override.input_line}: type --config-dir FOLDER")
    cfg = _compose(overrides, folders)
    cfg.paths.config_dir = None if config_dir is None else str(config_dir)
    try:
        return check(cfg, folders)
    except TextExpected as error:  # Hydra took it for a list, or for settings
        typed = next((str(o.input_line) for o in parsed if o.key_or_group == error.key), None)
        raise ConfigError(f"{error}; {as_text(typed)}" if typed else str(error)) from None


def expand_sweep(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
    """The overrides of each run of a sweep, in Hydra's order: the last key varies fastest.

    Hydra's sweep syntax: `a,b`, `choice(a,b)`, `range(0,5)`, and `glob(*)` for the options of a group.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.errors import HydraException

    parsed = parse(long_form(overrides), ConfigFolders(config_folder(), config_dir))
    try:
        (product,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise ConfigError(f"this sweep cannot be listed: {first_line(error)}") from None
    if not product:
        empty = next(o.input_line for o in parsed if o.is_sweep_override() and not list(o.sweep_string_iterator()))
        raise ConfigError(f"{empty} matches nothing")
    return product


def check(cfg: DictConfig, folders: ConfigFolders | None = None) -> DictConfig:
    """A composed config, checked against the schemas: typed, resolved, read-only, without parts that are not used.

    Where nothing asks a model, `lm` and `prompt` become null; where nothing is learned, or the learner reads texts
    itself, `encoder`; a number's name becomes the number, and an old `_target_` of llmrl's own the kind that it was.
    A part whose `_target_` is somebody else's is taken as it is.
    Raises ConfigError.
    """
    folders = folders or ConfigFolders(config_folder())
    refuse_secrets(OmegaConf.to_container(cfg))  # before ${oc.env:...} becomes what it stands for
    try:
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from None
    assert isinstance(plain, dict)
    raw: dict[str, Any] = {str(key): value for key, value in plain.items()}
    refuse_secrets(raw)
    for looked_up in ("paper", "recommended"):  # by files of `env` and `prior`, in a preset or in a file of `lm`
        raw.pop(looked_up, None)
    for part in PARTS:
        raw[part] = _by_kind(part, raw.get(part) or None)  # a YAML file that holds only null composes as {}
    if (
        has_schema("lm", raw["lm"], OpenAILMConfig)
        and raw["lm"].get("model", "???") == "???"
        and raw["lm"].get("serve")
    ):
        raw["lm"]["model"] = raw["lm"]["serve"]
    learner = schema_of("learner", raw["learner"])
    raw["data"] = _data(raw.get("data"))
    learns_from_data = raw["data"] is not None and getattr(learner, "learns_from_data", False)
    if learns_from_data and raw["learner"].get("weights") == "???":
        raw["learner"]["weights"] = None
    if not getattr(learner, "reads_vectors", True):
        raw["encoder"] = None
    typed = _to_node(TrainConfig, raw)
    if not asks_a_model(plain_settings(typed)):
        typed.lm = typed.prompt = None
    refuse_invalid(typed, folders)
    OmegaConf.set_struct(typed, True)
    OmegaConf.set_readonly(typed, True)
    return typed


def as_checked(cfg: DictConfig) -> DictConfig:
    """`check(cfg)`, where `cfg` is not as `check` leaves it already."""
    return cfg if OmegaConf.get_type(cfg) is TrainConfig and OmegaConf.is_readonly(cfg) else check(cfg)


def unread_overrides(overrides: Sequence[str], cfg: DictConfig, config_dir: Path | None = None) -> list[str]:
    """A line for each choice and setting that was typed and that the run `cfg`, which came of it, does not read."""
    found = {key: rule.why for key, rule in find_unread(plain_settings(cfg)).items()}
    parsed = parse(long_form(overrides), ConfigFolders(config_folder(), config_dir))
    learner = f"learner={cfg.learner.name}"
    asker = f"prior={cfg.prior.name}" if "prior" in [o.key_or_group for o in parsed] else learner
    learns = not has_schema("learner", cfg.learner, NoLearnerConfig)
    absent = dict.fromkeys(("lm", "prompt"), f"{asker} asks no model") | {
        "encoder": f"{learner} {'reads texts itself' if learns else 'learns nothing'}"
    }
    lines = []
    for o in parsed:
        for key, value in [] if o.is_delete() else _leaves(o):
            part = key.partition(".")[0]
            why = absent.get(part) if part in absent and cfg[part] is None else found.get(key)
            if why and not (key == part and value in ("none", "null")):
                lines.append(f"{key}={value} changes nothing: {why}")
    return lines


def config_folder() -> Path:
    """llmrl's own configs: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).parents[1]
    found = next(
        (root / "configs" for root in (package, package.parent) if (root / "configs" / "train.yaml").is_file()), None
    )
    if found is None:
        raise ConfigError(
            f"llmrl's configs are missing: neither {package} nor {package.parent} has configs/train.yaml; reinstall"
        )
    return found


def _by_kind(part: str, node: Any) -> Any:
    """A part with its `kind` in place of the `_target_` that an older config has for it."""
    if not isinstance(node, dict):
        return node
    ours = list(KINDS[part])
    kind, target = node.get("kind"), node.get("_target_")
    old = OLD_TARGETS[part].get(str(target))
    if kind is not None and target is not None and (old is not None or kind in ours):
        raise ConfigError(
            f"{part}.kind={format_value(kind)} and {part}._target_={target}: both choose {part}; leave one out, "
            "or say null for one that is inherited"
        )
    if target is not None and old is None:  # somebody else's; a `kind` is a setting of theirs
        return {key: value for key, value in node.items() if key != "kind" or value is not None}
    if old is None and kind not in ours:
        raise ConfigError(f"{one_of(f'{part}.kind', format_value(kind), ours)}; a _target_ names a class of your own")
    return {"kind": old or kind, **{key: value for key, value in node.items() if key not in ("kind", "_target_")}}


def _data(raw: dict[str, Any] | None) -> dict[str, Any] | None:
    if raw is None or raw.get("file") is not None:
        return raw
    for key, value in raw.items():
        if value is not None:
            raise ConfigError(f"data.{key}={value}: of which data? Add data=FILE")
    return None


def dataclass_in(hint: Any) -> type | None:
    """The schema inside `Schema` or `Schema | None`."""
    return next((t for t in (hint, *get_args(hint)) if isinstance(t, type) and is_dataclass(t)), None)


def _compose(overrides: Sequence[str], folders: ConfigFolders) -> DictConfig:
    try:
        return _hydra(overrides, folders)
    except Exception as error:  # besides its own, Hydra lets errors of OmegaConf and of Python through
        raise ConfigError(_explain(error, overrides, folders)) from None


def _hydra(overrides: Sequence[str], folders: ConfigFolders) -> DictConfig:
    from hydra import compose, initialize_config_dir

    extra = []
    if folders.extra is not None:
        path = str(folders.extra.resolve()).replace("\\", "\\\\").replace("'", "\\'")
        extra = [f"hydra.searchpath=['file://{path}']"]
    with initialize_config_dir(str(folders.own.resolve()), version_base="1.3"):
        return compose("train", overrides=[*extra, *overrides])


def _explain(error: Exception, overrides: Sequence[str], folders: ConfigFolders) -> str:
    parsed = parse(overrides, folders)
    choices = [o for o in parsed if o.key_or_group in folders.groups and not isinstance(o.value(), dict)]
    try:
        known = _keys(_hydra([str(o.input_line) for o in choices], folders))
    except Exception:  # the choices themselves do not compose: Hydra's first line says why
        for choice in choices:
            if (option := str(choice.value())) in folders.groups[choice.key_or_group]:
                folders.read(choice.key_or_group, option)  # raises for one that inherits from itself
        return first_line(error)
    everything = [*known, *(group for group in folders.groups if group not in known)]
    for o in parsed:
        if o.is_delete() or o.is_add() or o.is_force_add():
            continue
        for key, value in _leaves(o):
            part = key.partition(".")[0]
            if part in folders.groups and part != key and not any(k.startswith(f"{part}.") for k in known):
                options = [option for option in folders.groups[part] if option != "none"]
                return f"{key}: this run has no {part}; choose one with {part}={' or '.join(options)}"
            if key not in everything:
                holds_settings = any(k.startswith(f"{o.key_or_group}.") for k in known)
                if isinstance(o.value(), dict) and o.key_or_group in known and not holds_settings:
                    return f"{o.input_line}: {o.key_or_group} has no settings; {as_text(str(o.input_line))}"
                return unknown_key(key, value, everything)
    return first_line(error)


def _leaves(override: Override) -> list[tuple[str, str]]:
    """The settings that are typed, each as it was: `evaluation={every:9}` sets evaluation.every."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, dict):
        return [(inner, str(v)) for inner, v in flatten(value, key).items()]
    return [(key, str(override.input_line).partition("=")[2])]


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in map(str, node):
        keys.append(f"{prefix}{key}")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += _keys(child, f"{prefix}{key}.")
    return keys


def _to_node(schema: type, values: dict[str, Any], path: str = "") -> DictConfig:
    """`values` in a node of `schema`, key by key, so that an error can name its key."""
    node = copy.deepcopy(_blank(schema))
    hints = _hints(schema)
    for key, value in values.items():
        where = f"{path}{key}"
        if key not in hints:
            raise ConfigError(unknown_key(where, None, [f"{path}{name}" for name in hints]))
        inner = dataclass_in(hints[key])
        if not path and key in PARTS and isinstance(value, dict):
            inner = schema_of(key, value)
        if inner is not None and isinstance(value, dict):
            value = _to_node(inner, value, f"{where}.")
        allows = read_allowed(schema)[key]
        try:
            node[key] = allows.names.get(value, value) if isinstance(value, str) else _whole(value, hints[key])
        except OmegaConfBaseException:
            names = (f"{name} ({n})" for name, n in allows.names.items())
            kind = ", or ".join((kind_in_words(hints[key], where, allows), *names))
            said = f"{where}={format_value(value)}: expected {kind}"
            if isinstance(value, list | dict) and str in (hints[key], *get_args(hints[key])):
                raise TextExpected(said, where) from None
            raise ConfigError(said) from None
    return node


@cache
def _blank(schema: type) -> DictConfig:
    """A node of `schema` with its defaults, to be copied: making one takes five times as long."""
    return cast("DictConfig", OmegaConf.structured(schema))


_hints = cache(get_type_hints)


def _whole(value: Any, hint: Any) -> Any:
    """1e6 is a float to YAML and to Hydra, and a whole number to a person who types it where one is expected.

    1 is a whole number to them, and a number to a person who types it where that or a word is expected.
    """
    if isinstance(value, list):
        return [_whole(item, get_args(hint)[0] if get_args(hint) else None) for item in value]
    if type(value) is int and hint == float | str:
        return float(value)
    is_exact = isinstance(value, float) and value.is_integer() and abs(value) <= 2**53
    return int(value) if is_exact and int in (hint, *get_args(hint)) else value


def kind_in_words(hint: Any, where: str, allows: Allowed) -> str:
    """A type in a person's words."""
    if hint == float | str:
        return f"a number, or {allows.word}"
    if type(None) in get_args(hint):
        (inner,) = (t for t in get_args(hint) if t is not type(None))
        return f"{kind_in_words(inner, where, allows)}, or null"
    if get_args(hint):
        return f"a list like {'[1,2]' if get_args(hint) == (int,) else '[a,b]'}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, f"its settings one by one, as in {where}.KEY=VALUE")
