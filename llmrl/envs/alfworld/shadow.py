"""A game of ours that ALFWorld's engine plays, followed by our own engine: what an expert would do is known then."""

from __future__ import annotations

from typing import Any

from llmrl.envs.alfworld.games import GameFile
from llmrl.envs.alfworld.problem import Names, pddl_problem
from llmrl.envs.household.expert import Expert
from llmrl.envs.household.game import Game, Goal, Layout, Object, Receptacle
from llmrl.envs.household.home import Home

RECORD = "llmrl"  # the key of traj_data.json under which a game of ours is written


class Shadow:
    """Commands and texts are those of ALFWorld's engine."""

    def __init__(self, game: Game) -> None:
        self.home, self._names = Home(game), Names(game)
        self._expert = Expert(self.home)
        self.state = self.home.initial()

    def reset(self) -> None:
        self.state = self.home.initial()

    def step(self, command: str) -> None:
        """Raises ValueError for a command that is not admissible in our engine."""
        menu = self.home.menu(self.state)
        self.state = self.home.apply(self.state, menu.commands[menu.texts.index(self._names.ours(command))])

    def commands(self) -> tuple[str, ...]:
        """The admissible commands, sorted."""
        return tuple(sorted(self._names.theirs(text) for text in self.home.menu(self.state).texts))

    def done(self) -> bool:
        return self.home.done(self.state)

    def expert_actions(self) -> frozenset[str]:
        return frozenset(self._names.theirs(text) for text in self._expert.plan(self.state).commands)


def shadow_of(file: GameFile) -> Shadow | None:
    """None for a game that is not ours, or whose problem is another than the one that was written."""
    record = file.trajectory().get(RECORD)
    try:
        game = game_from(record) if isinstance(record, dict) else None
        ours = game is not None and pddl_problem(game) == file.logic()["pddl_problem"]
    except (KeyError, TypeError, ValueError):
        return None
    return Shadow(game) if game is not None and ours else None


def record_of(game: Game) -> dict[str, Any]:
    """A game as plain data."""
    return {
        "name": game.name,
        "rooms": list(game.layout.rooms),
        "receptacles": [[r.type, r.number, r.room] for r in game.layout.receptacles],
        "objects": [[o.type, o.number, o.place] for o in game.objects],
        "goal": [game.goal.task, game.goal.object, game.goal.receptacle],
    }


def game_from(record: dict[str, Any]) -> Game:
    """Raises KeyError, TypeError or ValueError for what is no game."""
    layout = Layout(tuple(record["rooms"]), tuple(Receptacle(*r) for r in record["receptacles"]))
    return Game(record["name"], layout, tuple(Object(*o) for o in record["objects"]), Goal(*record["goal"]))
