"""The base class of text worlds."""

from __future__ import annotations

import difflib
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypedDict

import gymnasium
from gymnasium.error import ResetNeeded

from llmrl.envs.model import WorldModel

MAX_LENGTH = 1 << 16  # characters of a text that the spaces admit


class Observation(TypedDict):
    task: str
    observation: str
    actions: tuple[str, ...]  # the admissible actions, in the world's order


class Turn(NamedTuple):
    """A world's answer to a decision. For a reset only the two texts and `expert_actions` count."""

    observation: str
    actions: tuple[str, ...]  # what is admissible next, no two alike; may be empty once the episode has terminated
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False  # the world's own limits; `max_decisions` is the base class's
    success: bool = False
    duration: int = 1  # primitive steps that the decision took
    expert_actions: frozenset[str] | None = None  # all that begin a shortest way to success; None: unknown


class TextEnv(gymnasium.Env[Observation, str]):
    """A world of texts: it shows a task, an observation and the admissible actions, and is given one of those actions.

    A world calls `super().__init__` and has two methods, `_reset` and `_step`:

        class Coin(TextEnv):
            def __init__(self) -> None:
                super().__init__(task_ids=("guess",), max_decisions=10, deterministic=False)

            def _reset(self, task_id: str) -> tuple[str, Turn]:
                return "Guess the coin.", Turn("It is in the air.", ("heads", "tails"))

            def _step(self, index: int) -> Turn:
                won = index == self.np_random.integers(2)
                return Turn("It is in the air.", ("heads", "tails"), reward=float(won), terminated=won, success=won)

    All randomness comes from `self.np_random`, which `reset(seed=...)` seeds, so that the same seed, task and actions
    give the same texts. `info` holds `task_id`; `duration`, the primitive steps of this decision, at least 1;
    `expert_actions`, the texts of all actions on a shortest way to success, where known; and when the episode ends
    `success`. A world that can be drawn lists "ansi" in its `metadata` and has a `render`; one that can be enumerated
    has a `model`.
    """

    action_space: MenuSpace

    def __init__(
        self,
        task_ids: Sequence[str],
        *,
        max_decisions: int,
        deterministic: bool = True,
        render_mode: str | None = None,
    ) -> None:
        """`task_ids` names what can be played; `deterministic`: nothing is random but the choice of the task.

        `max_decisions` truncates. Raises ValueError when it is below 1, or when the tasks are none or not distinct.
        """
        if max_decisions < 1:
            raise ValueError(f"max_decisions={max_decisions}: an episode needs at least 1 decision")
        if not task_ids:
            raise ValueError("a world needs at least one task")
        if twice := sorted(task for task, times in Counter(task_ids).items() if times > 1):
            raise ValueError(f"task ids have to differ; given more than once: {', '.join(twice)}")
        self.task_ids = tuple(task_ids)
        self.max_decisions = max_decisions
        self.deterministic = deterministic
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Dict(  # type: ignore[assignment]  # gymnasium's Dict is untyped
            task=_AnyText(), observation=_AnyText(), actions=gymnasium.spaces.Sequence(_AnyText())
        )
        self.action_space = MenuSpace()
        self._task_id = self._task = ""
        self._actions: tuple[str, ...] = ()
        self._decisions = 0
        self._over = True

    def _reset(self, task_id: str) -> tuple[str, Turn]:
        """Start the task; returns what it asks for, and the first turn."""
        raise NotImplementedError

    def _step(self, index: int) -> Turn:
        """Do the admissible action at `index`."""
        raise NotImplementedError

    def model(self, task_id: str) -> WorldModel | None:
        """The task as a table of what may happen; None where the world has none."""
        return None

    def practice(self) -> Iterator[TextEnv]:
        """Other games of this kind, a world each, that a prompt may show examples of: always the same, in one order.

        They belong to a split for training, and this world plays none of that split. None of them has a task that this
        world has. Raises ValueError where there are none, and says why.
        """
        raise ValueError(f"{type(self).__name__} knows no other games to show examples of")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode of `options["task"]`, by default a random task.

        Raises ValueError when there is no such task, or when `options` holds anything else.
        """
        super().reset(seed=seed)
        task_id = self._asked_task(options or {})
        if task_id is None:
            several = len(self.task_ids) > 1
            task_id = self.task_ids[int(self.np_random.integers(len(self.task_ids))) if several else 0]
        task, turn = self._reset(task_id)
        self._task_id, self._task, self._decisions, self._over = task_id, task, 0, False
        self._show(turn)
        self.action_space.opens_with(self._actions)
        return self._observation(turn), self._info(turn)

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Do `action`, one of the texts last shown. The episode is truncated at its `max_decisions`-th decision.

        Raises InadmissibleAction, changing nothing, when `action` is another; gymnasium's ResetNeeded after the end.
        """
        if self._over:
            raise ResetNeeded("no episode is running: call reset() first")
        try:
            index = self._actions.index(action)
        except ValueError:
            raise InadmissibleAction(_not_on_menu(action, self._actions)) from None
        turn = self._step(index)
        self._decisions += 1
        truncated = not turn.terminated and (turn.truncated or self._decisions >= self.max_decisions)
        self._over = turn.terminated or truncated
        self._show(turn)
        info = self._info(turn)
        info["duration"] = turn.duration
        if self._over:
            info["success"] = turn.success
        return self._observation(turn), turn.reward, turn.terminated, truncated, info

    def _asked_task(self, options: dict[str, Any]) -> str | None:
        if unknown := set(options) - {"task"}:
            raise ValueError(f"reset options {sorted(unknown)} are unknown; there is one: task")
        task_id = options.get("task")
        if task_id is None or task_id in self.task_ids:
            return task_id
        near = difflib.get_close_matches(str(task_id), self.task_ids, n=3, cutoff=0.0)
        raise ValueError(f"unknown task {task_id!r}; there are {len(self.task_ids)}, the nearest: {', '.join(near)}")

    def _show(self, turn: Turn) -> None:
        actions = tuple(turn.actions)
        if len(set(actions)) < len(actions):
            raise ValueError(f"{type(self).__name__} offers an action twice: {actions}")
        if not actions and not turn.terminated:  # the value of a truncated episode's last state is learned from
            raise ValueError(f"{type(self).__name__} offers no action although the episode has not terminated")
        self._actions = self.action_space.menu = actions

    def _observation(self, turn: Turn) -> Observation:
        return {"task": self._task, "observation": turn.observation, "actions": self._actions}

    def _info(self, turn: Turn) -> dict[str, Any]:
        info: dict[str, Any] = {"task_id": self._task_id}
        if turn.expert_actions is not None:
            info["expert_actions"] = turn.expert_actions
        return info


class InadmissibleAction(ValueError):
    """The action is not among those that the world offers now; the world has not changed."""


def _not_on_menu(action: object, menu: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(action), menu, n=1, cutoff=0.0)
    return (
        f"{action!r} is not admissible here. Choose one of the {len(menu)} texts in observation['actions'], "
        f"word for word; the nearest is {near[0]!r}"
    )


class MenuSpace(gymnasium.spaces.Text):
    """Exactly the actions on the current menu; the world sets it at every turn."""

    menu: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__(MAX_LENGTH, charset=string.printable)
        self._always_first: frozenset[str] | None = None  # what every episode so far has opened with
        self._just_seeded = False

    def opens_with(self, menu: tuple[str, ...]) -> None:
        self._always_first = frozenset(menu).intersection(menu if self._always_first is None else self._always_first)

    def seed(self, seed: int | None = None) -> Any:
        self._just_seeded = seed is not None
        return super().seed(seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draws one action of the menu, each as likely as another.

        The first sample after `seed` is also an action of the opening menu, where there is such an action. So a caller
        that seeds and samples before a reset, as gymnasium's checker does, can take it in the new episode.
        """
        if mask is not None or probability is not None:
            raise ValueError("a menu takes no mask: choose among observation['actions'] instead")
        if not self.menu:
            raise ResetNeeded("there is nothing to choose from: call reset() first")
        choices: Sequence[str] = self.menu
        if self._just_seeded:
            choices = [text for text in self.menu if text in (self._always_first or ())] or self.menu
            self._just_seeded = False
        return choices[int(self.np_random.integers(len(choices)))]

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and x in self.menu

    def __repr__(self) -> str:
        return f"MenuSpace({list(self.menu)})"


class _AnyText(gymnasium.spaces.Text):
    """Any text: a world's language is not limited to an alphabet; the one here serves sampling alone."""

    def __init__(self) -> None:
        super().__init__(MAX_LENGTH, min_length=0, charset=string.printable)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length
