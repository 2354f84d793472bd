"""The frozen lake as a text world. `lake` has the rules, by gymnasium's table; `text` has the words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from gymnasium.envs.toy_text.utils import categorical_sample

from llmrl.envs.base import TextEnv, Turn
from llmrl.envs.lake import text
from llmrl.envs.lake.lake import Lake, random_lake, standard_lake
from llmrl.envs.lake.model import LakeModel

Layout = Literal["standard", "random"]
View = Literal["local", "full"]

PRACTICE = range(1_000_000, 1_001_000)  # the numbers of lakes for examples: lakes have no split for training


def frozen_lake(
    *,
    size: int = 4,
    layout: Layout = "standard",
    index: int = 0,
    count: int = 1,
    slippery: bool = False,
    map: View = "local",
    max_decisions: int = 20,
    render_mode: str | None = None,
) -> LakeEnv:
    """gymnasium's standard lake of `size` 4 or 8, or generated lakes `index` to `index + count - 1`, one task each."""
    if layout not in get_args(Layout):
        raise ValueError(f"layout={layout!r}: choose one of {', '.join(get_args(Layout))}")
    if layout == "standard" and (index, count) != (0, 1):
        raise ValueError(f"index={index}, count={count}: these number generated lakes; add layout=random")
    if count < 1:
        raise ValueError(f"count={count}: ask for at least 1 lake")
    lakes = (
        [standard_lake(size, slippery)]
        if layout == "standard"
        else [random_lake(size, number, slippery) for number in range(index, index + count)]
    )
    return LakeEnv(lakes, map=map, max_decisions=max_decisions, render_mode=render_mode)


class LakeEnv(TextEnv):
    """One task per lake, named as the lake is.

    The goal pays 1 and ends the episode with success, a hole ends it without; nothing else pays. On slippery ice a step
    goes the chosen way or to either side of it, each with probability 1/3. A decision is one primitive step.

    Source: gymnasium's FrozenLake-v1, whose table of transitions this is.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (declared so by gymnasium)

    def __init__(
        self, lakes: Sequence[Lake], *, max_decisions: int, map: View = "local", render_mode: str | None = None
    ) -> None:
        """`map`: "local" tells the four neighbours and the goal's direction, "full" draws the whole lake as well."""
        if map not in get_args(View):
            raise ValueError(f"map={map!r}: choose one of {', '.join(get_args(View))}")
        super().__init__(
            [lake.name for lake in lakes],
            max_decisions=max_decisions,
            deterministic=not any(lake.slippery for lake in lakes),
            render_mode=render_mode,
        )
        self.lakes = dict(zip(self.task_ids, lakes, strict=True))
        self.lake: Lake = lakes[0]  # that of the episode
        self.cell = self.lake.start
        self.map: View = map
        self._models = {name: LakeModel(lake, map == "full", max_decisions) for name, lake in self.lakes.items()}

    def model(self, task_id: str) -> LakeModel:
        return self._models[task_id]

    def practice(self) -> Iterator[LakeEnv]:
        """Generated lakes of far higher numbers, as large and as slippery as the first, whose maps this world lacks."""
        own = {lake.rows for lake in self.lakes.values()}
        for number in PRACTICE:
            lake = random_lake(self.lake.size, number, self.lake.slippery)
            if lake.rows not in own:
                yield LakeEnv([lake], max_decisions=self.max_decisions, map=self.map)

    def render(self) -> str:
        """The lake and the walker in plain text, whatever `render_mode` says."""
        return text.drawing(self.lake, self.cell)

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        self.lake = self.lakes[task_id]
        self.cell = self.lake.start
        model = self._models[task_id]
        shown = model.shown(self.cell)
        return model.task, Turn(shown.observation, shown.actions, expert_actions=shown.expert_actions)

    def _step(self, index: int) -> Turn:
        model = self._models[self.lake.name]
        outcomes = model.outcomes(self.cell, index)
        drawn = outcomes[categorical_sample([outcome.probability for outcome in outcomes], self.np_random)]
        assert isinstance(drawn.state, int)
        self.cell = drawn.state
        shown = model.shown(self.cell)
        return Turn(
            shown.observation,
            shown.actions,
            reward=drawn.reward,
            terminated=drawn.terminated,
            success=drawn.success,
            duration=drawn.duration,
            expert_actions=shown.expert_actions,
        )
