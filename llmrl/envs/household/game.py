"""A home and its goal, as data: layouts, games, goals. `home` has the actions of a game.

A layout is rooms and receptacles. A game is a layout, the objects that lie in it at first, and a goal. Both are plain
immutable data. Each has a hash of its contents, which leaves out names.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

from llmrl.envs.household.types import (
    CLEANABLE,
    CLEANS,
    COOLABLE,
    COOLS,
    FIXED,
    HEATABLE,
    HEATS,
    LAMPS,
    MAY_HOLD,
    OBJECTS,
    OPENABLE,
    RECEPTACLES,
    Room,
)

Task = Literal["pick", "examine", "clean", "heat", "cool", "pick_two"]
TASKS: tuple[Task, ...] = get_args(Task)
TREATED: dict[Task, tuple[str, frozenset[str]]] = {  # where an object is treated for the task, and which can be
    "clean": (CLEANS, CLEANABLE),
    "heat": (HEATS, HEATABLE),
    "cool": (COOLS, COOLABLE),
}


@dataclass(frozen=True)
class Receptacle:
    type: str  # one of types.RECEPTACLES
    number: int  # from 1, counted over the whole home
    room: Room

    @property
    def name(self) -> str:
        """The receptacle's name for the agent: "countertop 2"."""
        return f"{self.type.lower()} {self.number}"

    @property
    def openable(self) -> bool:
        """It is closed at first, and shows and gives what is in it only while open."""
        return self.type in OPENABLE


@dataclass(frozen=True)
class Object:
    type: str  # one of types.OBJECTS
    number: int  # from 1, for each type
    place: int  # where it lies at first: an index into the layout's receptacles

    @property
    def name(self) -> str:
        return f"{self.type.lower()} {self.number}"

    @property
    def portable(self) -> bool:
        return self.type not in FIXED

    @property
    def lamp(self) -> bool:
        return self.type in LAMPS


@dataclass(frozen=True)
class Layout:
    rooms: tuple[Room, ...]
    receptacles: tuple[Receptacle, ...]

    def __post_init__(self) -> None:
        for receptacle in self.receptacles:
            if receptacle.type not in RECEPTACLES:
                raise ValueError(f"{receptacle.type} is not a type of receptacle; there are {', '.join(RECEPTACLES)}")
            if receptacle.room not in self.rooms:
                raise ValueError(f"{receptacle.name} stands in a {receptacle.room}, and the home has none")
        _refuse_equal_names([receptacle.name for receptacle in self.receptacles])

    def of_type(self, kind: str) -> tuple[int, ...]:
        """The indices of the receptacles of a type."""
        return tuple(i for i, receptacle in enumerate(self.receptacles) if receptacle.type == kind)

    @property
    def hash(self) -> str:
        """A name for which receptacles are in which rooms."""
        return _hash(sorted((r.room, r.type) for r in self.receptacles))


@dataclass(frozen=True)
class Goal:
    """The goal of a game: some object of a type, in or on some receptacle of a type.

    `examine`: an object of the type is held where a lamp that was switched on stands; there is no receptacle. `pick`:
    such an object lies in such a receptacle; `clean`, `heat`, `cool`: and is clean, hot or cool; `pick_two`: two of
    them lie in the same one.
    """

    task: Task
    object: str
    receptacle: str | None  # None exactly for `examine`

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task={self.task!r}: choose one of {', '.join(TASKS)}")
        if (self.receptacle is None) != (self.task == "examine"):
            raise ValueError(f"{self.task} with receptacle {self.receptacle}: `examine` has none, the others have one")
        if self.object not in OBJECTS or self.object in FIXED:
            raise ValueError(f"{self.object} is not an object that can be picked up")
        if self.receptacle is not None and self.object not in MAY_HOLD.get(self.receptacle, ()):
            raise ValueError(f"a {self.receptacle} does not hold a {self.object}")
        if self.task in TREATED and self.object not in TREATED[self.task][1]:
            raise ValueError(f"{self.task}: this cannot be done to a {self.object}")

    @property
    def name(self) -> str:
        """The goal in one word: "clean-Apple-CounterTop", "examine-Book"."""
        return "-".join(filter(None, (self.task, self.object, self.receptacle)))


@dataclass(frozen=True)
class Game:
    name: str
    layout: Layout
    objects: tuple[Object, ...]
    goal: Goal

    def __post_init__(self) -> None:
        for thing in self.objects:
            if thing.type not in OBJECTS:
                raise ValueError(f"{thing.type} is not a type of object; there are {', '.join(OBJECTS)}")
            if not 0 <= thing.place < len(self.layout.receptacles):
                raise ValueError(f"{thing.name} lies in receptacle {thing.place} of {len(self.layout.receptacles)}")
            place = self.layout.receptacles[thing.place]
            if thing.type not in MAY_HOLD[place.type]:
                raise ValueError(f"{place.name} does not hold a {thing.type}")
        _refuse_equal_names([thing.name for thing in self.objects])

    @property
    def hash(self) -> str:
        """A name for the layout, what lies where, and the goal."""
        where = sorted((o.type, self.layout.receptacles[o.place].room, _place(self, o)) for o in self.objects)
        return _hash([self.layout.hash, where, self.goal.name])


def _place(game: Game, thing: Object) -> str:
    return game.layout.receptacles[thing.place].name


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _refuse_equal_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"two things of one name: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
