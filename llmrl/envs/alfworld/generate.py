"""Games of ours in ALFWorld's layout, so that its engine, and whatever else reads that layout, can play them.

They are the games of `env=household/*`: the same task, split and number is the same home, objects and goal. Domain and
grammar are the package's own files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from llmrl.envs.alfworld import packages
from llmrl.envs.alfworld.games import DATA, GAME, LOGIC, PDDL, TRAJECTORY, Split
from llmrl.envs.alfworld.problem import OFFICIAL, Names, pddl_problem
from llmrl.envs.alfworld.shadow import RECORD, record_of
from llmrl.envs.household.expert import solution
from llmrl.envs.household.game import TASKS, Game, Task
from llmrl.envs.household.generate import random_game
from llmrl.envs.household.text import task as instruction
from llmrl.envs.household.types import LAMPS


class Written(NamedTuple):
    split: Split
    task: Task
    folder: Path
    decisions: int  # of the walkthrough, a shortest one


def generate(
    out: Path,
    splits: Sequence[Split] = get_args(Split),
    tasks: Sequence[Task] = TASKS,
    count: int = 10,
    index: int = 0,
) -> Iterator[Written]:
    """Write games `index` to `index + count - 1` of each task and split under `out`, one after the other.

    Each is played to its end by ALFWorld's engine before it is written. Writing a game again writes the same bytes.
    Raises ValueError where the extra is missing, and where `out` holds games of others: they would be mixed up.
    """
    domain, grammar = packages.packaged_logic()
    _refuse_others(out / DATA)
    (out / "logic").mkdir(parents=True, exist_ok=True)
    for file in packages.logic_files():
        _write(out / "logic" / file.name, file.read_text(encoding="utf-8"))
    from llmrl.envs.alfworld.engine import Engine

    engine = Engine()
    try:
        for split in splits:
            for task in tasks:
                for number in range(index, index + count):
                    game = random_game(task, split, number)
                    walkthrough = [Names(game).theirs(command) for command in solution(game)]
                    data = game_data(game, domain, grammar, walkthrough)
                    _prove(engine, game, data)
                    folder = out / DATA / split / folder_name(game)
                    folder.mkdir(parents=True, exist_ok=True)
                    _write(folder / PDDL, data["pddl_problem"])
                    _write(folder / GAME, json.dumps(data))
                    _write(folder / TRAJECTORY, json.dumps(trajectory(game), indent=1))
                    yield Written(split, task, folder, len(walkthrough))
    finally:
        engine.close()


def folder_name(game: Game) -> str:
    """TYPE-OBJECT-None-RECEPTACLE-SCENE/trial_ID: the scene names the layout, the trial the game."""
    goal = game.goal
    scene = int(game.layout.hash[:6], 16)
    return f"{OFFICIAL[goal.task]}-{goal.object}-None-{_place(game)}-{scene}/trial_{game.hash[:16]}"


def game_data(game: Game, domain: str, grammar: str, walkthrough: Sequence[str]) -> dict[str, Any]:
    """The contents of game.tw-pddl."""
    logic = (domain, grammar.replace("UNKNOWN GOAL.", instruction(game.goal)), pddl_problem(game))
    return dict(zip(LOGIC, logic, strict=True)) | {"solvable": True, "walkthrough": list(walkthrough)}


def trajectory(game: Game) -> dict[str, Any]:
    """The contents of traj_data.json: the keys that readers of the official data use, and the game itself."""
    goal = game.goal
    return {
        "task_id": f"trial_{game.hash[:16]}",
        "task_type": OFFICIAL[goal.task],
        "pddl_params": {
            "object_target": goal.object,
            "parent_target": goal.receptacle or "",
            "toggle_target": sorted(LAMPS)[0] if goal.task == "examine" else "",
            "mrecep_target": "",
            "object_sliced": False,
        },
        "turk_annotations": {"anns": [{"task_desc": instruction(goal)}]},
        RECORD: record_of(game),
    }


def _place(game: Game) -> str:
    """The word of the folder's name in the place of the receptacle; for `examine` that is the lamp."""
    return game.goal.receptacle or sorted(LAMPS)[0]


def _prove(engine: Any, game: Game, data: dict[str, Any]) -> None:
    engine.load(data)
    shown = engine.reset()
    for command in data["walkthrough"]:
        assert not shown.won, f"{game.name}: ALFWorld's engine says that it is solved before {command}"
        assert command in shown.commands, f"{game.name}: ALFWorld's engine does not admit {command}"
        shown = engine.step(command)
    assert shown.won, f"{game.name}: ALFWorld's engine does not say that it is solved"


def _refuse_others(data: Path) -> None:
    for file in data.rglob(TRAJECTORY):
        try:
            ours = RECORD in json.loads(file.read_bytes())
        except ValueError:
            ours = False
        if not ours:
            raise ValueError(f"{data} holds games of others ({file.parent.relative_to(data)}): name another folder")


def _write(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)
