"""Training speed with all answers kept: decisions per second of a run, updates included, evaluation not.

    python -m scripts.bench.training [OVERRIDES ...]

The run's training part is repeated in this process; the first repetition computes what is not kept yet and is not
counted. Beside the speed stands a calibration, a fixed matrix product: quote the ratio when machines differ.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from llmrl.config.compose import compose
from llmrl.report.progress import Silent
from llmrl.run.folder import RunFolder
from llmrl.run.identity import identify_run
from llmrl.training.online import OnlineTraining
from scripts.bench.calibration import products

REPEATS = 5


def main() -> None:
    cfg = compose(sys.argv[1:])
    torch.set_num_threads(cfg.threads)
    with tempfile.TemporaryDirectory() as scratch:
        speeds, calibrations = [], []
        for i in range(REPEATS + 1):
            identity = identify_run(cfg)
            with RunFolder.open(Path(scratch) / str(i), identity.name, identity.id) as folder:
                training = OnlineTraining(cfg, identity, folder, Silent())
                training.rollout.start()
                start = time.perf_counter()
                while training.env_steps < cfg.env_steps:
                    training.tick()
                seconds = time.perf_counter() - start
                training.close()
            computed = training.parts.answers.counts.computed if training.parts.answers else 0
            product = products()
            print(
                f"{'warm-up' if i == 0 else i}: {cfg.env_steps / seconds:.0f} decisions/s, "
                f"{computed} answers computed, calibration {product * 1e3:.0f} ms",
                flush=True,
            )
            if i:
                assert computed == 0
                speeds.append(cfg.env_steps / seconds)
                calibrations.append(product)
    speed, product = statistics.median(speeds), statistics.median(calibrations)
    print(f"median {speed:.0f} decisions/s, calibration {product * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
