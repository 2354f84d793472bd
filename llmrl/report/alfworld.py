"""The facts on which ALFWorld cells of one table depend: library versions, the set of games, and the rule of success.

Success in other versions, other games, or by another rule is another figure, so that such cells share no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.config.compose import ConfigError
from llmrl.config.unread import Settings
from llmrl.core.files import flatten
from llmrl.run.evaluations import Judged
from llmrl.run.load import RunInfo

FACTS = {"alfworld": "alfworld", "textworld": "textworld", "games": "games", "success": "rule of success"}
NOT_RECORDED = "not recorded"
WON = "won"  # the rule of runs that do not say theirs: there was no other
_MADE_OF = ("env.kind", "env._target_", "env.name")  # settings that choose no games


class MixedCells(ConfigError):
    """ALFWorld cells that share no table. The message names cells and values."""


@dataclass(frozen=True)
class Played:
    """`name` is for a person; `config` and `provenance` are those of the run or evaluation."""

    name: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, run: RunInfo, name: str | None = None) -> Played:
        return cls(name or run.name, run.config, run.provenance)

    @classmethod
    def of_evaluation(cls, judged: Judged, name: str | None = None) -> Played:
        own = RunInfo(judged.path)
        return cls(name or f"{judged.run.name}, {own.name}", own.config, own.provenance)

    @property
    def is_alfworld(self) -> bool:
        return Settings.of(self.config).kind("env") == "alfworld"

    @property
    def chosen(self) -> str:
        """The settings that choose its games."""
        flat = flatten(dict(self.config.get("env") or {}), "env")
        return repr(sorted((key, value) for key, value in flat.items() if key not in _MADE_OF))

    def fact(self, name: str) -> str:
        world = self.provenance.get("world") or {}
        if name == "games":
            return f"{world['data'][:12]} ({world['games']})" if world.get("data") else NOT_RECORDED
        if name == "success":
            return str(world.get("success", WON))
        return str((world.get("packages") or {}).get(name, NOT_RECORDED))


def check_played(cells: Iterable[Played], same_games: bool = True) -> list[str]:
    """The notes of a table with these cells, none where no cell is ALFWorld's.

    Raises MixedCells, which names cells and values, where cells differ in a version or the rule of success, or in their
    games; without `same_games` those of other settings of `env` may have other games.
    """
    played = [cell for cell in cells if cell.is_alfworld]
    together = [played] if same_games else list(_by(played, [cell.chosen for cell in played]).values())
    for name in FACTS:
        for group in together if name == "games" else [played]:
            _refuse_different(name, group)
    if not played:
        return []
    told = [f"{name} {played[0].fact(name)}" for name in ("alfworld", "textworld")]
    games = ", ".join(sorted({cell.fact("games") for cell in played}))
    return [f"ALFWorld: {', '.join(told)}; games {games}; rule of success: {played[0].fact('success')}"]


def _refuse_different(name: str, cells: Sequence[Played], most: int = 3) -> None:
    groups = _by(cells, [cell.fact(name) for cell in cells])
    if len(groups) < 2:
        return
    told = []
    for value, own in groups.items():
        more = f" and {len(own) - most} more" if len(own) > most else ""
        told.append(f"  {value}: {', '.join(cell.name for cell in own[:most])}{more}")
    advice = (
        "make the runs again with the same games in ALFWORLD_DATA (`llmrl worlds check alfworld` prints their hash)"
        if name == "games"
        else "make the runs again in one environment of Python"
    )
    raise MixedCells(
        f"ALFWorld cells of one table differ in {FACTS[name]}, so that their success is not the same figure; {advice}, "
        "or name fewer runs:\n" + "\n".join(told)
    )


def _by(cells: Sequence[Played], keys: Sequence[str]) -> dict[str, list[Played]]:
    groups: dict[str, list[Played]] = {}
    for cell, key in zip(cells, keys, strict=True):
        groups.setdefault(key, []).append(cell)
    return groups
