"""A search space: which settings are searched, in which ranges; and the next settings to try, by Optuna's TPE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial

from llmrl.core.overrides import ConfigError, first_line, format_value, one_of
from llmrl.core.seeding import integer

STARTUP = 10  # trials drawn at random before the sampler learns from them
AHEAD = 4  # trials that may be under way at once: each is proposed without the results of the AHEAD - 1 before it

_FIELDS = {"description", "overrides", "tasks", "seeds", "trials", "parameters"}
_RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Parameter:
    """One thing that is searched.

    `bundles`: what each choice stands for, where it is several overrides; else `name` is the key that is set. `when`:
    other parameter -> the choices under which this one is used at all.
    """

    name: str
    distribution: BaseDistribution
    bundles: Mapping[str, list[str]] | None
    when: Mapping[str, Sequence[Any]]

    def overrides(self, value: Any) -> list[str]:
        return [f"{self.name}={format_value(value)}"] if self.bundles is None else list(self.bundles[value])

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether it is used at all, where others have these values."""
        return all(name in values and values[name] in allowed for name, allowed in self.when.items())

    @property
    def values(self) -> list[Any]:
        """Every choice; of a range, its ends."""
        d = self.distribution
        return list(d.choices) if isinstance(d, CategoricalDistribution) else [d.low, d.high]  # type: ignore[attr-defined]

    @property
    def examples(self) -> list[list[str]]:
        """The overrides of each of `values`."""
        return [self.overrides(value) for value in self.values]


@dataclass(frozen=True)
class Space:
    """A file of `configs/tune/`, read and checked for itself; `llmrl.tune.plan` checks it against the settings."""

    name: str
    plain: dict[str, Any]  # as the file says it
    overrides: list[str]  # of every trial
    tasks: list[str]
    seeds: list[int]
    trials: int
    parameters: list[Parameter]

    @classmethod
    def read(cls, file: Path) -> Space:
        """Raises ConfigError for a file that is no search space."""
        try:
            plain: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
        except (OSError, OmegaConfBaseException, ValueError, UnicodeError) as error:
            raise ConfigError(f"{file} cannot be read: {first_line(error)}") from None
        except Exception as error:  # PyYAML's own
            raise ConfigError(f"{file} is not YAML: {first_line(error)}") from None
        if not isinstance(plain, dict):
            raise ConfigError(f"{file}: a search space is a mapping with {', '.join(sorted(_FIELDS))}")
        for key in set(plain) ^ _FIELDS:
            problem = "is unknown" if key in plain else "is missing"
            raise ConfigError(f"{file}: {key} {problem}; a search space has {', '.join(sorted(_FIELDS))}")
        for key, kind in (("overrides", str), ("tasks", str), ("seeds", int)):
            if not isinstance(plain[key], list) or not all(type(item) is kind for item in plain[key]):
                raise ConfigError(f"{file}: {key} must be a list of {'texts' if kind is str else 'whole numbers'}")
        if not isinstance(plain["trials"], int) or plain["trials"] < 1:
            raise ConfigError(f"{file}: trials={format_value(plain['trials'])}: it must be a whole number, at least 1")
        if not isinstance(plain["parameters"], dict) or not plain["parameters"]:
            raise ConfigError(f"{file}: parameters must map at least one key to its range or choices")
        parameters: list[Parameter] = []
        for name, node in plain["parameters"].items():
            try:
                parameters.append(_parameter(str(name), node, parameters))
            except ValueError as error:  # ours, and Optuna's of a range that is none
                raise ConfigError(f"{file}: {name}: {error}") from None
        return cls(file.stem, plain, plain["overrides"], plain["tasks"], plain["seeds"], plain["trials"], parameters)

    def propose(
        self,
        number: int,
        rows: Sequence[Mapping[str, Any]],
        seed: int,
        is_read: Callable[[Parameter, Mapping[str, Any]], bool] = lambda parameter, values: True,
    ) -> dict[str, Any]:
        """The parameters of trial `number`: a function of the results known by then and of `seed`, nothing else.

        `rows`: the log of the search; what is newer than `AHEAD` trials is not looked at. Trial 0 changes nothing: it
        is the learner as it comes, so that no search ends below it. `is_read`: whether a parameter can change a trial
        of these values; one that cannot is left out, wherever in the list it stands.
        """
        if number == 0:
            return {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=integer(seed, "tune", number), n_startup_trials=STARTUP, multivariate=False, constant_liar=False
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([self._to_frozen_trial(row) for row in rows[: max(0, number - AHEAD + 1)]])
        trial = study.ask()
        values: dict[str, Any] = {}
        left = [*self.parameters]
        while (parameter := next((p for p in left if p.applies(values) and is_read(p, values)), None)) is not None:
            values[parameter.name] = _suggest(trial, parameter)
            left.remove(parameter)
        return {p.name: values[p.name] for p in self.parameters if p.name in values and is_read(p, values)}

    def overrides_of(self, values: Mapping[str, Any]) -> list[str]:
        return [text for p in self.parameters if p.name in values for text in p.overrides(values[p.name])]

    def _to_frozen_trial(self, row: Mapping[str, Any]) -> FrozenTrial:
        """A failed trial is as bad as can be (0): the sampler learns nothing of one without a value, and repeats it."""
        distributions = {p.name: p.distribution for p in self.parameters if p.name in row["parameters"]}
        value = row["value"] if row["state"] == "complete" else 0.0
        return optuna.trial.create_trial(value=value, params=dict(row["parameters"]), distributions=distributions)


def _parameter(name: str, node: Any, earlier: Sequence[Parameter]) -> Parameter:
    if not isinstance(node, dict) or set(node) - {"when", "choices", *_RANGE} or ("choices" in node) == ("low" in node):
        raise ConfigError(
            "write {low: A, high: B}, perhaps with log: true or step: C, or {choices: [...]}; then `when`"
        )
    when = {str(other): value if isinstance(value, list) else [value] for other, value in node.get("when", {}).items()}
    for other, allowed in when.items():
        known = next((p.distribution for p in earlier if p.name == other), None)
        if not isinstance(known, CategoricalDistribution):
            raise ConfigError(f"when: {other} is none of the choices that are listed before it")
        for value in allowed:
            if value not in known.choices:
                raise ConfigError("when: " + one_of(other, value, map(str, known.choices)))
    if "choices" not in node:
        return Parameter(name, _range(node), None, when)
    choices: Any = node["choices"]
    bundles: dict[str, list[str]] | None = None
    if isinstance(choices, dict):
        bundles = {str(choice): [str(text) for text in texts or []] for choice, texts in choices.items()}
        choices = list(bundles)
    if not isinstance(choices, list) or not choices or any(isinstance(choice, list | dict) for choice in choices):
        raise ConfigError("choices must be a list of values, or map a word to a list of overrides")
    return Parameter(name, CategoricalDistribution(choices), bundles, when)


def _range(node: Mapping[str, Any]) -> BaseDistribution:
    low, high, log, step = (node.get(key) for key in ("low", "high", "log", "step"))
    numbers = (low, high) if step is None else (low, high, step)
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise ConfigError("low, high and step must be numbers")
    if all(isinstance(n, int) for n in numbers):
        return IntDistribution(low, high, log=bool(log), step=step or 1)  # type: ignore[arg-type]
    return FloatDistribution(low, high, log=bool(log), step=step)  # type: ignore[arg-type]


def _suggest(trial: Trial, parameter: Parameter) -> Any:
    """Three digits of a number: more of them only make a command hard to read."""
    name, d = parameter.name, parameter.distribution
    if isinstance(d, CategoricalDistribution):
        return trial.suggest_categorical(name, d.choices)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(name, d.low, d.high, log=d.log, step=d.step)
    assert isinstance(d, FloatDistribution)
    value = trial.suggest_float(name, d.low, d.high, log=d.log, step=d.step)
    return min(d.high, max(d.low, float(f"{value:.3g}"))) if d.step is None else round(value, 10)
