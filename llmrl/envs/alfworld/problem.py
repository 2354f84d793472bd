"""A game of ours in ALFWorld's terms: the PDDL problem, and the names by which its engine calls things.

The engine takes a thing's number from the order of identifiers: of n things of a type, the first in that order is
number n. Identifiers are made so that its numbers are ours wherever ours run from 1 to n; where they do not, the k-th
of ours is its k-th. So a command of one side becomes the other's by replacing names (`Names`), and nothing else: the
verbs and the order of words are the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from llmrl.envs.household.game import Game, Goal, Object, Receptacle, Task
from llmrl.envs.household.types import CLEANABLE, COOLABLE, HEATABLE, LAMPS, MAY_HOLD, OBJECTS, RECEPTACLES

OFFICIAL: dict[Task, str] = {  # the types of tasks by the names that the data has for them
    "pick": "pick_and_place_simple",
    "examine": "look_at_obj_in_light",
    "clean": "pick_clean_then_place_in_recep",
    "heat": "pick_heat_then_place_in_recep",
    "cool": "pick_cool_then_place_in_recep",
    "pick_two": "pick_two_obj_and_place",
}
_MADE = {"clean": ("cleanable", "isClean"), "heat": ("heatable", "isHot"), "cool": ("coolable", "isCool")}
_NUMBERED = re.compile(r"[a-z]+ \d+")


class Names:
    """Between our names of a game's things and the engine's. Both ways take a whole command."""

    def __init__(self, game: Game) -> None:
        things: list[Receptacle | Object] = [*game.layout.receptacles, *game.objects]
        self._theirs = {thing.name: f"{thing.type.lower()} {rank}" for thing, rank in _rank(things)}
        self._ours = {theirs: ours for ours, theirs in self._theirs.items()}

    def theirs(self, command: str) -> str:
        return _rename(command, self._theirs)

    def ours(self, command: str) -> str:
        return _rename(command, self._ours)


def pddl_problem(game: Game) -> str:
    things: list[Receptacle | Object] = [*game.layout.receptacles, *game.objects]
    ids = {thing.name: _identifier(thing, rank) for thing, rank in _rank(things)}
    receptacles = game.layout.receptacles
    facts = ["(= (total-cost) 0)", "(atLocation agent1 loc_0)"]
    for number, place in enumerate(receptacles, start=1):
        r = ids[place.name]
        facts += [f"(receptacleType {r} {place.type}Type)", f"(receptacleAtLocation {r} loc_{number})"]
        facts += [f"(openable {r})"] * place.openable
    for thing in game.objects:
        o = ids[thing.name]
        facts += [f"(objectType {o} {thing.type}Type)", f"(inReceptacle {o} {ids[receptacles[thing.place].name]})"]
        facts.append(f"(objectAtLocation {o} loc_{thing.place + 1})")
        facts += [f"({what} {o})" for what, holds in _abilities(thing).items() if holds]
    for place_type in sorted({place.type for place in receptacles}):
        held = sorted({thing.type for thing in game.objects} & MAY_HOLD[place_type])
        facts += [f"(canContain {place_type}Type {kind}Type)" for kind in held]
    objects = {
        "agent": ["agent1"],
        "location": [f"loc_{number}" for number in range(len(receptacles) + 1)],
        "receptacle": [ids[place.name] for place in receptacles],
        "object": [ids[thing.name] for thing in game.objects],
        "rtype": [f"{kind}Type" for kind in RECEPTACLES],  # all: the domain names some of them
        "otype": [f"{kind}Type" for kind in OBJECTS],
    }
    return "\n".join(
        [
            f"(define (problem {re.sub(r'[^a-z0-9]+', '_', game.name.lower())})",
            "(:domain alfred)",
            "(:objects",
            *(f"    {name} - {kind}" for kind, names in objects.items() for name in names),
            ")",
            "(:init",
            *(f"    {fact}" for fact in facts),
            ")",
            f"(:goal {_condition(game.goal)})",
            "(:metric minimize (total-cost))",
            ")",
            "",
        ]
    )


def _condition(goal: Goal) -> str:
    wanted = f"(objectType ?o {goal.object}Type)"
    if goal.task == "examine":
        lamps = " ".join(f"(objectType ?lamp {kind}Type)" for kind in sorted(LAMPS))
        return (
            f"(and (exists (?o - object ?a - agent) (and {wanted} (holds ?a ?o))) "
            "(exists (?lamp - object ?r - receptacle ?l - location ?a - agent) "
            f"(and (or {lamps}) (isToggled ?lamp) (inReceptacle ?lamp ?r) (receptacleAtLocation ?r ?l) "
            "(atLocation ?a ?l))))"
        )
    placed = f"{wanted} (receptacleType ?r {goal.receptacle}Type) (inReceptacle ?o ?r)"
    if goal.task == "pick_two":
        other = f"(exists (?p - object) (and (not (= ?o ?p)) (objectType ?p {goal.object}Type) (inReceptacle ?p ?r)))"
        return f"(exists (?r - receptacle ?o - object) (and {placed} {other}))"
    made = "".join(f" ({predicate} ?o)" for predicate in _MADE.get(goal.task, ()))
    return f"(exists (?r - receptacle ?o - object) (and {placed}{made}))"


def _abilities(thing: Object) -> dict[str, bool]:
    return {
        "pickupable": thing.portable,
        "toggleable": thing.lamp,
        "cleanable": thing.type in CLEANABLE,
        "heatable": thing.type in HEATABLE,
        "coolable": thing.type in COOLABLE,
    }


def _identifier(thing: Receptacle | Object, rank: int) -> str:
    """An identifier. Later ranks come first in order. The engine takes a basin's first part and adds "basin" itself."""
    kind, place = thing.type, f"{1000 - rank:04d}"
    if kind.endswith("Basin"):
        return f"{kind.removesuffix('Basin')}_bar_{place}_bar_{kind}"
    return f"{kind}_bar_{place}"


def _rank(things: Iterable[Receptacle | Object]) -> list[tuple[Receptacle | Object, int]]:
    """Each thing with its place among those of its type, from 1."""
    of_type: dict[str, list[Receptacle | Object]] = defaultdict(list)
    for thing in things:
        of_type[thing.type].append(thing)
    return [
        (thing, rank)
        for same in of_type.values()
        for rank, thing in enumerate(sorted(same, key=lambda thing: thing.number), start=1)
    ]


def _rename(command: str, names: Mapping[str, str]) -> str:
    return _NUMBERED.sub(lambda found: names.get(found[0], found[0]), command)
