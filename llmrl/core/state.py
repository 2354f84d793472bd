"""The state of an agent's choice: the one observation type that priors, encoders and learners see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class TextState:
    """A textual decision point.

    `actions` are the admissible actions, in the environment's order, no two alike. `history` holds the episode's
    earlier (observation, action) pairs, oldest first; the rollout keeps it, and each rendered text shows as much of it
    as its own `history_turns` says.
    """

    task: str
    observation: str
    actions: tuple[str, ...]
    history: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, shown: Mapping[str, Any], history: tuple[tuple[str, str], ...] = ()) -> TextState:
        """`shown`: the observation of an environment."""
        return cls(shown["task"], shown["observation"], tuple(shown["actions"]), history)

    def after(self, action: str, shown: Mapping[str, Any], turns: int | None = None) -> TextState:
        """The state that an action leads to, where the environment shows this; `turns` as of `history_after`."""
        return TextState.of(shown, self.history_after(action, turns))

    def history_after(self, action: str, turns: int | None = None) -> tuple[tuple[str, str], ...]:
        """The history once this action is taken here: its last `turns` pairs, or all of them."""
        history = (*self.history, (self.observation, action))
        return history if turns is None else history[max(0, len(history) - turns) :]

    @cached_property
    def key(self) -> str:
        """A stable name: equal states have equal keys, in every process and on every machine."""
        text = json.dumps([self.task, self.observation, self.actions, self.history], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def __hash__(self) -> int:
        """Kept: a state is looked up in several tables at every visit."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.task, self.observation, self.actions, self.history))

    def __getstate__(self) -> dict[str, object]:
        """Without the kept hash: another process hashes texts differently."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}
