"""A trained agent under other settings: what may still be changed once it has learned, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from llmrl.build import Parts
from llmrl.config.compose import ConfigError, check, config_folder
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigFolders, parse, unknown_key
from llmrl.run.checkpoint import read_weights
from llmrl.run.load import RunInfo

CHANGEABLE = (
    "seed", "env.", "lm.", "prompt.", "prior.", "learner.alpha", "learner.alpha_eval", "threads", "paths.cache",
    "cached_only",
)  # fmt: skip
NO_EFFECT = ("prior.behaviour.", "prior.target.", "prior.uniform_after")  # it acts by the evaluation's support


def changed_config(run: RunInfo, overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """A run's config with some settings changed: those that make sense after training. Raises ConfigError."""
    if not run.config:
        raise ValueError(f"{run.path / 'config.yaml'} is missing, so that the trained agent is unknown")
    folders = ConfigFolders(config_folder(), config_dir)
    cfg = OmegaConf.create(OmegaConf.to_container(check(OmegaConf.create(run.config), folders)))
    assert isinstance(cfg, DictConfig)
    cfg.cached_only = False  # what the run was held to; whatever comes now may be held to it anew
    known = flatten(OmegaConf.to_container(cfg))
    for o in parse(overrides, folders):
        if o.key_or_group in folders.groups and not isinstance(o.value(), dict):
            raise ConfigError(f"{o.input_line}: a run keeps its parts; change single settings, as in env.index=3")
        if o.is_sweep_override() or o.is_add() or o.is_force_add() or o.is_delete():
            raise ConfigError(f"{o.input_line}: write key=value, with one value")
        for key, value in flatten(o.value(), o.key_or_group).items():
            part = key.partition(".")[0]
            if part in ("lm", "prompt") and cfg[part] is None:
                raise ConfigError(f"{key}: {run.name} asks no model; there is none to be another one")
            if key not in known:
                raise ConfigError(unknown_key(key, str(value), known))
            if key == "learner.alpha" and cfg.learner.get("alpha_eval") is not None:
                raise ConfigError(f"{key}: learner.alpha_eval takes its place here; set that")
            if key.startswith(NO_EFFECT):
                setting = "uniform" if key == "prior.uniform_after" else key.rpartition(".")[2]
                raise ConfigError(f"{key}: candidates are drawn from prior.evaluation.{setting} here; set that")
            if not any(key == name or (name.endswith(".") and key.startswith(name)) for name in CHANGEABLE):
                names = ", ".join(f"{name}*" if name.endswith(".") else name for name in CHANGEABLE)
                raise ConfigError(f"{key}: it is too late to change this; a trained agent can be given another {names}")
            OmegaConf.update(cfg, key, value)
    return check(cfg, folders)


def load_weights(parts: Parts, checkpoint: Path) -> None:
    """Raises ValueError where they do not fit."""
    try:
        parts.load_state_dict(read_weights(checkpoint))
    except (RuntimeError, KeyError) as error:  # torch's way of saying that names or shapes differ
        reason = " ".join(str(error).split())
        raise ValueError(f"{checkpoint}: its weights do not fit the learner in config.yaml: {reason}") from error
