"""The cost of a computed evaluation beside a sampled one: seconds for one policy on salad, and their ratio.

    python -m scripts.bench.exact

DQN-Prior with an untrained Q, prompt and Q without history, all answers kept beforehand; median of five, interleaved.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from llmrl.build import build, build_exact, build_pool
from llmrl.config.compose import compose
from llmrl.rollout.episodes import evaluate
from scripts.bench.calibration import told

EPISODES = 100


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    print(told())
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "kept.sqlite3"
        cfg = compose(["encoder.history_turns=0", "prompt.history_turns=0", f"paths.cache={cache}"])
        parts, pool = build(cfg), build_pool(cfg, 32)
        start = time.perf_counter()
        exact = build_exact(cfg, parts.history_turns)
        assert exact is not None
        print(f"listing {exact.states:,} states: {time.perf_counter() - start:.2f} s")

        def computed() -> object:
            return exact.evaluate(parts.prior, parts.learner, greedy=False)

        def sampled(step: int = 0) -> object:
            return evaluate(
                pool, parts.prior, parts.learner, seed=0, step=step, episodes=EPISODES, greedy=False, history_turns=0
            )

        print(f"computed {computed()}\nsampled  {sampled()}")  # warms the answers and the features, too
        pairs = [(seconds(computed), seconds(partial(sampled, step))) for step in range(1, 6)]
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"computed {a:.3f} s, {EPISODES} episodes {b:.3f} s: {b / a:.1f} times as long")
        parts.answers.close()  # type: ignore[union-attr]
        pool.close()


if __name__ == "__main__":
    main()
