"""Small worlds for tests; importable, so that worker processes find them."""

from __future__ import annotations

import os
import signal
from itertools import count
from typing import Any, ClassVar

from llmrl.envs.base import TextEnv, Turn


class Corridor(TextEnv):
    """Walk `length` rooms east; the wind sometimes holds you. One task per length, cut off after 6 decisions."""

    def __init__(self, lengths: tuple[int, ...] = (2, 3), wind: float = 0.3) -> None:
        super().__init__([f"walk-{n}" for n in lengths], max_decisions=6, deterministic=wind == 0)
        self.wind = wind

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        self.length, self.at = int(task_id.removeprefix("walk-")), 0
        return f"Walk {self.length} rooms east.", self._turn()

    def _step(self, index: int) -> Turn:
        held = self.np_random.random() < self.wind
        self.at = max(0, self.at + (0 if held else (1, -1)[index]))
        return self._turn()

    def _turn(self) -> Turn:
        there = self.at == self.length
        return Turn(
            f"You are in room {self.at}.",
            ("go east", "go west"),
            reward=float(there),
            terminated=there,
            success=there,
            duration=2,
            expert_actions=frozenset({"go east"}),
        )


class Dated(Corridor):
    """Says what it is made of, and what a person should know."""

    provenance: ClassVar = {"data": "of today"}
    note = "1 of 3 corridors is left out: 1 flooded (walk-4)"


class Fragile(Corridor):
    """Breaks at the first step west."""

    def _step(self, index: int) -> Turn:
        if index == 1:
            raise ZeroDivisionError("the world has no west")
        return super()._step(index)


class Unmakeable(Corridor):
    def __init__(self, only_in: int) -> None:
        if os.getpid() != only_in:
            raise OSError("no such map")
        super().__init__()


class Endless(Corridor):
    """Whose steps do not end."""

    def _step(self, index: int) -> Turn:
        signal.pause()
        raise AssertionError("nobody signals")


class Deadly(Corridor):
    """Takes its process with it."""

    def _step(self, index: int) -> Turn:
        os._exit(3)


class Walled(Corridor):
    """Truncates in a state that offers nothing; no TextEnv could."""

    def step(self, action: str) -> Any:
        observation, reward, _, _, info = super().step(action)
        return observation | {"actions": ()}, reward, False, True, info


class Restless(Corridor):
    """Shows what no seed decides: on the longer walk, how many walks this process has begun."""

    begun = count()

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        self.walks = f" {next(Restless.begun)} have walked here." if task_id == "walk-3" else ""
        return super()._reset(task_id)

    def _turn(self) -> Turn:
        turn = super()._turn()
        return turn._replace(observation=turn.observation + self.walks)


class Diary(Corridor):
    """No two walks look alike: whoever asks about them has always something to ask."""

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        self.day, self.hour = int(self.np_random.integers(2**31)), 0
        return super()._reset(task_id)

    def _turn(self) -> Turn:
        turn, self.hour = super()._turn(), self.hour + 1
        return turn._replace(observation=f"{turn.observation} Day {self.day}, hour {self.hour}.")
