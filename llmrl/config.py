"""From what a person typed to a checked config, and from a config to the name of its run.

Hydra composes the YAML files under `configs/`; the dataclasses of `llmrl.schema` check the result. What stays is typed,
resolved and read-only. Nothing heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmrl.overrides import (
    ConfigError,
    ConfigFolders,
    closest_first,
    first_line,
    one_of,
    parse,
    refuse_secrets,
    unknown_key,
)
from llmrl.schema import (
    CHOICES,
    RANGES,
    SCHEMAS,
    DQNConfig,
    NoLearnerConfig,
    PriorConfig,
    TrainConfig,
    TransformersLMConfig,
)

if TYPE_CHECKING:
    from llmrl.lm.language_model import ModelIdentity

__all__ = [
    "ConfigError",
    "cells",
    "check",
    "compose",
    "config_folder",
    "free_settings",
    "model_identity",
    "result_settings",
    "run_id",
    "run_name",
]

SMALLEST_ALPHA = 1e-6  # Q/alpha is a float32
_PARTS = ("env", "lm", "learner", "encoder")  # chosen by `_target_`


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None) -> DictConfig:
    """The config of one run: what `llmrl train OVERRIDES` would do.

    `config_dir` is a person's own folder of config groups, beside llmrl's. Raises ConfigError.
    """
    folders = ConfigFolders(config_folder(), config_dir)
    for override in parse(overrides, folders):
        if override.is_sweep_override():
            raise ConfigError(
                f"{override.input_line} names several values: add -m to run each of them, "
                f"or quote one value that has a comma: {override.key_or_group}=\"'a,b'\""
            )
    return check(_compose(overrides, folders), folders)


def cells(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
    """The overrides of each run of a sweep, in Hydra's order: the last key varies fastest.

    Hydra's sweep syntax: `a,b`, `choice(a,b)`, `range(0,5)`, and `glob(*)` for the options of a group.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.errors import HydraException

    parsed = parse(overrides, ConfigFolders(config_folder(), config_dir))
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

    Where nothing asks a model, `lm` and `prompt` become null; where nothing is learned, `encoder`. A part whose
    `_target_` is somebody else's is taken as it is. Raises ConfigError.
    """
    folders = folders or ConfigFolders(config_folder())
    try:
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from None
    assert isinstance(plain, dict)
    raw: dict[str, Any] = {str(key): value for key, value in plain.items()}
    refuse_secrets(raw)
    raw |= {part: raw.get(part) or None for part in _PARTS}  # a YAML file that holds only null composes as {}
    if isinstance(prior := raw.get("prior"), dict) and prior.get("source", "uniform") == "uniform":
        raw["lm"] = raw["prompt"] = None
    schema = _schema_of(raw["learner"])
    if schema is NoLearnerConfig:
        raw["encoder"] = None
    if schema is DQNConfig and raw["learner"].get("backup", "max") != "max":
        raw["learner"]["double_q"] = False
    typed = _typed(TrainConfig, raw)
    _refuse_missing(typed)
    _refuse_values(typed)
    _refuse_combinations(typed, folders)
    OmegaConf.set_struct(typed, True)
    OmegaConf.set_readonly(typed, True)
    return typed


def run_id(cfg: DictConfig) -> str:
    """What names the run: SHA-256, in hex, over canonical JSON of every setting that can change its result."""
    cfg = check(cfg)
    settings = result_settings(cfg)
    identity = model_identity(cfg)
    if identity is not None:
        settings["lm"] |= asdict(identity)
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_name(cfg: DictConfig, digits: int = 8) -> str:
    """The name of the run's folder. `digits`: how much of the run id it shows."""
    return f"{cfg.env.name}-{cfg.learner.name}-{cfg.prior.name}-s{cfg.seed}-{run_id(cfg)[:digits]}"


def model_identity(cfg: DictConfig) -> ModelIdentity | None:
    """The identity of the run's language model, with its resolved revision; None where none is asked.

    Raises ConfigError for a model that cannot be found.
    """
    if cfg.lm is None or _schema_of(cfg.lm) is not TransformersLMConfig:
        return None
    from llmrl.lm.identify import identify

    try:
        return identify(cfg.lm.model, cfg.lm.revision, cfg.lm.dtype)
    except ValueError as error:
        raise ConfigError(str(error)) from error


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
    package = Path(__file__).parent
    found = next(
        (root / "configs" for root in (package, package.parent) if (root / "configs" / "train.yaml").is_file()), None
    )
    if found is None:
        raise ConfigError(
            f"llmrl's configs are missing: neither {package} nor {package.parent} has configs/train.yaml; reinstall"
        )
    return found


def _free(schema: type, path: str, parts: Mapping[str, type]) -> set[str]:
    free: set[str] = set()
    hints = get_type_hints(schema)
    for f in fields(schema):
        inner = parts.get(f.name) if not path else None
        inner = inner or _dataclass_in(hints[f.name])
        if not f.metadata.get("affects_result", True):
            free |= {f"{path}{f.name}"} | ({f"{path}{f.name}.{g.name}" for g in fields(inner)} if inner else set())
        elif inner is not None:
            free |= _free(inner, f"{path}{f.name}.", {})
    return free


def _schema_of(part: Any) -> type | None:
    """The schema of a component, by its `_target_`; somebody else's has none."""
    return SCHEMAS.get(str(part.get("_target_"))) if part else None


def _dataclass_in(hint: Any) -> type | None:
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
        return first_line(error)
    everything = [*known, *(group for group in folders.groups if group not in known)]
    for o in parsed:
        if o.is_delete() or o.is_add() or o.is_force_add():
            continue
        for key, value in _leaves(o.key_or_group, o.value()):
            part = key.partition(".")[0]
            if part in folders.groups and part != key and not any(k.startswith(f"{part}.") for k in known):
                options = [option for option in folders.groups[part] if option != "none"]
                return f"{key}: this run has no {part}; choose one with {part}={' or '.join(options)}"
            if key not in everything:
                return unknown_key(key, value, everything)
    return first_line(error)


def _leaves(key: str, value: Any) -> list[tuple[str, str]]:
    """`evaluation={every:9}` sets evaluation.every."""
    if isinstance(value, dict):
        return [leaf for inner, v in value.items() for leaf in _leaves(f"{key}.{inner}", v)]
    return [(key, str(value))]


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
    node: DictConfig = OmegaConf.structured(schema)
    hints = get_type_hints(schema)
    for key, value in values.items():
        where = f"{path}{key}"
        if key not in hints:
            raise ConfigError(unknown_key(where, None, [f"{path}{name}" for name in hints]))
        inner = _dataclass_in(hints[key])
        if not path and key in _PARTS and isinstance(value, dict):
            inner = _schema_of(value)
        if inner is not None and isinstance(value, dict):
            value = _typed(inner, value, f"{where}.")
        try:
            node[key] = value
        except OmegaConfBaseException:
            raise ConfigError(f"{where}={_shown(value)}: expected {_kind(hints[key], where)}") from None
    return node


def _shown(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool | list | dict) else str(value)


def _kind(hint: Any, where: str) -> str:
    """A type in a person's words."""
    if type(None) in get_args(hint):
        (inner,) = (t for t in get_args(hint) if t is not type(None))
        return f"{_kind(inner, where)}, or null"
    if get_args(hint):
        return f"a list like {'[1,2]' if get_args(hint) == (int,) else '[a,b]'}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, f"its settings one by one, as in {where}.KEY=VALUE")


def _refuse_missing(cfg: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if "lm.model" in missing:
        raise ConfigError(f"lm={cfg.lm.name} needs a model: add lm.model=FOLDER_OR_HUB_ID")
    for part in ("env", "learner"):
        if part in missing or cfg[part] is None:
            raise ConfigError(f"{part} is missing: add {part}={_an_option(part)}")
    if missing:
        raise ConfigError(f"no value for {', '.join(missing)}: add {missing[0]}=VALUE")


def _an_option(group: str) -> str:
    return "|".join(ConfigFolders(config_folder()).groups[group])


def _refuse_values(cfg: DictConfig) -> None:
    for key, choices in CHOICES.items():
        value = _select(cfg, key)
        if value is not None and value not in choices:
            raise ConfigError(one_of(key, value, choices))
    for key, allowed in RANGES.items():
        value = _select(cfg, key)
        for number in value if isinstance(value, ListConfig) else [value]:
            if number is not None and number not in allowed:
                raise ConfigError(f"{key}={_shown(number)}: it must be {allowed}")
    if cfg.numerics != TrainConfig.numerics:
        raise ConfigError(
            f"numerics={cfg.numerics}: this llmrl computes with numerics {TrainConfig.numerics}; "
            "it names the version of the arithmetic and is not chosen"
        )
    for part in ("env", "learner", "prior"):
        name = cfg[part].get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+]+(-[\w.+]+)*", name):
            raise ConfigError(
                f"{part}.name={name}: it becomes part of a folder's name; use letters, digits, _ . + and -"
            )


def _select(cfg: DictConfig, key: str) -> Any:
    """The value of a dotted key that a schema of ours vouches for, else None."""
    part, _, rest = key.rpartition(".")
    parent = OmegaConf.select(cfg, part) if part else cfg
    if not isinstance(parent, DictConfig) or not is_dataclass(OmegaConf.get_type(parent)) or rest not in parent:
        return None
    return parent[rest]


def _refuse_combinations(cfg: DictConfig, folders: ConfigFolders) -> None:
    learner, prior = cfg.learner, cfg.prior
    allowed = learner.get("priors")
    if allowed is not None and prior.name not in allowed:
        others = closest_first(
            learner.name, (name for name, priors in _learners(folders).items() if prior.name in priors)
        )
        instead = (
            f"use learner={' or '.join(others)}"
            if others
            else f"say learner.priors=[{','.join([*allowed, prior.name])}]"
        )
        raise ConfigError(f"{learner.name} takes prior={' or '.join(allowed)}; for prior={prior.name} {instead}")
    sources = {
        name: OmegaConf.select(OmegaConf.load(file), "source") for name, file in folders.groups.get("prior", {}).items()
    }
    if sources.get(prior.name, prior.source) != prior.source:
        others = [name for name, source in sources.items() if source == prior.source]
        raise ConfigError(
            f"prior.source={prior.source}: prior={prior.name} is made from {sources[prior.name]}; "
            f"for {prior.source} use prior={' or '.join(others)}"
        )
    if prior.source != "uniform" and cfg.lm is None:
        raise ConfigError(
            f"prior={prior.name} asks a language model and there is none: add lm=tiny, "
            "or lm=hf lm.model=FOLDER_OR_HUB_ID"
        )
    if prior.source != "uniform" and cfg.prompt is None:
        raise ConfigError(f"prior={prior.name} asks a language model and there is no prompt: add prompt=plain")
    if cfg.prompt is not None:
        from llmrl.priors.prompt import Prompt

        try:
            Prompt(cfg.prompt)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    _refuse_unread(prior)
    if OmegaConf.get_type(learner) is DQNConfig:
        _refuse_learner(cfg)


def _refuse_unread(prior: DictConfig) -> None:
    """A setting that this prior does not read would only rename the run, and a person would think they had tried it."""
    default, supports = PriorConfig(), ("behaviour", "target", "evaluation")
    if prior.source == "generated" and all(prior[use].k is None for use in supports):
        raise ConfigError("prior=generated counts k answers: say how many, as in prior.behaviour.k=5")
    reads = {"generated": "prior=generated", "scored": "prior=scored or sampled"}
    for source, keys in {
        "generated": ("max_tokens", "temperature", "top_p", "limit", "draw_seed"),
        "scored": ("normalise",),
    }.items():
        for key in keys:
            if prior.source != source and prior[key] != getattr(default, key):
                raise ConfigError(
                    f"prior.{key}={_shown(prior[key])}: prior={prior.name} does not read this; {reads[source]} does"
                )
    for use in supports:
        if prior[use].k is None and prior.source != "generated" and prior[use].redraw != "visit":
            raise ConfigError(
                f"prior.{use}.redraw={prior[use].redraw}: all admissible actions are considered and nothing is drawn; "
                f"add prior.{use}.k=5 to draw five"
            )


def _refuse_learner(cfg: DictConfig) -> None:
    learner = cfg.learner
    if cfg.encoder is None:
        raise ConfigError(f"learner={learner.name} learns from text and there is no encoder: add encoder=hash")
    for key in ("alpha", "alpha_eval"):
        if learner[key] is not None and 0 < learner[key] < SMALLEST_ALPHA:
            raise ConfigError(
                f"learner.{key}={learner[key]:g}: it must be 0 (greedy in Q) or at least {SMALLEST_ALPHA:g}"
            )
    if (learner.epsilon_final is None) != (learner.epsilon_decay == 0):
        raise ConfigError(
            "learner.epsilon_final and learner.epsilon_decay go together: where epsilon ends, and after how many "
            "decisions; leave both out for a constant epsilon"
        )
    if learner.batch > learner.buffer:
        raise ConfigError(f"learner.batch={learner.batch}: a buffer of {learner.buffer} never holds that many")


def _learners(folders: ConfigFolders) -> dict[str, list[str]]:
    """Learner -> the priors it takes, from the config files."""
    learners = {}
    for name, file in folders.groups.get("learner", {}).items():
        node = OmegaConf.load(file)
        learners[name] = list(OmegaConf.select(node, "learner.priors") or OmegaConf.select(node, "priors") or [])
    return learners
