"""The protocol of a logger, one run's place in a dashboard; all loggers, and the packages they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from llmrl.core.overrides import ConfigError, one_of
from llmrl.schema.fields import read_allowed
from llmrl.schema.loggers import LoggerConfig, TensorBoardConfig, TrackioConfig, WandbConfig

LOGGERS: dict[str, tuple[type, str]] = {  # the name is that of the package, and of the extra, too
    "tensorboard": (TensorBoardConfig, "TensorBoard"),
    "wandb": (WandbConfig, "Wandb"),
    "trackio": (TrackioConfig, "Trackio"),
}
assert list(LOGGERS) == [f.name for f in fields(LoggerConfig)]


class LoggerError(ValueError):
    """A dashboard that does not take what it is sent. The message is for a person."""

    exit_code = 1


@dataclass(frozen=True)
class Sent:
    """The facts of a run that a dashboard is sent once."""

    name: str  # of its folder
    id: str  # the same at every attempt, and in every copy of the folder
    config: dict[str, Any]


class Logger(Protocol):
    """One run in a dashboard, from the moment that the object is made. Whatever fails there is raised."""

    first: int  # the first step that it has not yet, of an earlier attempt
    where: str  # for a person

    def __init__(self, settings: Mapping[str, Any], run: Sent) -> None: ...

    @staticmethod
    def has(settings: Mapping[str, Any], run: Sent) -> bool:
        """Whether what was sent is still there, as far as that can be known without asking a server."""
        ...

    def write(self, step: int, row: Mapping[str, float]) -> None: ...

    def finish(self, summary: Mapping[str, Any], last: int, complete: bool) -> None:
        """Returns when all is there. `last`: the step of the last row; `complete`: no row will follow."""
        ...


def logger_class(name: str) -> type[Logger]:
    found: type[Logger] = getattr(import_module(f"llmrl.loggers.{name}"), LOGGERS[name][1])
    return found


def chosen_loggers(node: DictConfig | Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The loggers of a config's `logger`, with their settings."""
    plain: Any = OmegaConf.to_container(node) if isinstance(node, DictConfig) else node
    return {name: dict(settings) for name, settings in (plain or {}).items() if settings is not None}


def settings_of(name: str, config: Mapping[str, Any], typed: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The typed settings, else those of the run's config, else the defaults; `names`: all loggers they were typed for.

    Raises ConfigError for what was typed and none of them has.
    """
    own = {key: value for key, value in typed.items() if value is not None}
    known = {key for each in names for key in asdict(LOGGERS[each][0]())}
    for key in own.keys() - known:
        raise ConfigError(f"--{key.replace('_', '-')}: {' and '.join(names)} has no such setting")
    for key, allows in read_allowed(LOGGERS[name][0]).items():
        if key in own and allows.choices and own[key] not in allows.choices:
            raise ConfigError(one_of(f"--{key}", own[key], allows.choices))
    settings = asdict(LOGGERS[name][0]()) | chosen_loggers(config.get("logger")).get(name, {})
    return settings | {key: value for key, value in own.items() if key in settings}


def refuse_missing_package(name: str, asked: str) -> None:
    """Raises ConfigError where the package of a logger is not installed; `asked`: what was typed."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:  # a folder of this name in the working directory is no package
        raise ConfigError(f"{asked} needs the package {name}, which is not installed: pip install 'llmrl[{name}]'")


def absolute(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that mean the same in every working directory."""
    folders = [key for key in ("folder", "dir") if settings.get(key) is not None]
    return {**settings, **{key: str(Path(settings[key]).absolute()) for key in folders}}
