"""How fast offline learners take gradient steps, and where the time of one run goes.

    python -m scripts.bench.offline data/salad.parquet --size 10000
    python -m scripts.bench.offline data/home.parquet env=household/pick --size 10000 --threads 2

Samples are rows of batches: a gradient step on a batch of 128 is 128 of them; their seconds are the median of five.
With one thread, seconds are those this process computed, so that what else the machine does hardly counts; with more
they are those that passed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from llmrl.config.compose import compose
from llmrl.learners.offline import steps_of
from llmrl.report.progress import Silent
from llmrl.run.folder import RunFolder
from llmrl.run.identity import identify_run
from llmrl.training.offline import OfflineTraining
from scripts.bench.calibration import told

LEARNERS = ("bc", "bc_prior", "cql", "cql_prior", "iql")
SAME_HISTORY = ["prompt.history_turns=0", "encoder.history_turns=0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learners", nargs="+", default=LEARNERS)
    parser.add_argument("--threads", type=int, default=1, help="of torch; with more than one, time is by the clock")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    torch.set_num_threads(args.threads)
    print(f"{told()}\n")
    seconds_of = partial(_timed, time.process_time if args.threads == 1 else time.perf_counter)
    print(f"| learner | samples/s | read, ask, encode | {args.steps} steps | evaluation | the same again |")
    print("|---|--:|--:|--:|--:|--:|")
    for learner in args.learners:
        own = [f"learner={learner}", f"data={args.data}", f"data.size={args.size}", f"threads={args.threads}"]
        with tempfile.TemporaryDirectory() as runs:
            cfg = compose([*own, *SAME_HISTORY, *args.overrides, f"paths.runs={runs}"])
            identity = identify_run(cfg)
            with RunFolder.open(Path(runs), identity.name, identity.id) as folder:
                run = OfflineTraining(cfg, identity, folder, Silent())
                ready = seconds_of(run.begin)
                seconds = [seconds_of(lambda: list(steps_of(run.learner, args.steps))) for _ in range(5)]  # noqa: B023
                first, again = seconds_of(run.evaluate), seconds_of(run.evaluate)
                run.close()
        rate = args.steps * cfg.learner.batch / median(seconds)
        print(f"| {learner} | {rate:,.0f} | {ready:.2f} s | {median(seconds):.2f} s | {first:.2f} s | {again:.2f} s |")


def _timed(clock: Callable[[], float], what: Callable[[], object]) -> float:
    start = clock()
    what()
    return clock() - start


if __name__ == "__main__":
    main()
