"""Which parameters of a search the runs of a trial read; one that another turns off is not proposed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig

from llmrl.config.checks import plain_settings
from llmrl.config.unread import Settings, find_unread
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigError, ConfigFolders, parse
from llmrl.tune.space import Parameter, Space

DRAWS = 200  # of all parameters, before a parameter that none of them reads is called unread


class Reads:
    """`compose`: overrides and one of `tasks` -> the config of a run."""

    def __init__(
        self, space: Space, tasks: list[str], compose: Callable[[list[str], str], DictConfig], folders: ConfigFolders
    ) -> None:
        self._space, self._tasks, self._compose, self._folders = space, tasks, compose, folders
        self._settings = cache(self._compose_plain)
        self._parsed = cache(self._parse)

    def why_not(self, parameter: Parameter, values: Mapping[str, Any]) -> str | None:
        """Why no run of a trial with `values` reads the parameter, at its value or at any; None where one does."""
        why = None
        tried = [values[parameter.name]] if parameter.name in values else parameter.values
        for task in self._tasks:
            for value in tried:
                found = find_unread(self._of(task, {**values, parameter.name: value}))
                keys = list(self._parsed(tuple(parameter.overrides(value))))
                if not keys or not all(key in found for key in keys):
                    return None
                why = found[keys[0]].why
        return why

    def never(self) -> dict[str, str]:
        """Parameter -> why no trial reads it; as far as `DRAWS` draws of all others show."""
        rng = random.Random(0)
        left = {p.name: why for p in self._space.parameters if (why := self.why_not(p, {})) is not None}
        for _ in range(DRAWS if left else 0):
            values: dict[str, Any] = {}
            for p in self._space.parameters:
                if p.applies(values):
                    values[p.name] = rng.choice(p.values)
            left = {p.name: left[p.name] for p in self._space.parameters if p.name in left and self.why_not(p, values)}
        return left

    def _of(self, task: str, values: Mapping[str, Any]) -> Settings:
        settings = Settings(self._settings((), task))
        for parameter in self._space.parameters:
            if parameter.name in values:
                settings |= self._effect(parameter, values[parameter.name], task)
        return settings

    def _effect(self, parameter: Parameter, value: Any, task: str) -> Mapping[str, Any]:
        """Dotted key -> value of what a value of a parameter sets, by itself."""
        texts = tuple(parameter.overrides(value))
        if not any(key in self._folders.groups for key in self._parsed(texts)):
            return self._parsed(texts)
        try:
            with_it, without = self._settings(texts, task), self._settings((), task)
        except ConfigError:  # together with others it may fit
            return {}
        return {key: v for key, v in with_it.items() if key not in without or v != without[key]}

    def _parse(self, texts: tuple[str, ...]) -> dict[str, Any]:
        return {o.key_or_group: o.value() for o in parse(texts, self._folders)}

    def _compose_plain(self, overrides: tuple[str, ...], task: str) -> dict[str, Any]:
        return flatten(plain_settings(self._compose(list(overrides), task)))
