"""A game being played: its states, the commands that are admissible in each, and what they do.

The rules are ALFWorld's (arXiv 2010.03768), as the PDDL domain of its package has them: the agent is in the middle of
the home or at one receptacle, goes to any other in one step, and holds at most one object. What can be opened hides
what is in it until it is open. Objects are cleaned, heated and cooled while held, at receptacles that need not be open.
A lamp is switched on where it stands, and stays on. `look`, `inventory`, `examine` and `help` change nothing.

Nothing is random, and a state is a small immutable tuple. What the agent has seen is part of it: every change is its
own doing, so that it knows where everything is that lay in a receptacle it has looked into.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from llmrl.envs.household.game import TREATED, Game
from llmrl.envs.household.types import MAY_HOLD

MIDDLE = -1  # where the agent is at first
NOTHING = -1  # in the hand
HELD = -1  # the place of the object in the hand


class HomeState(NamedTuple):
    """Sets are bit masks: bit i stands for receptacle i, or object i, of the `Home`."""

    at: int  # a receptacle, or MIDDLE
    hand: int  # an object, or NOTHING
    places: tuple[int, ...]  # the receptacle that each object is in, or HELD
    open: int  # receptacles that are open; those that cannot be closed always are
    searched: int  # receptacles that the agent has looked into
    clean: int = 0  # objects
    hot: int = 0
    cool: int = 0
    lit: int = 0  # lamps that were switched on


class Command(NamedTuple):
    """`object` or `receptacle` where the verb takes one; the other receptacle is where the agent is."""

    verb: str
    target: int = -1


class Menu(NamedTuple):
    texts: tuple[str, ...]  # sorted
    commands: tuple[Command, ...]  # of each text


class Home:
    """A game, ready to be played. Objects are numbered in the order of their names, receptacles as in the layout."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.receptacles = game.layout.receptacles
        self.objects = tuple(sorted(game.objects, key=lambda thing: thing.name))
        goal = game.goal
        self.wanted = tuple(i for i, thing in enumerate(self.objects) if thing.type == goal.object)
        self.targets = frozenset(game.layout.of_type(goal.receptacle)) if goal.receptacle else frozenset()
        self.lamps = tuple(i for i, thing in enumerate(self.objects) if thing.lamp)
        kind = TREATED[goal.task][0] if goal.task in TREATED else None
        self.treats = frozenset(game.layout.of_type(kind)) if kind else frozenset()  # where the wanted is made ready
        self._names = [r.name for r in self.receptacles]
        self.names = tuple(thing.name for thing in self.objects)
        self._menus: dict[tuple[int, int, bool, tuple[int, ...]], Menu] = {}
        self._going: dict[int, tuple[list[str], list[Command]]] = {}
        by_name = sorted(range(len(self._names)), key=self._names.__getitem__)
        self._go = [(i, f"go to {self._names[i]}", Command("go to", i)) for i in by_name]

    def initial(self) -> HomeState:
        always_open = _mask(i for i, r in enumerate(self.receptacles) if not r.openable)
        return HomeState(MIDDLE, NOTHING, tuple(thing.place for thing in self.objects), always_open, 0)

    def contents(self, s: HomeState, receptacle: int) -> tuple[int, ...]:
        """The objects in or on a receptacle, whether they are to be seen or not."""
        return tuple([i for i, place in enumerate(s.places) if place == receptacle])

    def holds(self, receptacle: int, thing: int) -> bool:
        """Whether the receptacle is one that may hold the object."""
        return self.objects[thing].type in MAY_HOLD[self.receptacles[receptacle].type]

    def menu(self, s: HomeState) -> Menu:
        """The admissible commands in the order of their texts."""
        is_open = s.at == MIDDLE or bool(s.open >> s.at & 1)
        here = self.contents(s, s.at) if is_open and s.at != MIDDLE else ()
        key = (s.at, s.hand, is_open, here)
        menu = self._menus.get(key)
        if menu is None:
            menu = self._menus[key] = self._menu(*key)
        return menu

    def apply(self, s: HomeState, command: Command) -> HomeState:
        """The state after an admissible command."""
        verb, target = command
        if verb == "go to":
            return s._replace(at=target, searched=s.searched | (s.open & 1 << target))
        if verb == "take":
            return s._replace(hand=target, places=_with(s.places, target, HELD))
        if verb == "move":
            return s._replace(hand=NOTHING, places=_with(s.places, target, s.at))
        if verb == "open":
            return s._replace(open=s.open | 1 << target, searched=s.searched | 1 << target)
        if verb == "close":
            return s._replace(open=s.open & ~(1 << target))
        if verb == "clean":
            return s._replace(clean=s.clean | 1 << target)
        if verb == "heat":
            return s._replace(hot=s.hot | 1 << target, cool=s.cool & ~(1 << target))
        if verb == "cool":
            return s._replace(cool=s.cool | 1 << target, hot=s.hot & ~(1 << target))
        if verb == "use":
            return s._replace(lit=s.lit | 1 << target)
        return s

    def done(self, s: HomeState) -> bool:
        """Whether the goal is reached."""
        task = self.game.goal.task
        if task == "examine":
            return s.hand in self.wanted and any(s.lit >> lamp & 1 and s.places[lamp] == s.at for lamp in self.lamps)
        put = [s.places[thing] for thing in self.wanted if s.places[thing] in self.targets and self.ready(s, thing)]
        return len(set(put)) < len(put) if task == "pick_two" else bool(put)

    def ready(self, s: HomeState, thing: int) -> bool:
        """Whether a wanted object is as it has to be: clean, hot or cool where the goal says so."""
        task = self.game.goal.task
        made = s.clean if task == "clean" else s.hot if task == "heat" else s.cool if task == "cool" else -1
        return bool(made >> thing & 1)

    def seen(self, s: HomeState, thing: int) -> bool:
        """Whether the agent knows where an object is: it lay in a receptacle that was looked into."""
        return bool(s.searched >> self.objects[thing].place & 1)

    def text(self, command: Command, at: int) -> str:
        """A command in words, as given by an agent at receptacle `at`."""
        verb, target = command
        if verb in ("go to", "open", "close", "examine receptacle"):
            return f"{verb.removesuffix(' receptacle')} {self._names[target]}"
        if target < 0:
            return verb
        thing = self.names[target]
        if verb == "take":
            return f"take {thing} from {self._names[at]}"
        if verb == "move":
            return f"move {thing} to {self._names[at]}"
        if verb in ("clean", "heat", "cool"):
            return f"{verb} {thing} with {self._names[at]}"
        return f"{verb} {thing}"

    def _menu(self, at: int, hand: int, is_open: bool, here: tuple[int, ...]) -> Menu:
        """Put together in the order that sorting by text gives."""
        going = self._going.get(at)
        if going is None:
            others = [(text, command) for i, text, command in self._go if i != at]
            going = self._going[at] = [text for text, _ in others], [command for _, command in others]
        before, after = [], [Command("help"), Command("inventory"), Command("look")]
        if at != MIDDLE:
            place = self.receptacles[at]
            treatments = dict(self._treatments(at, hand))
            before += [Command("clean", hand)] * ("clean" in treatments)
            before += [Command("close", at)] * (place.openable and is_open)
            before += [Command("cool", hand)] * ("cool" in treatments)
            after = [Command("heat", hand)] * ("heat" in treatments) + after
            after += [Command("move", hand)] * (hand != NOTHING and is_open and self.holds(at, hand))
            after += [Command("open", at)] * (not is_open)
            if hand == NOTHING:
                after += [Command("take", thing) for thing in here if self.objects[thing].portable]
            after += [Command("use", thing) for thing in here if self.objects[thing].lamp]
        examined = [Command("examine", hand)] * (hand != NOTHING) + [Command("examine receptacle", at)] * (at != MIDDLE)
        examined.sort(key=lambda command: self.text(command, at))
        before += examined
        return Menu(
            (*(self.text(c, at) for c in before), *going[0], *(self.text(c, at) for c in after)),
            (*before, *going[1], *after),
        )

    def _treatments(self, at: int, hand: int) -> Iterator[tuple[str, int]]:
        """The treatments of the held object that are possible here."""
        if hand != NOTHING:
            for verb, (kind, things) in TREATED.items():
                if self.receptacles[at].type == kind and self.objects[hand].type in things:
                    yield verb, hand


def _mask(indices: Iterable[int]) -> int:
    mask = 0
    for i in indices:
        mask |= 1 << i
    return mask


def _with(places: tuple[int, ...], thing: int, place: int) -> tuple[int, ...]:
    return (*places[:thing], place, *places[thing + 1 :])
