"""A lake as a table of what may happen: its state is the cell."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property

from llmrl.envs.lake import text
from llmrl.envs.lake.expert import expert_actions
from llmrl.envs.lake.lake import Lake
from llmrl.envs.model import Outcome, Shown


class LakeModel:
    """A `WorldModel`. Ended states can be shown as well."""

    def __init__(self, lake: Lake, with_map: bool, max_decisions: int) -> None:
        self.task = text.task(lake)
        self.max_decisions = max_decisions
        self.max_primitive_steps: int | None = None  # a decision is one
        self._lake, self._with_map = lake, with_map

    def initial(self) -> list[tuple[float, Hashable]]:
        return [(1.0, self._lake.start)]

    def shown(self, state: Hashable) -> Shown:
        assert isinstance(state, int)
        return self._scenes[state]

    def outcomes(self, state: Hashable, action: int) -> list[Outcome]:
        assert isinstance(state, int)
        return [
            Outcome(probability, cell, float(reward), 1, terminated, cell == self._lake.goal)
            for probability, cell, reward, terminated in self._lake.table[state][action]
        ]

    @cached_property
    def _scenes(self) -> list[Shown]:
        """One for each cell; made when the first is asked for, since a world may have many lakes and show few."""
        return [
            Shown(text.observation(self._lake, cell, self._with_map), text.ACTIONS, best)
            for cell, best in enumerate(expert_actions(self._lake))
        ]
