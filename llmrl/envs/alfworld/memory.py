"""The memory of a player of ALFWorld, read off the texts that were shown. It has no other source.

The counterpart of `env.memory` in homes (`llmrl.envs.household.text`), for an engine whose texts tell only the present.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Remembered = Literal["none", "wanted", "all"]

_THING = re.compile(r"\ban? ([a-z]+ \d+)")
_CONTENTS = re.compile(r"(?:On the|The) ([a-z]+ \d+)(?: is open\. In it)?, you see ([^.]*)\.")
_TOOK = re.compile(r"You pick up the ([a-z]+ \d+) from the ([a-z]+ \d+)\.")
_MOVED = re.compile(r"You move the ([a-z]+ \d+) to the ([a-z]+ \d+)\.")
_MADE = re.compile(r"You (clean|heat|cool) the ([a-z]+ \d+) using")
_LIT = re.compile(r"You turn on the ([a-z]+ \d+)\.")
_WORDS = {"clean": "clean", "heat": "hot", "cool": "cold"}
_OPPOSITE = {"heat": "cold", "cool": "hot"}


class Memory:
    """The memory of one game; `reset` begins another episode of it."""

    def __init__(self, remembered: Remembered, trajectory: Mapping[str, Any]) -> None:
        """`trajectory`: the game's traj_data.json, which says what types of things are wanted."""
        self._all = remembered == "all"
        wanted = trajectory.get("pddl_params") or {}
        self._wanted = {str(wanted.get(key, "")).lower() for key in ("object_target", "toggle_target")}
        self.reset("")

    def reset(self, intro: str) -> None:
        self.hand = ""
        self.places = sorted(_THING.findall(intro), key=_by_number)
        self.contents: dict[str, list[str]] = {}  # of receptacles that were looked into
        self._states: dict[str, list[str]] = {}

    def observe(self, text: str) -> None:
        for place, things in _CONTENTS.findall(text):
            self.contents[place] = sorted(_THING.findall(things), key=_by_number)
        for thing, place in _TOOK.findall(text):
            self.hand = thing
            self.contents[place] = [other for other in self.contents.get(place, ()) if other != thing]
        for thing, place in _MOVED.findall(text):
            self.hand = ""
            self.contents[place] = sorted([*self.contents.get(place, ()), thing], key=_by_number)
        for verb, thing in _MADE.findall(text):
            kept = [word for word in self._states.get(thing, ()) if word not in (_WORDS[verb], _OPPOSITE.get(verb))]
            self._states[thing] = [*kept, _WORDS[verb]]
        for lamp in _LIT.findall(text):
            self._states[lamp] = ["on"]

    def describe(self) -> str:
        """Three lines at most: the hand, what was found where, and where nobody has looked yet."""
        hand = f"You hold {self._thing(self.hand)}." if self.hand else "Your hands are empty."
        left = [place for place in self.places if place not in self.contents]
        return "\n".join(filter(None, (hand, self._describe_finds(), _list_unsearched(left))))

    def _describe_finds(self) -> str:
        if self._all:
            known = [
                f"{place}: {', '.join(map(self._thing, self.contents[place])) or 'nothing'}"
                for place in self.places
                if place in self.contents
            ]
            return f"Found: {'; '.join(known)}." if known else ""
        found = [
            f"{self._thing(thing)} at {place}"
            for place in self.places
            for thing in self.contents.get(place, ())
            if thing.partition(" ")[0] in self._wanted
        ]
        return f"Found: {', '.join(found)}." if found else ""

    def _thing(self, name: str) -> str:
        states = self._states.get(name)
        return f"{name} ({', '.join(sorted(states))})" if states else name


def _list_unsearched(places: list[str]) -> str:
    """E.g. "Not looked into yet: cabinet 1 2 5, fridge 1." """
    numbers: dict[str, str] = {}
    for place in places:
        kind, number = place.split(" ")
        numbers[kind] = f"{numbers.get(kind, kind)} {number}"
    return f"Not looked into yet: {', '.join(numbers.values())}." if numbers else ""


def _by_number(name: str) -> tuple[str, int]:
    kind, number = name.split(" ")
    return kind, int(number)
