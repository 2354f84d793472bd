"""ALFWorld's engine, stock and fast: steps, resets, memory.

    python -m scripts.bench.alfworld [--games 6] [--steps 60]

Needs the extra `alfworld`, and writes games of ours (one of each type of task by default) to a folder that is removed.
Both engines play the same games with the same commands and are held to the same texts, in turns, so that what else the
machine does falls on both; figures are CPU time. Games are loaded as `env=alfworld/*` does: the package's own grammar,
and the game's sentence. `very first` is the first load and reset of a process, of one game, which parses the grammar;
`first reset` is any other game's first. Both are measured twice, with nothing kept on disk and with what that left
there. `again` is of a game that was played before, with another one in between, as in training. Memory is what a fresh
process grows by: over games in a row, and over environments that are made, played and closed, both counted from the
second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmrl.envs.alfworld.engine import Engine, Shown
from llmrl.envs.alfworld.env import AlfworldEnv
from llmrl.envs.alfworld.games import GameFile, collect
from llmrl.envs.alfworld.packages import packaged_logic


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--games", type=int, default=6, help="to compare the engines on")
    parser.add_argument("--steps", type=int, default=60, help="in each game, with either engine")
    parser.add_argument("--in-a-row", type=int, default=100, help="games, for the growth of memory")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        needed = max(args.games, args.in_a_row)
        generate = [sys.executable, "-m", "llmrl", "worlds", "generate", "alfworld", folder, "--split", "train"]
        subprocess.run([*generate, "--count", str(-(-needed // 6))], check=True, stdout=subprocess.DEVNULL)
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")  # nothing is kept there yet
        for part, number in ((speed, args.games), (speed, args.games), (memory, args.in_a_row), (environments, 20)):
            process = multiprocessing.get_context("spawn").Process(target=part, args=(Path(folder), number, args.steps))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(f"{part.__name__} failed")


def speed(folder: Path, number: int, steps: int) -> None:
    found = collect(folder, "train").games
    games = found[:: max(1, len(found) // number)][:number]  # of all types
    engines = {"stock": Engine(fast=False), "fast": Engine()}
    counts = {"very first": 1, "first reset": len(games) - 1, "again": len(games) - 1, "steps": len(games) * steps}
    seconds = {name: dict.fromkeys(counts, 0.0) for name in engines}
    for number, game in enumerate(games):
        said: dict[str, list[Shown]] = {}
        for name, engine in engines.items():
            clock = time.process_time()
            said[name] = [shown(engine, game)]
            seconds[name]["first reset" if number else "very first"] += time.process_time() - clock
        for name, engine in engines.items():
            rng = random.Random(number)
            clock = time.process_time()
            for _ in range(steps):
                said[name].append(engine.step(rng.choice(said[name][-1].commands)))
            seconds[name]["steps"] += time.process_time() - clock
        assert said["stock"] == said["fast"], f"the engines differ in {game.name}"
        for name, engine in engines.items() if number else ():
            shown(engine, games[number - 1])
            clock = time.process_time()
            shown(engine, game)
            seconds[name]["again"] += time.process_time() - clock
    for engine in engines.values():
        engine.close()
    print(f"{len(games)} games, {len(games) * steps} steps with the same texts")
    for what, unit in counts.items():
        stock, fast = (seconds[name][what] / unit for name in ("stock", "fast"))
        print(f"{what:<12} stock {stock * 1e3:8.2f} ms   fast {fast * 1e3:8.2f} ms   {stock / fast:6.1f} times")


def shown(engine: Engine, game: GameFile) -> Shown:
    engine.load(game.logic() | {"grammar": packaged_logic()[1]}, game.sentence)
    return engine.reset()


def memory(folder: Path, number: int, steps: int) -> None:
    games = collect(folder, "train")
    env = AlfworldEnv(games._replace(games=games.games[:number]), max_decisions=steps)
    play(env, env.task_ids[0])
    before = resident()
    for task in env.task_ids[1:]:
        play(env, task)
    print(f"{len(env.task_ids)} games in a row: {before:.0f} MB after the first, {resident() - before:+.1f} MB since")


def environments(folder: Path, number: int, steps: int) -> None:
    games = collect(folder, "train")
    before = 0.0
    for i in range(number):
        env = AlfworldEnv(games._replace(games=games.games[:1]), max_decisions=steps)
        play(env, env.task_ids[0])
        env.close()
        before = before if i else resident()
    print(
        f"{number} environments, made and closed: {before:.0f} MB after the first, {resident() - before:+.1f} MB since"
    )


def play(env: AlfworldEnv, task: str) -> None:
    env.action_space.seed(0)
    env.reset(options={"task": task})
    over = False
    while not over:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over = terminated or truncated


def resident() -> float:
    """MB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
