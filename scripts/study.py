"""Runs a study: every arm with every seed, each a run like any other; what is finished is not run again.

    python -m scripts.study scripts/studies/salad.yaml --jobs 2
    python -m scripts.study scripts/studies/salad.yaml --arms dqn dqn_prior --seeds 5 --list
    python -m scripts.study scripts/studies/salad.yaml --table dqn

A study is a YAML file: `common` overrides, `seeds`, and `arms` by name, each a list of overrides or a mapping with
`set` (overrides) and `seeds` (how many, where not all). `+name` in a list stands for the overrides of `sets.name`, so
that what was tuned is written once; what comes later replaces what came before. `empty_caches: true` gives each run a
cache of answers of its own, empty at first, which is what a comparison of seconds or tokens needs. `config_dir` is a
folder of config groups, beside the file.

An offline study also has `collect`, lists of what `llmrl collect` is told first, and `sizes`: each arm runs once per
size, or per size of its own `sizes`, with `data.size=SIZE`, the overrides of its `at.SIZE` and after them those of
`then`; an arm with `sizes: []` learns from no data. `scripts/offline.py` makes its table. `judge`, what trained agents
are to be evaluated in, is for `scripts/homes.py`.

Seeds are the outer loop, so that a study that is stopped early has something of every arm. Worker processes run one
cell after another and load torch once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmrl.config.compose import ConfigError, compose, run_id, run_name
from llmrl.core.processes import end_with_parent
from llmrl.core.targets import look_in
from llmrl.lm.serve import served_for
from llmrl.report import markdown
from llmrl.run.folder import is_complete, own_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from llmrl.run.load import RunInfo

LEVELS = (0.5, 0.8, 0.95)  # of success, in the table


@dataclass(frozen=True)
class Cell:
    arm: str
    seed: int
    overrides: list[str]
    size: int | None = None  # transitions of an offline run
    config_dir: Path | None = None

    def compose(self, *more: str) -> DictConfig:
        return compose([*self.overrides, *more], self.config_dir)


@dataclass(frozen=True)
class Study:
    name: str
    title: str  # above its panel of a figure
    common: list[str]
    seeds: int
    arms: dict[str, dict[str, Any]]
    empty_caches: bool
    collect: list[list[str]]  # what `llmrl collect` is told before anything runs
    sizes: list[int]
    config_dir: Path | None  # config groups of its own
    judged: dict[str, Any]  # evaluate, episodes, judge, ceilings, matrix: what trained agents are evaluated in

    @classmethod
    def read(cls, file: Path) -> Study:
        judged = {"evaluate": {}, "matrix": {}, "judge": {}, "episodes": 2, "ceilings": []}
        known = {
            "about",
            "title",
            "common",
            "seeds",
            "sets",
            "arms",
            "empty_caches",
            "collect",
            "sizes",
            "config_dir",
            *judged,
        }
        plain = yaml.safe_load(file.read_text())
        if wrong := set(plain) - known:
            raise SystemExit(f"{file}: unknown keys {sorted(wrong)}; there are {', '.join(sorted(known))}")
        sets = plain.get("sets", {})
        arms = {}
        for name, arm in plain["arms"].items():
            arm = {"set": arm} if isinstance(arm, list) else arm
            if wrong := set(arm) - {"set", "seeds", "sizes", "at", "then", "alone"}:
                raise SystemExit(f"{file}: arms.{name}: unknown keys {sorted(wrong)}")
            if arm.get("alone", name) not in plain["arms"]:
                raise SystemExit(f"{file}: arms.{name}: alone: {arm['alone']} is none of {', '.join(plain['arms'])}")
            arms[name] = arm | {"set": list(_unfolded(arm["set"], sets, f"{file}: arms.{name}"))}
        return cls(
            file.stem,
            plain.get("title", file.stem),
            plain.get("common", []),
            plain["seeds"],
            arms,
            plain.get("empty_caches", False),
            plain.get("collect", []),
            plain.get("sizes", []),
            file.parent / plain["config_dir"] if "config_dir" in plain else None,
            {key: plain.get(key, default) for key, default in judged.items()},
        )

    def cells(self, arms: list[str] | None = None, seeds: int | None = None) -> Iterator[Cell]:
        chosen = {name: arm for name, arm in self.arms.items() if arms is None or name in arms}
        if missing := set(arms or []) - set(chosen):
            raise SystemExit(f"{self.name} has no arm {', '.join(sorted(missing))}; there are {', '.join(self.arms)}")
        for seed in range(self.seeds if seeds is None else seeds):
            for name, arm in chosen.items():
                if seed >= arm.get("seeds", self.seeds):
                    continue
                for size in arm.get("sizes", self.sizes) or [None]:
                    own = [] if size is None else [f"data.size={size}", *arm.get("at", {}).get(size, [])]
                    overrides = [*self.common, *arm["set"], *own, *arm.get("then", []), f"seed={seed}"]
                    yield Cell(
                        name, seed, list({o.partition("=")[0]: o for o in overrides}.values()), size, self.config_dir
                    )


def table(study: Study, runs: Path, against: str, only: list[str] | None = None) -> Iterator[str]:
    """Markdown: a row for each arm that has runs, or each of `only`, compared with `against` as `llmrl compare` does.

    Decisions are medians of seeds, with their interval; what is censored is printed as a bound.
    """
    arms = finished(study, runs, None if only is None else [*only, against])
    if against not in arms:
        raise SystemExit(f"no complete run of {against} in {runs}; there are runs of {', '.join(arms) or 'no arm'}")
    steps = [f"decisions to {100 * level:.0f} %" for level in LEVELS]
    columns = ["arm", "seeds", "final success, %", "area", *steps, f"times fewer than {against}, to 80 %"]
    yield from markdown.table(columns, _rows(arms, against, runs))


def _rows(arms: dict[str, list[RunInfo]], against: str, runs: Path) -> Iterator[list[str]]:
    from llmrl.report.compare import compare
    from llmrl.report.compare_tables import between

    for arm, own in arms.items():
        others = arms[against] if arm != against else next((a for name, a in arms.items() if name != against), None)
        if others is None:
            raise SystemExit(f"{against} is the only arm with complete runs in {runs}: there is nothing to compare")
        c = compare(own, others, levels=LEVELS, allow_different=True)
        (group,), (pair,) = c.groups, c.pairs
        low, high = 100 * group.final.interval_low, 100 * group.final.interval_high
        final = f"{100 * group.final.low:.1f} ({low:.0f} to {high:.0f})"
        area = "-" if group.area is None else f"{group.area.low:.3f}"
        needed = [f"{between(e.low, e.high)} ({between(e.interval_low, e.interval_high)})" for e in group.needed]
        ratio = pair.ratios[1]
        fewer = f"{between(ratio.low, ratio.high)} ({between(ratio.interval_low, ratio.interval_high)})"
        yield [arm, str(len(own)), final, area, *needed, "" if arm == against else fewer]


def finished(study: Study, runs: Path, only: list[str] | None = None) -> dict[str, list[RunInfo]]:
    """Arm -> its complete runs, by seed; arms that have none, and that are not among `only`, are left out."""
    from llmrl.run.load import load_runs

    found = {run.summary["run_id"]: run for run in load_runs(runs) if run.status == "complete"}
    arms: dict[str, list[RunInfo]] = {}
    for cell in study.cells(only):
        run = found.get(run_id(cell.compose()))
        if run is not None:
            arms.setdefault(cell.arm, []).append(run)
    return arms


def _unfolded(overrides: list[str], sets: dict[str, list[str]], where: str) -> Iterator[str]:
    for override in overrides:
        if not override.startswith("+"):
            yield override
        elif override[1:] in sets:
            yield from _unfolded(sets[override[1:]], sets, where)
        else:
            raise SystemExit(f"{where}: there is no set {override[1:]}; there are {', '.join(sets)}")


def run(cell: Cell, runs: Path, own_cache: bool) -> str:
    """Runs a cell in this process; returns what went wrong, or nothing."""
    import llmrl

    if cell.config_dir is not None:
        look_in(cell.config_dir)
    cache = [f"paths.cache={runs}/caches/{cell.arm}-{cell.seed}.sqlite3"] if own_cache else []
    try:
        llmrl.train(cell.compose(*cache, f"paths.runs={runs}", "progress=false"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def unfinished(cells: list[Cell], runs: Path) -> Iterator[DictConfig]:
    """The configs of what is still to be run; what is wrong with a cell is told when it runs."""
    for cell in cells:
        with suppress(ConfigError):
            cfg = cell.compose(f"paths.runs={runs}")
            if not is_complete(own_folder(runs, run_name(cfg), run_id(cfg))):
                yield cfg


def collected(words: list[str], runs: Path) -> str:
    """Collects what is not there yet."""
    from llmrl.collect import collect, parse_order

    order, overrides = parse_order(words)
    return collect(compose(overrides), order, runs, print)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--runs", type=Path, help="default: runs/STUDY")
    parser.add_argument("--arms", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, help="only the first so many")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the runs' names, and do nothing")
    parser.add_argument("--table", metavar="ARM", help="compare what is finished with this arm, and do nothing")
    args = parser.parse_args()
    study = Study.read(args.study)
    runs = args.runs or Path("runs") / study.name
    cells = list(study.cells(args.arms, args.seeds))
    if args.list:
        for cell in cells:
            print(cell.arm, runs / run_name(cell.compose()))
        return
    if args.table:
        print("\n".join(table(study, runs, args.table, args.arms)))
        return
    for words in study.collect:
        print(collected(words, runs), flush=True)
    start, failed = time.monotonic(), 0
    pool = ProcessPoolExecutor(args.jobs, get_context("spawn"), end_with_parent)
    with served_for(list(unfinished(cells, runs)), print), pool:
        waiting = {pool.submit(run, cell, runs, study.empty_caches): cell for cell in cells}
        for done, future in enumerate(as_completed(waiting), 1):
            cell, error = waiting[future], future.result()
            failed += bool(error)
            print(
                f"[{done}/{len(cells)}] {time.monotonic() - start:.0f} s  {cell.arm} seed {cell.seed}"
                f"{'' if cell.size is None else f' size {cell.size:,}'}  {error}",
                flush=True,
            )
    if failed:
        raise SystemExit(f"{failed} of {len(cells)} runs failed")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:  # a file of weights that is not made yet, and the like
        raise SystemExit(f"error: {error}") from None
