"""CPU time of a whole run of eight decisions whose answers are kept, beside that of `import torch`.

    python -m scripts.bench.startup

Each is a process of its own, user and system time, its children's included; the two take turns, after one of each that
fills caches: Python's bytecode, the kept answers. `first line` and `first decision` are wall time since the command was
started: the line that names the run, and that of the evaluation before the first decision.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

RUN = [sys.executable, "-m", "llmrl", "train", "env=overcooked_tomato", "env_steps=8", "--fresh"]
TORCH = [sys.executable, "-c", "import torch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "LLMRL_CACHE": f"{folder}/answers.sqlite3", "OMP_NUM_THREADS": "1"}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what an installation has compiled already
        turns = [(cpu(TORCH, folder, environ), cpu(RUN, folder, environ)) for _ in range(repeats + 1)]
        waited = [lines(folder, environ) for _ in range(repeats)]
    torch, run = map(list, zip(*turns[1:], strict=True))
    print(f"import torch    {_spread(torch)} s of CPU")
    print(f"the run         {_spread(run)} s of CPU")
    print(f"ratio           {statistics.median(run) / statistics.median(torch):.2f} of the medians")
    print(f"first line      {_spread([first for first, _ in waited])} s")
    print(f"first decision  {_spread([second for _, second in waited])} s")


def cpu(command: list[str], folder: str, environ: dict[str, str]) -> float:
    before = os.times()
    subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def lines(folder: str, environ: dict[str, str]) -> tuple[float, float]:
    """Seconds until the first line, and until the second."""
    start = time.perf_counter()
    with subprocess.Popen(RUN, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = []
        for _ in range(2):
            process.stdout.readline()
            found.append(time.perf_counter() - start)
        process.stdout.read()
    return found[0], found[1]


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
