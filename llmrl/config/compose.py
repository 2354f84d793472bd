"""From what a person typed to a checked config, and from a config to the name of its run.

Hydra composes the YAML files under `configs/`; the dataclasses of `llmrl.schema` check the result. What stays is typed,
resolved and read-only. Nothing heavy is imported.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmrl.config.checks import plain_settings, refuse
from llmrl.config.unread import NO_MORE_THAN, STANDS_FOR, Settings, asks_a_model, only_stop, unread
from llmrl.core.files import flatten
from llmrl.core.overrides import (
    ConfigError,
    ConfigFolders,
    TextExpected,
    as_text,
    first_line,
    long_form,
    parse,
    refuse_secrets,
    shown,
    unknown_key,
)
from llmrl.schema.encoders import ModelEncoderConfig
from llmrl.schema.fields import Allowed, allowed
from llmrl.schema.learners import BCConfig, DQNConfig, NoLearnerConfig
from llmrl.schema.lm import OpenAILMConfig, TransformersLMConfig
from llmrl.schema.run import SCHEMAS, TrainConfig

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from llmrl.lm.language_model import ModelIdentity

__all__ = [
    "ConfigError",
    "cells",
    "chat_template_of",
    "check",
    "checked",
    "compose",
    "config_folder",
    "free_settings",
    "model_identity",
    "named_settings",
    "result_settings",
    "run_id",
    "run_name",
    "unread_overrides",
]

_PARTS = ("env", "lm", "learner", "encoder")  # chosen by `_target_`


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


def cells(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
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
    """A composed config, checked against the schemas: typed, resolved, read-only, without what cannot change a result.

    Where nothing asks a model, `lm` and `prompt` become null; where nothing is learned, or the learner reads texts
    itself, `encoder`; a number's name becomes the number. A part whose `_target_` is somebody else's is taken as it is.
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
    raw |= {part: raw.get(part) or None for part in _PARTS}  # a YAML file that holds only null composes as {}
    if _schema_of(raw["lm"]) is OpenAILMConfig and raw["lm"].get("model", "???") == "???" and raw["lm"].get("serve"):
        raw["lm"]["model"] = raw["lm"]["serve"]
    learner = _schema_of(raw["learner"])
    raw["data"] = _data(raw.get("data"))
    learns_from_data = raw["data"] is not None and getattr(learner, "learns_from_data", False)
    if learns_from_data and raw["learner"].get("weights") == "???":
        raw["learner"]["weights"] = None
    if not getattr(learner, "reads_vectors", True):
        raw["encoder"] = None
    typed = _typed(TrainConfig, raw)
    if not asks_a_model(plain_settings(typed)):
        typed.lm = typed.prompt = None
    refuse(typed, folders)
    OmegaConf.set_struct(typed, True)
    OmegaConf.set_readonly(typed, True)
    return typed


def checked(cfg: DictConfig) -> DictConfig:
    """`check(cfg)`, where `cfg` is not as `check` leaves it already."""
    return cfg if OmegaConf.get_type(cfg) is TrainConfig and OmegaConf.is_readonly(cfg) else check(cfg)


def run_id(cfg: DictConfig) -> str:
    """What names the run: SHA-256, in hex, over canonical JSON of every setting that can change its result."""
    text = json.dumps(named_settings(cfg), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def named_settings(cfg: DictConfig) -> dict[str, Any]:
    """What the run id is a hash of: the settings that can change a result, and what models and files turn out to be.

    What the run does not read (llmrl/config/unread.py) is left out, whatever it is set to.
    """
    cfg = checked(cfg)
    settings: dict[str, Any] = result_settings(cfg)
    for part in ("lm", "encoder"):
        if identity := model_identity(cfg, part):
            settings[part] |= asdict(identity)
    if template := chat_template_of(cfg):
        settings["prompt"]["chat_template"] = template
    if _schema_of(cfg.learner) in (DQNConfig, BCConfig) and cfg.learner.weights is not None:
        settings["learner"]["weights"] = weights_contents(cfg.learner.weights)
    if cfg.data is not None:
        settings["data"]["file"] = data_contents(cfg.data.file)
        settings["data"]["size"] = cfg.data.size or data_rows(cfg.data.file)
    plain = plain_settings(cfg)
    stands = {key: OmegaConf.select(cfg, other) for key, other in STANDS_FOR.items() if _is_null(cfg, key)}
    stands |= {key: plain[other] for key, other in NO_MORE_THAN.items() if _is_above(cfg, key, plain[other])}
    for key, value in stands.items():
        part, _, name = key.rpartition(".")
        plain[part][name] = settings[part][name] = value
    if (end := only_stop(Settings.of(plain))) is not None:  # the run is named by prompt.end, which does the same
        plain["prompt"]["end"] = settings["prompt"]["end"] = end
        plain["prior"]["stop"] = None
        settings["prior"].pop("stop", None)
    for key in unread(plain):
        _leave_out(settings, key.split("."))
    return settings


def unread_overrides(overrides: Sequence[str], cfg: DictConfig, config_dir: Path | None = None) -> list[str]:
    """A line for each choice and setting that was typed and that the run `cfg`, which came of it, does not read."""
    found = {key: rule.why for key, rule in unread(plain_settings(cfg)).items()}
    parsed = parse(long_form(overrides), ConfigFolders(config_folder(), config_dir))
    learner = f"learner={cfg.learner.name}"
    asker = f"prior={cfg.prior.name}" if "prior" in [o.key_or_group for o in parsed] else learner
    learns = _schema_of(cfg.learner) is not NoLearnerConfig
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


def run_name(cfg: DictConfig, digits: int = 8) -> str:
    """The name of the run's folder. `digits`: how much of the run id it shows."""
    return f"{cfg.env.name}-{cfg.learner.name}-{cfg.prior.name}-s{cfg.seed}-{run_id(cfg)[:digits]}"


def model_identity(cfg: DictConfig, part: str = "lm") -> ModelIdentity | None:
    """The identity of the model behind `lm` or `encoder`, with its resolved revision; None where there is none.

    Where only what is kept may be used (`cached_only`), a model that cannot be found is the one whose answers are kept.
    Raises ConfigError for one that cannot be found.
    """
    node = cfg[part]
    if node is None or _schema_of(node) not in (TransformersLMConfig, OpenAILMConfig, ModelEncoderConfig):
        return None
    from llmrl.lm.identify import identify, identify_served
    from llmrl.lm.language_model import with_bos

    try:
        if "/" not in node.model and node.get("tokenizer") is None:  # else it is declared, and the server has it
            _refuse_missing_model(cfg, part)
        if _schema_of(node) is OpenAILMConfig:
            return identify_served(node.model, node.revision, node.dtype, node.tokenizer)
        return with_bos(identify(node.model, node.revision, node.dtype, part), node.get("bos"))
    except ValueError as error:
        if not cfg.cached_only:
            raise ConfigError(str(error)) from error
        return _kept_identity(cfg, part, str(error))


def _refuse_missing_model(cfg: DictConfig, part: str) -> None:
    """Raises ConfigError for a model that `llmrl models get` has still to get."""
    from llmrl.models.get import refuse_missing

    own = Path(cfg.paths.config_dir) if cfg.paths.config_dir is not None else None
    refuse_missing(cfg[part].model, part, ConfigFolders(config_folder(), own if own and own.is_dir() else None))


def chat_template_of(cfg: DictConfig) -> str | None:
    """What names the chat template of the run's model; None where nothing is said to it. Raises ConfigError."""
    if cfg.prompt is None or cfg.prompt.kind != "chat":
        return None
    if _schema_of(cfg.lm) not in (TransformersLMConfig, OpenAILMConfig):
        return "its own"  # somebody else's model says what it is by its identity
    from llmrl.lm.identify import chat_template

    try:
        return chat_template(cfg.lm.model, cfg.lm.revision, cfg.lm.get("tokenizer"))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _kept_identity(cfg: DictConfig, part: str, why: str) -> ModelIdentity:
    from llmrl.answers.file import AnswerCacheError, cache_path
    from llmrl.answers.scan import identities
    from llmrl.lm.language_model import ModelIdentity

    node, path = cfg[part], cache_path(cfg.paths.cache)
    try:
        found = identities(path, node.model, node.revision, node.dtype)
    except AnswerCacheError as error:
        raise ConfigError(f"{why}; and nothing is kept: {error}") from error
    if len(found) == 1:
        return ModelIdentity(**found[0])
    if not found:
        raise ConfigError(f"{why}; and {path} keeps nothing of it: bring that in with `llmrl cache import FILE`")
    revisions = " or ".join(f"{part}.revision={about['revision']}" for about in found)
    raise ConfigError(f"{path} keeps answers of {len(found)} models that {node.model} may stand for: type {revisions}")


def result_settings(node: Any) -> Any:
    """A checked config as plain data, without the fields that cannot change a result.

    A field with `affects_result` false in its metadata is left out, and so is one whose value equals the
    `absent_default` of its metadata: the value that means what was done before the field existed, so that older runs
    keep their names. A part without a schema enters whole.
    """
    if isinstance(node, ListConfig):
        return [result_settings(item) for item in node]
    if not isinstance(node, DictConfig):
        return node
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        return {str(key): result_settings(value) for key, value in node.items()}
    settings = {}
    for f in fields(schema):
        value = result_settings(node[f.name])
        absent = "absent_default" in f.metadata and value == f.metadata["absent_default"]
        if f.metadata.get("affects_result", True) and not absent:
            settings[f.name] = value
    return settings


def free_settings(config: Mapping[str, Any]) -> set[str]:
    """The dotted keys of a saved config that cannot change a result."""
    parts = {part: _schema_of(config.get(part)) for part in _PARTS}
    return _free(TrainConfig, "", {part: schema for part, schema in parts.items() if schema is not None})


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


def weights_contents(weights: str) -> str:
    """A file's SHA-256: what is in it, wherever it lies."""
    try:
        with Path(weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"learner.weights={weights}: there is no such file to read ({error.strerror})") from None


def data_contents(file: str) -> str:
    """The hash of a data set's rows: what is learned from, wherever it lies."""
    from llmrl.data.files import DataError, content_of

    try:
        return content_of(Path(file))
    except DataError as error:
        raise ConfigError(f"data={error}") from None


def data_rows(file: str) -> int:
    """How many transitions a data set has."""
    from llmrl.data.files import DataError, rows_of

    try:
        return rows_of(Path(file))
    except DataError as error:
        raise ConfigError(f"data={error}") from None


def data_world(file: str) -> dict[str, Any] | None:
    """The world that a data set was collected in, as a config's `env`; None where the file does not say."""
    from llmrl.data.files import DataError, world_of

    try:
        return world_of(Path(file))
    except DataError as error:
        raise ConfigError(f"data={error}") from None


def _is_null(cfg: DictConfig, key: str) -> bool:
    part, _, name = key.rpartition(".")
    return cfg[part] is not None and name in cfg[part] and cfg[part][name] is None


def _is_above(cfg: DictConfig, key: str, limit: int) -> bool:
    value = OmegaConf.select(cfg, key)
    return value is not None and value > limit


def _leave_out(settings: dict[str, Any], path: Sequence[str]) -> None:
    """Takes what is at `path` out of nested settings, and a part that is then empty."""
    first, *rest = path
    if rest and isinstance(settings.get(first), dict):
        _leave_out(settings[first], rest)
    if first in settings and (not rest or settings[first] == {}):
        del settings[first]


def _data(raw: dict[str, Any] | None) -> dict[str, Any] | None:
    if raw is None or raw.get("file") is not None:
        return raw
    for key, value in raw.items():
        if value is not None:
            raise ConfigError(f"data.{key}={value}: of which data? Add data=FILE")
    return None


def _free(schema: type, path: str, parts: Mapping[str, type]) -> set[str]:
    free: set[str] = set()
    hints = _hints(schema)
    for f in fields(schema):
        inner = parts.get(f.name) if not path else None
        inner = inner or dataclass_in(hints[f.name])
        if not f.metadata.get("affects_result", True):
            free |= {f"{path}{f.name}"} | ({f"{path}{f.name}.{g.name}" for g in fields(inner)} if inner else set())
        elif inner is not None:
            free |= _free(inner, f"{path}{f.name}.", {})
    return free


def _schema_of(part: Any) -> type | None:
    """The schema of a component, by its `_target_`; somebody else's has none."""
    return SCHEMAS.get(str(part.get("_target_"))) if part else None


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


def _typed(schema: type, values: dict[str, Any], path: str = "") -> DictConfig:
    """`values` in a node of `schema`, key by key, so that an error can name its key."""
    node = copy.deepcopy(_blank(schema))
    hints = _hints(schema)
    for key, value in values.items():
        where = f"{path}{key}"
        if key not in hints:
            raise ConfigError(unknown_key(where, None, [f"{path}{name}" for name in hints]))
        inner = dataclass_in(hints[key])
        if not path and key in _PARTS and isinstance(value, dict):
            inner = _schema_of(value)
        if inner is not None and isinstance(value, dict):
            value = _typed(inner, value, f"{where}.")
        allows = allowed(schema)[key]
        try:
            node[key] = allows.names.get(value, value) if isinstance(value, str) else _whole(value, hints[key])
        except OmegaConfBaseException:
            names = (f"{name} ({n})" for name, n in allows.names.items())
            kind = ", or ".join((kind_in_words(hints[key], where, allows), *names))
            said = f"{where}={shown(value)}: expected {kind}"
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
