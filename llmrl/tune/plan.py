"""A search as it will be run: everything that can be wrong with it is found before the first trial."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, IntegerNode, OmegaConf
from optuna.distributions import FloatDistribution, IntDistribution

from llmrl.config.compose import compose, config_folder
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigError, ConfigFolders, one_of, parse, unknown_key
from llmrl.run.identity import data_world
from llmrl.schema.kinds import kind_of
from llmrl.tune.read_parameters import Reads
from llmrl.tune.space import AHEAD, STARTUP, Space

_OWN = {"env": "--task 'env=...'", "seed": "--seed N", "paths": "--out FOLDER", "numerics": "nothing: it is not chosen"}
_AREA = "mean over tasks and seeds of the area under eval/success over env_steps, 0 to 1"
_FINAL = "mean over tasks and seeds of eval/success after the last gradient step, 0 to 1"
_YARDSTICK = ("env_steps", "evaluation", "checkpoint_every", "threads", "progress")  # of the search, not of the agent


@dataclass(frozen=True)
class Plan:
    """`trials` trials; each is one run per task and seed, with `overrides` and what the trial tries."""

    space: Space
    overrides: list[str]
    tasks: list[str]
    seeds: list[int]
    trials: int
    sampler_seed: int
    env_steps: int  # decisions of one run; 0 where it learns from data
    numerics: int
    config_dir: Path | None

    def compose(self, parameters: dict[str, Any], task: str, seed: int, runs: Path) -> DictConfig:
        """The config of one run of a trial. Raises ConfigError where the settings do not fit together."""
        own = [*shlex.split(task), f"seed={seed}", f"paths.runs={_quote(runs)}"]
        return compose([*self.overrides, *self.space.overrides_of(parameters), *own], self.config_dir)

    def propose(self, number: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`Space.propose`, without what no run of the trial would read."""
        return self.space.propose(
            number, rows, self.sampler_seed, lambda parameter, values: self.reads.why_not(parameter, values) is None
        )

    @cached_property
    def reads(self) -> Reads:
        def compose_one(overrides: list[str], task: str) -> DictConfig:
            own = [*shlex.split(task), f"seed={self.seeds[0]}"]
            return compose([*self.overrides, *overrides, *own], self.config_dir)

        return Reads(self.space, self.tasks, compose_one, ConfigFolders(config_folder(), self.config_dir))

    @property
    def runs(self) -> int:
        """Runs of one trial."""
        return len(self.tasks) * len(self.seeds)

    @property
    def decisions(self) -> int:
        """The whole budget."""
        return self.trials * self.runs * self.env_steps

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of a search, as plain data. The number of trials is not in it: it may be raised."""
        return {
            "space": self.space.plain["parameters"],
            "overrides": self.overrides,
            "tasks": self.tasks,
            "seeds": self.seeds,
            "env_steps": self.env_steps,
            "objective": _AREA if self.env_steps else _FINAL,
            "sampler": {"name": "TPE", "seed": self.sampler_seed, "startup": STARTUP, "ahead": AHEAD},
            "numerics": self.numerics,
        }

    def agent(self, parameters: dict[str, Any]) -> list[str]:
        """The overrides that make the agent of a trial, in any world and with any budget."""
        kept = [text for text in self.overrides if _part(text) not in _YARDSTICK]
        return [*kept, *self.space.overrides_of(parameters)]


def plan(
    space: str,
    overrides: Sequence[str] = (),
    *,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    trials: int | None = None,
    sampler_seed: int = 0,
    config_dir: Path | None = None,
) -> Plan:
    """The search of `space`: a name in `configs/tune/` (or in `config_dir`'s `tune/`), or a YAML file.

    Arguments replace the values of the space's file; an override replaces the file's of the same key. Raises
    ConfigError for a search that could not run, and for a task that results are reported on.
    """
    folders = ConfigFolders(config_folder(), config_dir)
    file = _file(space, folders)
    found = Space.read(file)
    base = _replace(found.overrides, overrides, folders)
    chosen = list(tasks or found.tasks)
    chosen_seeds = list(seeds or found.seeds)
    for what, values in (("tasks", chosen), ("seeds", chosen_seeds)):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"{what} must be one or more different ones, and are {values}")
    _refuse_own(base, "overrides")
    for task in chosen:
        _refuse_other_than_env(task)
    planned = Plan(
        found, base, chosen, chosen_seeds, found.trials if trials is None else trials, sampler_seed, 0, 0, config_dir
    )
    for task in chosen:
        _refuse_reported(planned.compose({}, task, chosen_seeds[0], Path("runs")), task)
    cfg = planned.compose({}, chosen[0], chosen_seeds[0], Path("runs"))
    _refuse_parameters(file, planned, cfg, folders)
    planned = replace(planned, space=_in_whole_numbers(file, found, cfg))
    decisions = cfg.env_steps if cfg.data is None else 0
    return replace(planned, env_steps=decisions, numerics=cfg.numerics)


def _file(space: str, folders: ConfigFolders) -> Path:
    if space.endswith((".yaml", ".yml")):
        if not Path(space).is_file():
            raise ConfigError(f"--space {space}: there is no such file")
        return Path(space)
    names = {f.stem: f for root in (folders.own, folders.extra) if root for f in sorted((root / "tune").glob("*.yaml"))}
    if space not in names:
        raise ConfigError(f"{one_of('--space', space, names)}; or name a .yaml file")
    return names[space]


def _replace(own: Sequence[str], typed: Sequence[str], folders: ConfigFolders) -> list[str]:
    for override in parse([*typed], folders):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: a setting that is not searched has one value")
    keys = {_key(text) for text in typed}
    return [*(text for text in own if _key(text) not in keys), *typed]


def _refuse_own(overrides: Sequence[str], where: str) -> None:
    for text in overrides:
        if _part(text) in _OWN:
            raise ConfigError(f"{where}: {text} is set by the search itself; say {_OWN[_part(text)]}")


def _refuse_other_than_env(task: str) -> None:
    try:
        texts = shlex.split(task)
    except ValueError as error:
        raise ConfigError(f"task {task!r}: {error}") from None
    for text in texts or [task]:
        if _part(text) not in ("env", "data"):
            raise ConfigError(
                f"task {task!r}: a task names a world, as in 'env=overcooked_random env.index=0', and perhaps its data"
            )


def _refuse_reported(cfg: DictConfig, task: str) -> None:
    """Settings chosen on what is reported would make the report worthless."""
    reason = _explain_reported(cfg.env)
    if cfg.data is not None and not reason and (collected := data_world(cfg.data.file)) is not None:
        reason = _explain_reported(collected)
        reason = reason and f"the data of {cfg.data.file} were collected where {reason}"
    if reason:
        raise ConfigError(
            f"task {task!r}: {reason}, so nothing is tuned on it; use development tasks: "
            "'env=overcooked_random env.split=dev env.index=N', 'env=household/TASK env.split=dev env.index=N', "
            "'env=alfworld/TASK env.split=train env.index=N' or 'env=frozen_lake env.layout=random env.index=N'"
        )


def _explain_reported(env: Mapping[str, Any]) -> str | None:
    """Why nothing is to be tuned in a world; None where something may."""
    kind = kind_of("env", env)
    if kind in ("overcooked_salad", "overcooked_tomato"):
        return "results are reported on it"
    split = env.get("split")
    read = "the embedded model's training data"
    reported = "for reported results"
    if kind == "overcooked_random" and split != "dev":
        return f"split {split} is {reported if split == 'test' else read}"
    if kind == "household" and split != "dev":
        return f"split {split} is {read if split == 'corpus' else reported}"
    if kind == "alfworld" and split != "train":
        return f"split {split} is {reported}"
    if kind == "frozen_lake" and env.get("layout") == "standard":
        return "results are reported on gymnasium's own map"
    return None


def _refuse_parameters(file: Path, planned: Plan, cfg: DictConfig, folders: ConfigFolders) -> None:
    """A misspelt key would otherwise be found by the first trial that tries it, or by none."""
    fixed = {_key(text) for text in planned.overrides}
    plain: Any = OmegaConf.to_container(cfg)
    known = [*flatten(plain), *folders.groups]
    for parameter in planned.space.parameters:
        for texts in parameter.examples:
            for override in parse(texts, folders):
                key, text = override.key_or_group, override.input_line
                part = key.partition(".")[0]
                if override.is_sweep_override():
                    raise ConfigError(f"{file}: {parameter.name}: {text} names several values; make them choices")
                if key in fixed:
                    raise ConfigError(f"{key} is given, and {file} searches it: leave out one of the two")
                if part in _OWN or part in _YARDSTICK:
                    raise ConfigError(f"{file}: {key} is part of the yardstick, and is not searched")
                absent = part in folders.groups and plain.get(part) is None  # as lm is, where nothing asks a model
                if key not in known and not absent:
                    raise ConfigError(f"{file}: {unknown_key(key, None, known)}")


def _in_whole_numbers(file: Path, space: Space, cfg: DictConfig) -> Space:
    """`low: 1e3` is a float to YAML; of a setting that is a whole number, whole numbers are searched."""
    parameters = []
    for p in space.parameters:
        part, _, name = p.name.rpartition(".")
        d, node = p.distribution, OmegaConf.select(cfg, part) if part else cfg
        if p.bundles is None and isinstance(d, FloatDistribution) and isinstance(node._get_node(name), IntegerNode):
            low, high, step = (_whole(file, p.name, n) for n in (d.low, d.high, d.step or 1))
            p = replace(p, distribution=IntDistribution(low, high, log=d.log, step=step))
        parameters.append(p)
    return replace(space, parameters=parameters)


def _whole(file: Path, name: str, number: float) -> int:
    if number != int(number):
        raise ConfigError(f"{file}: {name}: {number:g}: low, high and step of a whole number must be whole")
    return int(number)


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def _part(text: str) -> str:
    return _key(text).partition(".")[0]


def _quote(path: Path) -> str:
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"
