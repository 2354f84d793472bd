"""The machine's speed during a benchmark: two fixed pieces of work, whose seconds stand beside every figure.

A ratio to the one of its kind can be compared between machines, and between a quiet hour and a busy one. Both count
seconds of CPU time of this process, which other programs lengthen less than those of the clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

REPEATS = 3


def products() -> float:
    """Seconds of ten products of two fixed 1024 x 1024 float32 matrices: for work of torch."""
    import torch

    a = torch.linspace(-1, 1, 1024 * 1024).view(1024, 1024)

    def run() -> None:
        for _ in range(10):
            a @ a

    return _median(run)


def interpreter() -> float:
    """Seconds of five million steps of a fixed loop: for work of the Python interpreter, such as environments."""

    def run() -> None:
        total = 0
        for i in range(5_000_000):
            total += i & 7
        assert total

    return _median(run)


def told() -> str:
    """Both, as a line of a benchmark's output."""
    return f"calibration: products {products() * 1e3:.0f} ms, interpreter {interpreter() * 1e3:.0f} ms"


def _median(run: Callable[[], None]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)
