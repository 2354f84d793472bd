"""Decisions per second in homes, of random play: the engine alone, and the whole world with texts and expert's actions.

    python -m scripts.bench.homes [--decisions 20000]

Each game is played for `--per-game` decisions, so that the first visit of every state is part of it. Figures are
decisions per second of CPU time of this process, the median of five runs; games are generated before, and timed apart.
Other programs slow CPU time too, since they share caches and clock rate. So each figure has a calibration of its moment
beside it, and decisions per calibration, which is the figure to compare. Last comes what `env.memory` costs: how many
different prompts an agent meets that takes an expert's action at three decisions in ten, else a random one (12 dev
games, 5 episodes each).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import get_args

from llmrl.envs.household.env import household
from llmrl.envs.household.game import Game
from llmrl.envs.household.generate import random_game
from llmrl.envs.household.home import Home
from llmrl.envs.household.text import Memory
from scripts.bench.calibration import interpreter

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--decisions", type=int, default=20_000, help="decisions in each run")
    parser.add_argument("--per-game", type=int, default=500, help="of them, in each game (ten episodes)")
    args = parser.parse_args()
    count = args.decisions // args.per_game
    seconds = _seconds(lambda run: [random_game("mixed", "train", run * count + i) for i in range(count)])
    print(f"{'generating a game, solving it included':<50}{seconds / count * 1e3:>9.2f} ms")
    seconds = _seconds(lambda run: play_engine(_games(run, count), args.per_game))
    _tell("engine: menus, rules, goal", args.decisions, seconds)
    for memory in get_args(Memory):
        seconds = _seconds(lambda run, memory=memory: play_world(run, count, args.per_game, memory))  # type: ignore[misc]
        _tell(f"world: engine, texts, expert; memory={memory}", args.decisions, seconds)
    for memory in get_args(Memory):
        decisions, prompts, characters = meet(memory)
        share, length = len(prompts) / decisions, characters / decisions
        print(f"{f'{decisions:,} decisions, memory={memory}':<50}{share:>9.1%} new prompts of {length:.0f} characters")


def meet(memory: Memory, games: int = 12, episodes: int = 5, expert: float = 0.3) -> tuple[int, set[str], int]:
    """Decisions, the different prompts among them, and the characters of all."""
    env = household(task="mixed", split="dev", count=games, memory=memory)
    decisions, prompts, characters = 0, set(), 0
    for episode in range(games * episodes):
        rng, over = Random(episode), False
        shown, info = env.reset(options={"task": env.task_ids[episode % games]})
        while not over:
            prompt = f"{shown['task']}\n{shown['observation']}"
            prompts.add(prompt)
            decisions, characters = decisions + 1, characters + len(prompt)
            actions = sorted(info["expert_actions"]) if rng.random() < expert else shown["actions"]
            shown, _, terminated, truncated, info = env.step(rng.choice(actions))
            over = terminated or truncated
    return decisions, prompts, characters


def play_engine(games: Sequence[Game], decisions: int) -> None:
    for number, game in enumerate(games):
        rng, home = Random(number), Home(game)
        state = home.initial()
        for decision in range(decisions):
            commands = home.menu(state).commands
            state = home.apply(state, commands[int(rng.random() * len(commands))])
            if home.done(state) or decision % 50 == 49:
                state = home.initial()


def play_world(run: int, count: int, decisions: int, memory: Memory) -> None:
    env = household(task="mixed", split="train", index=run * count, count=count, memory=memory)
    for number, task in enumerate(env.task_ids):
        rng = Random(number)
        shown, _ = env.reset(options={"task": task})
        for _ in range(decisions):
            actions = shown["actions"]
            shown, _, terminated, truncated, _ = env.step(actions[int(rng.random() * len(actions))])
            if terminated or truncated:
                shown, _ = env.reset(options={"task": task})


def _tell(name: str, decisions: int, seconds: float) -> None:
    speed, fixed = decisions / seconds, interpreter()
    beside = f"calibration {fixed * 1e3:.0f} ms: {speed * fixed:,.0f} decisions in its time"
    print(f"{name:<50}{speed:>9,.0f} decisions/s   {beside}", flush=True)


def _games(run: int, count: int) -> list[Game]:
    return [random_game("mixed", "train", run * count + i) for i in range(count)]


def _seconds(run: Callable[[int], object]) -> float:
    taken = []
    for number in range(REPEATS):
        start = time.process_time()
        run(number)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
