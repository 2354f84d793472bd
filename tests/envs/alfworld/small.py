"""Small games in ALFWorld's layout, written without its packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrl.envs.alfworld.generate import folder_name, trajectory
from llmrl.envs.alfworld.problem import pddl_problem
from llmrl.envs.household.game import Game, Goal, Layout, Object, Receptacle

HEAT_A_MUG = Goal("heat", "Mug", "Cabinet")
KITCHEN = ("Cabinet", "Cabinet", "CounterTop", "Fridge", "Microwave", "SinkBasin", "Drawer")


def small_game(goal: Goal = HEAT_A_MUG, name: str = "small") -> Game:
    receptacles = tuple(Receptacle(k, KITCHEN[:i].count(k) + 1, "kitchen") for i, k in enumerate(KITCHEN))
    things = (Object("Mug", 1, 2), Object("Mug", 2, 2), Object("Apple", 1, 3), Object("Fork", 1, 6))
    lamps = (Object("DeskLamp", 1, 2),) if goal.task == "examine" else ()
    return Game(name, Layout(("kitchen",), receptacles), (*things, *lamps), goal)


def grammar(sentence: str) -> str:
    """As much of a grammar as the loader reads."""
    return '"task": [{"rhs": ' + json.dumps(sentence) + "}]"


def write_game(root: Path, game: Game, split: str = "train", sentence: str | None = None, **changes: Any) -> Path:
    """Under its folder's name; `changes` to game.tw-pddl, a key whose value is ... is left out."""
    folder = root / "json_2.1.1" / split / folder_name(game)
    folder.mkdir(parents=True)
    data = {
        "pddl_domain": "(define (domain alfred))",
        "grammar": grammar(f"Your task is to: {sentence or 'do it'}."),
        "pddl_problem": pddl_problem(game),
        "solvable": True,
        "walkthrough": [],
    } | changes
    (folder / "game.tw-pddl").write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))
    (folder / "traj_data.json").write_text(json.dumps(trajectory(game)))
    return folder
