"""Trains the control models and cloned weights that studies name, those that are not in `runs/models` yet.

python -m scripts.control_models --jobs 2
python -m scripts.control_models --list
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts.tiny.ladder import RUNGS

MODELS = Path("runs") / "models"
# That read what tiny-2 read: the width, layers and steps of each.
READ_HOMES = {"h-s": (64, 2, 1500), "h-1000": (128, 3, 1000)}
CLONES = {"clone_policy_h0": "policy", "clone_q_authors_h0": "q"}


@dataclass(frozen=True)
class Model:
    name: str
    command: list[str]
    path: Path  # is there once the model is complete


def models() -> Iterator[Model]:
    """One process each, so that they may be trained side by side."""
    for rung in RUNGS:
        yield Model(rung, ["scripts.tiny.ladder", rung, "--out", str(MODELS)], MODELS / rung / "card.json")
    for name, (width, layers, steps) in READ_HOMES.items():
        read = ["--kitchens", "200", "--howtos", "300", "--games", "1800", "--vocab", "1024"]
        size = f"--width {width} --layers {layers} --steps {steps}".split()
        command = ["scripts.tiny.build", *read, *size, "--out", str(MODELS / name)]
        yield Model(name, command, MODELS / name / "card.json")
    for file, what in CLONES.items():
        path = MODELS / f"{file}.safetensors"
        yield Model(path.name, ["scripts.clone", "--what", what, "--out", str(path)], path)


def train(model: Model) -> bool:
    """Whether it went well."""
    print(f"{model.name}: python -m {' '.join(model.command)}", flush=True)
    return subprocess.run([sys.executable, "-m", *model.command]).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="processes at the same time (default: 2)")
    parser.add_argument("--list", action="store_true", help="say which are missing, and do nothing")
    args = parser.parse_args()
    missing = [model for model in models() if not model.path.is_file()]
    if args.list:
        print("\n".join(model.name for model in missing))
        return
    with ThreadPoolExecutor(args.jobs) as pool:
        if not all(list(pool.map(train, missing))):
            raise SystemExit("a model could not be trained; what is above says why")


if __name__ == "__main__":
    main()
