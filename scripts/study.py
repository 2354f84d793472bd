"""Runs a study: every arm with every seed, each a run like any other; what is finished is not run again.

    python -m scripts.study scripts/studies/salad.yaml --jobs 2
    python -m scripts.study scripts/studies/salad.yaml --arms dqn dqn_prior --seeds 5 --list

A study is a YAML file: `common` overrides, `seeds`, and `arms` by name, each a list of overrides or a mapping with
`set` (overrides) and `seeds` (how many, where not all). `+name` in a list stands for the overrides of `sets.name`, so
that what was tuned is written once. Seeds are the outer loop, so that a study that is stopped
early has something of every arm. Worker processes run one cell after another and load torch once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from llmrl.config import compose, run_name


@dataclass(frozen=True)
class Cell:
    arm: str
    seed: int
    overrides: list[str]


@dataclass(frozen=True)
class Study:
    name: str
    common: list[str]
    seeds: int
    arms: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, file: Path) -> Study:
        known = {"about", "common", "seeds", "sets", "arms"}
        plain = yaml.safe_load(file.read_text())
        if wrong := set(plain) - known:
            raise SystemExit(f"{file}: unknown keys {sorted(wrong)}; there are {', '.join(sorted(known))}")
        sets = plain.get("sets", {})
        arms = {}
        for name, arm in plain["arms"].items():
            arm = {"set": arm} if isinstance(arm, list) else arm
            arms[name] = arm | {"set": list(_unfolded(arm["set"], sets, f"{file}: arms.{name}"))}
        return cls(file.stem, plain.get("common", []), plain["seeds"], arms)

    def cells(self, arms: list[str] | None = None, seeds: int | None = None) -> Iterator[Cell]:
        chosen = {name: arm for name, arm in self.arms.items() if arms is None or name in arms}
        if missing := set(arms or []) - set(chosen):
            raise SystemExit(f"{self.name} has no arm {', '.join(sorted(missing))}; there are {', '.join(self.arms)}")
        for seed in range(self.seeds if seeds is None else seeds):
            for name, arm in chosen.items():
                if seed < arm.get("seeds", self.seeds):
                    yield Cell(name, seed, [*self.common, *arm["set"], f"seed={seed}"])


def _unfolded(overrides: list[str], sets: dict[str, list[str]], where: str) -> Iterator[str]:
    for override in overrides:
        if not override.startswith("+"):
            yield override
        elif override[1:] in sets:
            yield from _unfolded(sets[override[1:]], sets, where)
        else:
            raise SystemExit(f"{where}: there is no set {override[1:]}; there are {', '.join(sets)}")


def run(cell: Cell, runs: Path) -> str:
    """Runs a cell in this process; returns what went wrong, or nothing."""
    import llmrl

    try:
        llmrl.train(llmrl.compose([*cell.overrides, f"paths.runs={runs}", "progress=false"]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--runs", type=Path, help="default: runs/STUDY")
    parser.add_argument("--arms", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, help="only the first so many")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the runs' names, and do nothing")
    args = parser.parse_args()
    study = Study.read(args.study)
    runs = args.runs or Path("runs") / study.name
    cells = list(study.cells(args.arms, args.seeds))
    if args.list:
        for cell in cells:
            print(cell.arm, runs / run_name(compose(cell.overrides)))
        return
    start, failed = time.monotonic(), 0
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run, cell, runs): cell for cell in cells}
        for done, future in enumerate(as_completed(waiting), 1):
            cell, error = waiting[future], future.result()
            failed += bool(error)
            print(
                f"[{done}/{len(cells)}] {time.monotonic() - start:.0f} s  {cell.arm} seed {cell.seed}  {error}",
                flush=True,
            )
    if failed:
        raise SystemExit(f"{failed} of {len(cells)} runs failed")


if __name__ == "__main__":
    main()
