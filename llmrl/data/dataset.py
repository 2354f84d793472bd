"""A data set: transitions of whole episodes, every text once, checked as a whole before anything is learned from it.

One row is one decision. What the columns hold, in every file format (see docs/reference/data-file.md):

    episode           int, from 0; rows of an episode lie side by side, in order
    task, observation, actions, action              what the agent was told, the menu, and what it took from it
    reward, duration  of the decision; duration in primitive steps
    terminated, truncated                           the episode ended by what happened | was cut
    next_observation, next_actions                  what it was told then; next_actions may be empty once terminated
    success           of the episode; null where nobody knows, as of one that was cut because the file was full
    task_id, agent    of the episode: which task of the world, and who acted

In memory texts and menus are numbers: N rows, E episodes.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrl.core.seeding import stream
from llmrl.core.state import TextState

TEXTS = ("task", "observation", "next_observation", "task_id", "agent")
MENUS = ("actions", "next_actions")
NUMBERS: dict[str, type[np.generic]] = {
    "episode": np.int32, "reward": np.float64, "duration": np.int32, "terminated": np.bool_, "truncated": np.bool_,
}  # fmt: skip
COLUMNS = (
    "episode", "task", "observation", "actions", "action", "reward", "duration", "terminated", "truncated",
    "next_observation", "next_actions", "success", "task_id", "agent",
)  # fmt: skip
OF_EPISODE = ("task", "task_id", "agent", "success")  # the same in all rows of an episode
LARGEST = 2**31 - 1  # of the whole numbers
UNKNOWN = -1  # success that nobody knows; an action that is not on its menu

Row = Mapping[str, Any]


class DataError(ValueError):
    """A data set that is not what it should be. The message names the file, the row, and what is wrong with it."""


@dataclass(frozen=True)
class DataSet:
    """Columns of N rows. Texts are indices into `texts`, menus into `menus`, whose texts are indices into `texts`.

    `action` is an index into the row's menu, UNKNOWN where it is none of them; `success` is 0, 1 or UNKNOWN.
    """

    texts: list[str]
    menus: list[tuple[int, ...]]
    columns: dict[str, np.ndarray]
    about: dict[str, Any] = field(default_factory=dict)  # how it came about, as JSON can hold it

    def __len__(self) -> int:
        return len(self.columns["episode"])

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    @property
    def starts(self) -> np.ndarray:
        """int64 [E]: the first row of each episode."""
        return np.flatnonzero(np.diff(self["episode"], prepend=-1))

    def menu(self, number: int) -> tuple[str, ...]:
        return tuple(self.texts[i] for i in self.menus[number])

    def rows(self, first: int = 0, last: int | None = None) -> Iterator[dict[str, Any]]:
        """Rows as plain data, as every file format tells them."""
        for i in range(first, len(self) if last is None else min(last, len(self))):
            row: dict[str, Any] = {name: self.texts[self[name][i]] for name in TEXTS}
            row |= {name: list(self.menu(self[name][i])) for name in MENUS}
            row |= {name: self[name][i].item() for name in NUMBERS}
            row["action"] = row["actions"][self["action"][i]]
            row["success"] = None if self["success"][i] == UNKNOWN else bool(self["success"][i])
            yield {name: row[name] for name in COLUMNS}

    def content(self) -> str:
        """SHA-256, in hex, of the rows: the same in every format, whatever `about` says."""
        digest = hashlib.sha256(b"llmrl data 1\n")
        menus = [[self.texts[i] for i in menu] for menu in self.menus]
        for name in COLUMNS:
            values = self[name]
            if name in TEXTS or name in MENUS:
                known: Sequence[Any] = self.texts if name in TEXTS else menus
                values, kept = _by_appearance(values)
                digest.update(json.dumps([known[i] for i in kept], ensure_ascii=False).encode())
            kind = "<f8" if name == "reward" else "<i4"
            digest.update(f"\n{name} {len(values)}\n".encode() + np.ascontiguousarray(values, dtype=kind).tobytes())
        return digest.hexdigest()

    def states(self, rows: np.ndarray, history_turns: int) -> tuple[list[TextState], list[TextState]]:
        """The agent's state before and after each row, with this many turns of its episode as history."""
        start_of = np.repeat(self.starts, np.diff(np.append(self.starts, len(self))))
        tasks, seen, after = (self[name].tolist() for name in ("task", "observation", "next_observation"))
        menus, later, taken = (self[name].tolist() for name in ("actions", "next_actions", "action"))
        known: dict[tuple[Any, ...], TextState] = {}

        def state(task: int, observation: int, menu: int, turns: range) -> TextState:
            key = (task, observation, menu, *((seen[i], self.menus[menus[i]][taken[i]]) for i in turns))
            if key not in known:
                history = tuple((self.texts[seen[i]], self.texts[self.menus[menus[i]][taken[i]]]) for i in turns)
                known[key] = TextState(self.texts[task], self.texts[observation], self.menu(menu), history)
            return known[key]

        before, then = [], []
        for i, first in zip(rows.tolist(), start_of[rows].tolist(), strict=True):
            before.append(state(tasks[i], seen[i], menus[i], range(max(first, i - history_turns), i)))
            then.append(state(tasks[i], after[i], later[i], range(max(first, i + 1 - history_turns), i + 1)))
        return before, then

    def draw_rows(self, size: int | None, seed: int) -> np.ndarray:
        """int64 [size]: rows of whole episodes, in an order that `seed` decides; the last one is cut where it is full.

        A smaller size is the beginning of a larger one. Raises ValueError where there are not so many rows.
        """
        if size is not None and size > len(self):
            raise ValueError(f"data.size={size}: the file holds {len(self):,} transitions")
        starts = self.starts
        ends = np.append(starts[1:], len(self))
        order = stream(seed, "data").permutation(len(ends))
        rows = np.concatenate([np.arange(starts[e], ends[e]) for e in order])
        return rows[: len(self) if size is None else size]


class Builder:
    """A data set row by row. `where` names the file, for messages."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._texts: dict[str, int] = {}
        self._menus: dict[tuple[int, ...], int] = {}
        self._values: dict[str, list[Any]] = {name: [] for name in COLUMNS}

    def __len__(self) -> int:
        return len(self._values["episode"])

    def add(self, row: Row) -> None:
        """Raises DataError for a row that lacks a column, has another, or holds something of another kind."""
        if row.keys() != set(COLUMNS):
            for name in sorted(set(COLUMNS) ^ set(row)):
                self.refuse(f"{name} is {'missing' if name in COLUMNS else 'no column of a data set'}")
        menu = self._menu("actions", row["actions"])
        values: dict[str, float] = {name: self._text(self._of_kind(name, row[name], str)) for name in TEXTS}
        try:
            values["reward"] = float(self._of_kind("reward", row["reward"], float, int))
        except OverflowError:
            self.refuse("reward is a whole number that no float can hold")
        values |= {"actions": menu[1], "next_actions": self._menu("next_actions", row["next_actions"])[1]}
        action = self._text(self._of_kind("action", row["action"], str))
        values["action"] = menu[0].index(action) if action in menu[0] else UNKNOWN
        for name in ("episode", "duration"):
            values[name] = self._of_kind(name, row[name], int)
            if abs(values[name]) > LARGEST:
                self.refuse(f"{name} is {reprlib.repr(row[name])}, and is {LARGEST:,} at most")
        for name in ("terminated", "truncated"):
            values[name] = self._of_kind(name, row[name], bool)
        success = row["success"]
        values["success"] = UNKNOWN if success is None else int(self._of_kind("success", success, bool))
        for name, value in values.items():
            self._values[name].append(value)

    def done(self, about: Mapping[str, Any]) -> DataSet:
        """Raises DataError where the rows do not make whole episodes; see `check`."""
        kinds: dict[str, Any] = {**NUMBERS, "success": np.int8}
        columns = {name: np.array(self._values[name], dtype=kinds.get(name, np.int32)) for name in COLUMNS}
        return check(DataSet(list(self._texts), list(self._menus), columns, dict(about)), self.where)

    def refuse(self, what: str) -> None:
        raise DataError(f"{self.where}, row {len(self)}: {what}")

    def _of_kind(self, name: str, value: Any, *kinds: type) -> Any:
        if type(value) not in kinds:
            self.refuse(f"{name} is {reprlib.repr(value)}, and has to be {' or '.join(_KINDS[kind] for kind in kinds)}")
        return value

    def _text(self, text: str) -> int:
        known = self._texts.get(text)
        if known is None:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                self.refuse(f"the text {reprlib.repr(text)} cannot be written as UTF-8: {error.reason}")
            known = self._texts[text] = len(self._texts)
        return known

    def _menu(self, name: str, actions: Any) -> tuple[tuple[int, ...], int]:
        if not isinstance(actions, list | tuple) or not all(type(action) is str for action in actions):
            self.refuse(f"{name} is {reprlib.repr(actions)}, and has to be a list of texts")
        menu = tuple(map(self._text, actions))
        return menu, self._menus.setdefault(menu, len(self._menus))


_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def check(data: DataSet, where: str) -> DataSet:
    """The same data set. Raises DataError, naming the first row of the first thing that is wrong."""
    if not len(data):
        raise DataError(f"{where} holds no transition")
    sizes = np.array([len(menu) for menu in data.menus])
    unlike = np.array([len(set(menu)) < len(menu) for menu in data.menus])
    episode, action = data["episode"], data["action"]
    ended = data["terminated"] | data["truncated"]
    last = np.append(np.diff(episode) != 0, True)
    follows = np.append(False, ~last[:-1])  # rows that go on with the episode of the row before

    def before(name: str) -> np.ndarray:
        return np.append(data[name][:1], data[name][:-1])

    problems: list[tuple[np.ndarray, str]] = [
        (~np.isfinite(data["reward"]), "its reward is no finite number"),
        (data["duration"] < 1, "its duration is below 1"),
        (sizes[data["actions"]] == 0, "its menu is empty"),
        (unlike[data["actions"]] | unlike[data["next_actions"]], "an action is on a menu twice"),
        (action == UNKNOWN, "its action is not on its menu"),
        (data["terminated"] & data["truncated"], "it is both terminated and truncated"),
        (
            (sizes[data["next_actions"]] == 0) & ~data["terminated"],
            "it ends nothing, and the menu after it is empty",
        ),
        (_find_misnumbered(episode), "episodes are not numbered 0, 1, 2, ... in order"),
        (last & ~ended, "its episode stops here without an end: neither terminated nor truncated"),
        (ended & ~last, "its episode continues after its end"),
        *(
            (follows & (data[name] != before(name)), f"{name} changes within an episode, which has only one")
            for name in OF_EPISODE
        ),
        *(
            (follows & (data[name] != before(f"next_{name}")), f"its {name} is not the row before's next_{name}")
            for name in ("observation", "actions")
        ),
    ]
    found = [(int(wrong.argmax()), what) for wrong, what in problems if wrong.any()]
    if found:
        row, what = min(found, key=lambda problem: problem[0])
        raise DataError(f"{where}, row {row}: {what}")
    return data


def _find_misnumbered(episode: np.ndarray) -> np.ndarray:
    """The rows with a number that is neither that of the row before nor the next one. The first number is 0."""
    step = np.diff(episode.astype(np.int64), prepend=0)
    return (step < 0) | (step > 1) | (np.append(episode[0] != 0, np.zeros(len(episode) - 1, dtype=bool)))


def _by_appearance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`values` numbered anew by when each first appears, and which one each number stands for."""
    kept, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], kept[order]
