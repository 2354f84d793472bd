"""Decisions per second of random play, everything included that a decision needs: texts, menus, pay, expert's actions.

    python -m scripts.bench.envs [--decisions 40000]

Each figure is the median of five runs on fresh worlds, so that the first visit of every state is part of it. The
first line tells how fast the machine is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from llmrl.envs.base import TextEnv
from llmrl.envs.kitchen.env import overcooked_random, overcooked_salad, overcooked_tomato
from scripts.bench.calibration import told

WORLDS: dict[str, Callable[[int], TextEnv]] = {  # given the number of the run: generated kitchens are never met twice
    "overcooked_tomato": lambda run: overcooked_tomato(),
    "overcooked_salad": lambda run: overcooked_salad(),
    "overcooked_random, a kitchen of 3 ingredients": lambda run: overcooked_random(index=run),
    "overcooked_random, 20 mixed kitchens": lambda run: overcooked_random(index=20 * run, count=20, ingredients=None),
}
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--decisions", type=int, default=40_000, help="decisions in each run")
    decisions = parser.parse_args().decisions
    print(told())
    for name, make in WORLDS.items():
        envs = iter([make(run) for run in range(REPEATS)])
        seconds = _median(lambda envs=envs: play(next(envs), decisions))  # type: ignore[misc]
        print(f"{name:<50}{decisions / seconds:>9,.0f} decisions/s")


def play(env: TextEnv, decisions: int) -> None:
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(decisions):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()


def _median(run: Callable[[], None]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
