"""The texts of a home: functions of what the agent has seen, in words of our own.

The observation tells where the agent is, which things it sees there, and which it holds. With `memory` it also tells
what a person would remember. That is the receptacles that were not looked into yet, and the things found in others. All
receptacles are seen at the start, from the middle of the home. A thing that was not looked at is never named.
"""

from __future__ import annotations

from typing import Literal

from llmrl.envs.household.game import Goal
from llmrl.envs.household.home import HELD, MIDDLE, NOTHING, Home, HomeState

Memory = Literal["none", "wanted", "all"]

_INSIDE = frozenset(
    {"BathtubBasin", "Cabinet", "Drawer", "Fridge", "GarbageCan", "LaundryHamper", "Microwave", "Safe", "SinkBasin"}
    | {"Toaster"}
)
_TREATED = {"clean": "clean it", "heat": "heat it", "cool": "cool it"}


def task(goal: Goal) -> str:
    """The instruction, e.g. "Find an apple, clean it and leave it on a countertop." """
    thing = goal.object.lower()
    if goal.receptacle is None:
        return f"Find {_a(thing)} and hold it at a lamp that is switched on."
    place = goal.receptacle.lower()
    where = "in" if goal.receptacle in _INSIDE else "on"
    if goal.task == "pick_two":
        return f"Find {_a(thing)} and another {thing} and leave both {where} one {place}."
    steps = f", {_TREATED[goal.task]}" if goal.task in _TREATED else ""
    return f"Find {_a(thing)}{steps} and leave it {where} {_a(place)}."


class Words:
    """The words of one home. Sentences are kept: they are met again and again."""

    def __init__(self, home: Home, memory: Memory) -> None:
        self._home, self._memory = home, memory
        self._remembers_all = memory == "all"
        known = (*home.wanted, *(home.lamps if home.game.goal.task == "examine" else ()))
        self._remembered = tuple(range(len(home.objects))) if self._remembers_all else tuple(sorted(known))
        self._here: dict[tuple[object, ...], str] = {}
        self._left: dict[int, str] = {}
        self._found: dict[tuple[object, ...], str] = {}

    def observation(self, s: HomeState) -> str:
        here = f"{self._place(s)} {self._hand(s)}"
        if self._memory == "none":
            return f"{here}\n{self._describe_unsearched(s)}" if s.at == MIDDLE else here
        return "\n".join(filter(None, (here, self._finds(s), self._describe_unsearched(s))))

    def _place(self, s: HomeState) -> str:
        if s.at == MIDDLE:
            return "You stand in the middle of the home."
        contents = self._home.contents(s, s.at) if s.open >> s.at & 1 else None
        key = (s.at, contents, s.clean, s.hot, s.cool, s.lit)
        text = self._here.get(key)
        if text is None:
            text = self._here[key] = self._describe(s, contents)
        return text

    def _describe(self, s: HomeState, contents: tuple[int, ...] | None) -> str:
        place = self._home.receptacles[s.at]
        stand = f"You stand at {place.name} in the {place.room}."
        if contents is None:
            return f"{stand} It is shut."
        where = "in" if place.type in _INSIDE else "on"
        there = ", ".join(self._thing(s, thing) for thing in contents) or "nothing"
        return (
            f"{stand} It is open; in it: {there}." if place.openable else f"{stand} {where.capitalize()} it: {there}."
        )

    def _hand(self, s: HomeState) -> str:
        return "Your hands are empty." if s.hand == NOTHING else f"You hold {self._thing(s, s.hand)}."

    def _finds(self, s: HomeState) -> str:
        """The places of things that were seen and are not in the hand."""
        home = self._home
        key = (
            s.searched,
            s.hand,
            tuple([s.places[thing] for thing in self._remembered]),
            s.clean,
            s.hot,
            s.cool,
            s.lit,
        )
        text = self._found.get(key)
        if text is None:
            found = [t for t in self._remembered if s.places[t] != HELD and home.seen(s, t)]
            if self._remembers_all:
                places = [i for i in range(len(home.receptacles)) if s.searched >> i & 1]
                lists = {i: [self._thing(s, t) for t in found if s.places[t] == i] for i in places}
                told = [f"{home.receptacles[i].name}: {', '.join(things) or 'nothing'}" for i, things in lists.items()]
                text = f"Found: {'; '.join(told)}." if told else ""
            else:
                told = [f"{self._thing(s, t)} at {home.receptacles[s.places[t]].name}" for t in found]
                text = f"Found: {', '.join(told)}." if told else ""
            self._found[key] = text
        return text

    def _describe_unsearched(self, s: HomeState) -> str:
        text = self._left.get(s.searched)
        if text is None:
            rooms: dict[str, dict[str, str]] = {}
            for i, receptacle in enumerate(self._home.receptacles):
                if not s.searched >> i & 1:
                    numbers = rooms.setdefault(receptacle.room, {})
                    kind = receptacle.type.lower()
                    numbers[kind] = f"{numbers.get(kind, kind)} {receptacle.number}"
            text = self._left[s.searched] = _list_unsearched(rooms)
        return text

    def _thing(self, s: HomeState, thing: int) -> str:
        """An object and what was done to it, e.g. "apple 1 (clean, cold)"."""
        name = self._home.names[thing]
        if not (s.clean | s.hot | s.cool | s.lit) >> thing & 1:
            return name
        states = {"clean": s.clean, "hot": s.hot, "cold": s.cool, "on": s.lit}
        return f"{name} ({', '.join(word for word, made in states.items() if made >> thing & 1)})"


def _list_unsearched(rooms: dict[str, dict[str, str]]) -> str:
    """E.g. "Not looked into yet: kitchen: cabinet 1 2 5, fridge 1; bathroom: toilet 1." """
    told = [f"{room}: {', '.join(kinds.values())}" for room, kinds in rooms.items()]
    return f"Not looked into yet: {'; '.join(told)}." if told else ""


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
