"""Play our homes on ALFWorld's engine and on ours side by side, and count what differs.

    python scripts/check_homes.py [--games 5] [--steps 200]

Needs the extra `alfworld`. Games of all six types of tasks are written in ALFWorld's terms and played on both sides
with the same commands: half of them an expert's, half at random (a verb first, then one of its commands, so that rare
verbs are tried too). Compared are, at every step, the admissible commands through the names of
`llmrl.envs.alfworld.problem`, order aside, and whether the goal is reached. A game that is won starts again.

Exit status: 0 all agrees, 1 something differs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np

from llmrl.envs.alfworld.engine import Engine, Shown
from llmrl.envs.alfworld.generate import game_data
from llmrl.envs.alfworld.packages import packaged_logic
from llmrl.envs.alfworld.shadow import Shadow
from llmrl.envs.household.game import TASKS, Game
from llmrl.envs.household.generate import random_game


class Found(NamedTuple):
    steps: int
    wins: int
    differing: Counter[str]  # commands | outcome -> steps
    verbs: Counter[str]  # as played


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--games", type=int, default=5, help="of each type of task")
    parser.add_argument("--steps", type=int, default=200, help="in each game")
    args = parser.parse_args(argv)
    engine = Engine()
    total, verbs = 0, Counter[str]()
    print(f"{'task':<10}{'games':>6}{'steps':>8}{'wins':>7}{'commands differ':>17}{'outcome differs':>17}")
    for task in TASKS:
        found = [compare(engine, random_game(task, "train", i), args.steps, seed=i) for i in range(args.games)]
        differing = sum((one.differing for one in found), Counter[str]())
        steps, wins = sum(one.steps for one in found), sum(one.wins for one in found)
        print(f"{task:<10}{len(found):>6}{steps:>8}{wins:>7}{differing['commands']:>17}{differing['outcome']:>17}")
        total += sum(differing.values())
        verbs += sum((one.verbs for one in found), Counter[str]())
    engine.close()
    print("played:", ", ".join(f"{verb} {times}" for verb, times in verbs.most_common()))
    return int(total > 0)


def compare(engine: Engine, game: Game, steps: int, seed: int) -> Found:
    rng = np.random.default_rng(seed)
    ours = Shadow(game)
    engine.load(game_data(game, *packaged_logic(), walkthrough=()))
    theirs = engine.reset()
    wins, differing, verbs = 0, Counter[str](), Counter[str]()
    for _ in range(steps):
        differing["commands"] += set(theirs.commands) != set(ours.commands())
        command = _choice(rng, theirs, ours)
        verbs[command.split()[0]] += 1
        theirs = engine.step(command)
        if command not in ours.commands():
            differing["outcome"] += 1
            break
        ours.step(command)
        differing["outcome"] += theirs.won != ours.done()
        if theirs.won or ours.done():
            wins += 1
            ours.reset()
            theirs = engine.reset()
    return Found(sum(verbs.values()), wins, +differing, verbs)


def _choice(rng: np.random.Generator, shown: Shown, ours: Shadow) -> str:
    expert = sorted(ours.expert_actions() & set(shown.commands))
    if expert and rng.random() < 0.5:
        return expert[int(rng.integers(len(expert)))]
    by_verb: dict[str, list[str]] = defaultdict(list)
    for command in shown.commands:
        by_verb[command.split()[0]].append(command)
    commands = by_verb[sorted(by_verb)[int(rng.integers(len(by_verb)))]]
    return commands[int(rng.integers(len(commands)))]


if __name__ == "__main__":
    sys.exit(main())
