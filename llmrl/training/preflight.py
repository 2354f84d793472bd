"""Checks of a run's needs beside its settings, before anything is made: code, packages, data, folders.

`llmrl.config.checks` refuses settings that contradict each other. Imports nothing heavy by itself.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from llmrl.config.checks import refuse_keyless
from llmrl.core.files import unwritable
from llmrl.core.overrides import ConfigError, format_value
from llmrl.core.suggestions import did_you_mean
from llmrl.core.targets import import_target
from llmrl.run.identity import data_rows
from llmrl.schema.envs import AlfworldConfig
from llmrl.schema.kinds import OLD_TARGETS, PARTS, has_schema, kind_of, schema_of
from llmrl.schema.lm import ModelConfig

CALLED_WITH_ITS_KEYS = ("env", "lm")  # the others take their config as a whole


def refuse_unready(cfg: DictConfig) -> None:
    """Raises ConfigError where it is known already that the run of a checked config could not be made, or not end."""
    refuse_keyless(cfg)
    for part in PARTS:
        if cfg[part] is not None and kind_of(part, cfg[part]) is None:
            _refuse_foreign(part, cfg[part])
    if cfg.prior._target_ is not None:
        _refuse_foreign("prior", cfg.prior)
    _refuse_weights(cfg)
    if has_schema("env", cfg.env, AlfworldConfig):
        _refuse_without_alfworld()
    if cfg.data is None:
        if cfg.rollout.num_envs > cfg.env_steps:
            raise ConfigError(
                f"rollout.num_envs={cfg.rollout.num_envs}: a run of env_steps={cfg.env_steps} decisions never acts in "
                f"all of them; use rollout.num_envs={cfg.env_steps} or fewer"
            )
    elif cfg.data.size is not None and cfg.data.size > (rows := data_rows(cfg.data.file)):
        raise ConfigError(
            f"data.size={cfg.data.size}: {cfg.data.file} holds {rows:,} transitions; leave data.size out for all"
        )
    if cfg.prompt is not None and cfg.prompt.shots:
        from llmrl.build import build_prompt

        build_prompt(cfg)  # raises where there are no examples
    if cfg.prior.source == "copied":
        from llmrl.build import build_copied

        build_copied(OmegaConf.to_object(cfg))  # type: ignore[arg-type]
    _refuse_places(cfg)


def refuse_output(option: str, file: Path) -> None:
    """Raises ConfigError where `file`, which `option` names, cannot be written."""
    if file.is_dir():
        raise ConfigError(f"{option} {file}: this is a folder; name a file in it")
    if reason := unwritable(file.parent):
        raise ConfigError(f"{option} {file}: {reason}; name a file in another folder")


def _refuse_foreign(part: str, node: DictConfig) -> None:
    path = str(node.get("_target_"))
    try:
        found = import_target(path)
    except ValueError as error:
        raise ConfigError(f"{part}.{error}{did_you_mean([path], OLD_TARGETS.get(part, ()))}") from None
    if not callable(found):
        raise ConfigError(f"{part}._target_={path} is of type {type(found).__name__}, and cannot be called")
    if part in CALLED_WITH_ITS_KEYS:
        _refuse_arguments(part, path, found, node)


def _refuse_arguments(part: str, path: str, found: Any, node: DictConfig) -> None:
    """Settings that it does not take, or lacks."""
    arguments = {str(key): None for key in node if key not in ("_target_", "name")}
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # what is written in C has none
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{part}: {path}{signature} and {part}'s settings {format_value([*arguments])}: {error}"
        ) from None


def _refuse_weights(cfg: DictConfig) -> None:
    """A file of weights that does not fit; with an encoder that costs nothing to make, which a model does."""
    what = getattr(schema_of("learner", cfg.learner), "starts_from", None)
    if what is None or cfg.learner.weights is None or kind_of("encoder", cfg.encoder) != "hash":
        return
    from llmrl.encoders.hash import HashEncoder
    from llmrl.learners.weights import read_weights

    encoder = HashEncoder(OmegaConf.to_object(cfg.encoder))  # type: ignore[arg-type]
    try:
        read_weights(cfg.learner.weights, what, encoder, cfg.learner.hidden)
    except ValueError as error:
        raise ConfigError(f"learner.weights: {error}") from None


def _refuse_without_alfworld() -> None:
    from llmrl.envs.alfworld.games import NoGames, data_root
    from llmrl.envs.alfworld.packages import MissingPackages, require

    try:
        require()
        data_root()
    except (MissingPackages, NoGames) as missing:
        raise ConfigError(str(missing)) from None


def _refuse_places(cfg: DictConfig) -> None:
    if reason := unwritable(Path(cfg.paths.runs)):
        raise ConfigError(f"paths.runs={cfg.paths.runs}: {reason}; choose another place with paths.runs=FOLDER")
    if cfg.lm is None and not has_schema("encoder", cfg.encoder, ModelConfig):
        return
    from llmrl.answers.cache_file import cache_path

    cache = cache_path(cfg.paths.cache)
    reason = "this is a folder, and answers are kept in a file" if cache.is_dir() else None
    if not cache.exists():  # one that is there may be read without being written
        reason = unwritable(cache.parent)
    if reason:
        raise ConfigError(f"answers cannot be kept in {cache}: {reason}; choose another place with paths.cache=FILE")
