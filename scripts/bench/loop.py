"""Where the time of a whole run goes, with no answer kept (cold) and with all (warm).

    python -m scripts.bench.loop [OVERRIDES ...]

Every second is counted once, for the innermost of: world (resets and steps), answers (the model, and reading what it
said before), learner (values, replay and gradient steps), evaluation (beside the three before), files (logs,
checkpoints and what goes into them, summary, picture), and the loop, which is all the rest.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrl.answers.answers import Answers
from llmrl.config.compose import compose
from llmrl.envs.pool import EnvPool
from llmrl.learners.dqn import DQN
from llmrl.run.folder import RunFolder
from llmrl.train import train
from llmrl.training.base import Training
from scripts.bench.calibration import told

PARTS: dict[str, list[tuple[type, str]]] = {
    "world": [(EnvPool, "run")],
    "answers": [(Answers, "scores"), (Answers, "generations")],
    "learner": [(DQN, name) for name in ("act", "evaluate", "policy", "observe", "update")],
    "evaluation": [(Training, "evaluate")],
    "files": [
        *((RunFolder, name) for name in ("append", "append_bytes", "write", "finish")),
        (Training, "checkpoint"),
        (Training, "draw"),
    ],
    "loop": [(Training, "run")],
}
REPEATS = 3


class Clock:
    """Seconds by part, each for the innermost part that is running."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    def switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.switch()
            self._running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self._running.pop()

        return wrapper


def main() -> None:
    overrides = sys.argv[1:]
    print(told())
    clock = Clock()
    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, clock.timed(part, getattr(owner, name)))
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(REPEATS):
            for kind in found:  # interleaved, so that a busy moment is not all on one side
                clock.seconds.clear()
                paths = [f"paths.runs={scratch}/{kind}{i}", f"paths.cache={scratch}/{i}.sqlite3"]
                train(compose([*overrides, *paths]))
                found[kind].append(dict(clock.seconds))
                kept = sum(p.stat().st_size for p in Path(scratch, f"{kind}{i}").rglob("*") if p.is_file())
    for kind, runs in found.items():
        totals = [sum(run.values()) for run in runs]
        print(f"{kind}: {statistics.median(totals):.1f} s (median of {REPEATS})")
        for part in PARTS:
            shares = [run.get(part, 0.0) / total for run, total in zip(runs, totals, strict=True)]
            print(f"  {part:<11}{statistics.median(shares):6.1%}")
    print(f"the folder holds {kept / 1e6:.1f} MB at the end")


if __name__ == "__main__":
    main()
