"""Tunes offline learners per size of data, each with the same budget, and prints what a study's `at` takes.

    python -m llmrl.tune.per_size cql cql_prior bc_data --sizes 100 1000 10000 --jobs 2
    python -m llmrl.tune.per_size cql cql_prior bc_data --sizes 100 1000 10000 --print

A search is `llmrl tune --space SPACE data.size=SIZE --out OUT/SPACE_SIZE`; what is finished is not run again, so that
the same command goes on after a stop. The best trials of each are then run with more seeds, and the best of these is
told (`llmrl.tune.search.confirm`): with one seed, many a size has several trials at 100 %. What the tasks learn from is
collected before, where it is missing. The tasks are the space's, or those of `--task`, with `--set` for what else they
need:

    python -m llmrl.tune.per_size cql cql_prior --sizes 100 1000 --out tune_homes --set lm=tiny-2 \\
      --task "env=household/pick env.split=dev env.count=28 env.memory=none data.file=data/dev_home.parquet"

A size in `--between` is not searched: it takes the better of the settings that were found for the size below and the
one above, each run there with all of those seeds.

Small sizes come first. A trial is one run for each task of the space; in it, gradient steps cost most, so that a search
is as dear as its range of `learner.gradient_steps`.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from llmrl.config.compose import ConfigError, config_folder
from llmrl.studies.runner import collect_missing
from llmrl.tune.space import Space

DATA = ["size=100000", "mix=expert,random:0.3", "success=75", "noise=0.3:0.8"]  # as the studies collect theirs


def orders(tasks: Sequence[str], collect: Sequence[str]) -> Iterator[list[str]]:
    """The arguments of `llmrl collect` for each file that a task names as its data."""
    for task in tasks:
        words = shlex.split(task)
        files = [word.partition("=")[2] for word in words if word.startswith(("data=", "data.file="))]
        if not files:
            raise ConfigError(f"task {task!r} names no data: add data.file=FILE")
        yield [*(word for word in words if not word.startswith("data")), f"out={files[-1]}", *collect]


def tune(space: str, size: int, args: argparse.Namespace) -> None:
    """One search, begun or continued, and its best trials again."""
    from llmrl.tune.plan import plan
    from llmrl.tune.screen import Screen
    from llmrl.tune.search import confirm, search

    planned = plan(space, [*args.set, f"data.size={size}"], tasks=args.task, trials=args.trials)
    out = folder(args.out, space, size)
    rows = search(planned, out, args.jobs, Screen(quiet=False))
    if not (args.confirm and args.more_seeds):
        return
    first = max(planned.seeds) + 1
    for row in confirm(planned, rows, out, args.confirm, range(first, first + args.more_seeds), args.jobs):
        print(f"trial {row['number']:>3}  {row['value']:.3f} over {len(row['runs'])} runs", flush=True)


def between(space: str, size: int, args: argparse.Namespace) -> None:
    """The settings found for the searched sizes around this one, both run at this one."""
    from llmrl.tune.log import best
    from llmrl.tune.plan import plan
    from llmrl.tune.search import confirm

    below, above = [s for s in args.sizes if s < size], [s for s in args.sizes if s > size]
    found = {s: best(_read_kept(folder(args.out, space, s))) for s in (*below[-1:], *above[:1])}
    rows = [{**row, "number": s, "of": s, "runs": []} for s, row in found.items() if row is not None]
    planned = plan(space, [*args.set, f"data.size={size}"], tasks=args.task, trials=1)
    first = max(planned.seeds) + 1
    seeds = [*planned.seeds, *range(first, first + args.more_seeds)]
    for row in confirm(planned, rows, folder(args.out, space, size), len(rows), seeds, args.jobs):
        print(f"as of {row['of']:>7,}  {row['value']:.3f} over {len(row['runs'])} runs", flush=True)


def folder(out: Path, space: str, size: int) -> Path:
    return out / f"{Path(space).stem}_{size}"


def describe_best(space: Space, logs: Mapping[int, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """The block of an arm: the best trial of each size as overrides, none where the learner was best as it comes."""
    from llmrl.tune.log import best

    yield f"# {space.name}"
    yield "at:"
    for size, rows in logs.items():
        row = best(rows)
        if row is None:
            yield f"  # {size}: no trial is complete"
            continue
        overrides = yaml.safe_dump(space.overrides_of(row["parameters"]), default_flow_style=True, width=10_000).strip()
        over = f"{len(row['runs'])} run{'s' if len(row['runs']) > 1 else ''}"
        which = f"as of {row['of']:,}" if "of" in row else f"trial {row['number']}"
        yield f"  {size}: {overrides} # {which}: {100 * row['value']:.1f} % over {over}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spaces", nargs="+", help="names in configs/tune/, or YAML files")
    parser.add_argument("--sizes", type=int, nargs="+", required=True, help="transitions")
    parser.add_argument(
        "--between", type=int, nargs="+", default=[], help="more sizes, which take a neighbour's settings"
    )
    parser.add_argument(
        "--task", nargs="+", default=[], help="development worlds and their data, instead of the spaces'"
    )
    parser.add_argument(
        "--collect",
        nargs="+",
        default=DATA,
        metavar="WORD",
        help=f"how their data are collected, in full (default: {' '.join(DATA)})",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="OVERRIDE", help="settings of every trial")
    parser.add_argument("--trials", type=int, help="the budget of each search; by default the space's")
    parser.add_argument("--confirm", type=int, default=4, help="best trials that are run with more seeds (default: 4)")
    parser.add_argument("--more-seeds", type=int, default=3, help="how many more (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("tune"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="print the settings found so far, and run nothing")
    args = parser.parse_args()
    spaces = {name: _space(name) for name in args.spaces}
    args.sizes = sorted(set(args.sizes))
    sizes = sorted({*args.sizes, *args.between})
    if not args.print:
        tasks = [task for space in spaces.values() for task in args.task or space.tasks]
        for words in dict.fromkeys(map(tuple, orders(tasks, args.collect))):
            print(collect_missing([*words], Path("runs"), print), flush=True)
        for size in [*args.sizes, *args.between]:
            for name in spaces:
                print(f"{name}, {size:,} transitions", flush=True)
                (tune if size in args.sizes else between)(name, size, args)
    for name, space in spaces.items():
        logs = {size: _read_kept(folder(args.out, name, size)) for size in sizes}
        print("\n".join(describe_best(space, logs)))


def _space(name: str) -> Space:
    file = Path(name) if name.endswith((".yaml", ".yml")) else config_folder() / "tune" / f"{name}.yaml"
    return Space.read(file)


def _read_kept(out: Path) -> list[dict[str, Any]]:
    """The trials that were run with more seeds; where there are none, all."""
    from llmrl.core.files import read_lines
    from llmrl.tune.search import CONFIRMED

    return list(read_lines(out / CONFIRMED)) or list(read_lines(out / "trials.jsonl"))


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:  # a file that cannot be collected, a space that is none, a folder of another search
        raise SystemExit(f"error: {error}") from None
