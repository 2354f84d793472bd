"""The table and the figure of an offline study, from its finished runs.

    python -m scripts.offline scripts/studies/offline_salad.yaml --against cql
    python -m scripts.offline scripts/studies/offline_*.yaml --against cql --arms cql_prior iql --out figure.png

A table per study, and one figure with a panel for each. Rows are arms; N* is the number of transitions to a level of
success, with its 95 % interval; the ratio is that of the other side over the arm's, by seeds that drew the same data.
Where success was sampled, intervals hold the noise of its episodes too, and the last line says of how many. An arm is
read at the sizes that all its seeds have finished. `alone` names the arm that is its prior without data, in the study's
file.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from llmrl.config.compose import compose, run_id
from llmrl.report import markdown
from llmrl.report.compare_tables import between
from llmrl.report.transitions import LEVELS, Arm, claim, common, needed, ratio
from llmrl.run.load import RunInfo, load_runs
from scripts.study import Cell, Study


@dataclass(frozen=True)
class Found:
    """An arm's finished runs. `limits`: of its runs at the largest size, the mean of what limits them. `alone`: success
    of its prior without data; NaN where that was not measured, None where it has no prior.
    """

    arm: Arm
    limits: dict[str, float | None]
    alone: float | None


def found(study: Study, runs: Path, names: list[str] | None = None) -> dict[str, Found]:
    """Arms by name, those that have a seed with at least two sizes."""
    by_id = {run.summary["run_id"]: run for run in load_runs(runs) if run.status == "complete"}
    cells: dict[str, dict[int, dict[int, RunInfo]]] = defaultdict(lambda: defaultdict(dict))
    composed: dict[tuple[str, ...], DictConfig] = {}
    for cell in study.cells():
        run = by_id.get(_id(cell, composed))
        if run is not None:
            cells[cell.arm][cell.seed][cell.size or 0] = run
    alone = {name: arm.get("alone") for name, arm in study.arms.items()}
    out = {}
    for name, seeds in cells.items():
        if names is not None and name not in names:
            continue
        sizes = sorted(set.intersection(*(set(own) for own in seeds.values())) - {0})
        if len(sizes) < 2:
            continue
        success = [[_last(own[size], "eval/success") for size in sizes] for _, own in sorted(seeds.items())]
        episodes = {_episodes(own[size]) for own in seeds.values() for size in sizes}
        if len(episodes) > 1:
            raise SystemExit(f"{name}: its runs were evaluated by {sorted(episodes)} episodes (0: exactly)")
        arm = Arm(name, sorted(seeds), np.array(sizes, dtype=float), np.array(success), episodes.pop())
        largest = [own[sizes[-1]] for own in seeds.values()]
        limits = {key: _mean([_last(run, key) for run in largest]) for key in ("data/coverage", "prior/ceiling")}
        without = [
            _last(run, "eval/success") for own in cells.get(alone[name] or "", {}).values() for run in own.values()
        ]
        has_prior = alone[name] is not None or _asks(largest[0])
        out[name] = Found(arm, limits, _mean(without) if without or not has_prior else np.nan)
    return out


def _asks(run: RunInfo) -> bool:
    """Whether its prior is a model's, and no control."""
    prior = run.config["prior"]
    return prior["source"] != "uniform" and prior["control"] is None


def table(arms: dict[str, Found], against: str) -> Iterator[str]:
    """Markdown, and below it what may be claimed."""
    if against not in arms:
        there = ", ".join(arms) or "no arms"
        raise SystemExit(f"error: {against} has no finished seed of two sizes; there are {there}")
    steps = [f"N* to {100 * level:g} %" for level in LEVELS]
    fewer = [f"times fewer than {against}, to {100 * level:g} %" for level in LEVELS]
    columns = [
        "arm",
        "seeds",
        "sizes",
        "success at the largest, %",
        *steps,
        *fewer,
        "prior alone, %",
        "covered, %",
        "ceiling, %",
    ]
    claims, rows = [], []
    for name, own in arms.items():
        to, theirs = ([needed(arm.arm, level, arm.alone or 0.0) for level in LEVELS] for arm in (own, arms[against]))
        times = [""] * len(LEVELS)
        if name != against:
            a, b = common([own.arm, arms[against].arm])
            for i, level in enumerate(LEVELS):
                r = ratio(a, b, level)
                times[i] = "the prior alone is there" if to[i].alone or theirs[i].alone else _told(r)
                claims.append(f"- {name}, {claim(a, b, r, to[i], theirs[i])}")
        cells = [
            name, str(len(own.arm.seeds)), f"{own.arm.sizes[0]:,.0f} to {own.arm.sizes[-1]:,.0f}",
            f"{100 * own.arm.success_SN[:, -1].mean():.1f}", *(_told(n.transitions) for n in to), *times,
            *(_percent(value) for value in (own.alone, own.limits["data/coverage"], own.limits["prior/ceiling"])),
        ]  # fmt: skip
        rows.append(cells)
    yield from markdown.table(columns, rows)
    yield ""
    yield from claims
    sampled = {name: own.arm.episodes for name, own in arms.items() if own.arm.episodes}
    if sampled:
        told = ", ".join(f"{name} by {episodes}" for name, episodes in sampled.items())
        yield f"- success is sampled, episodes a run: {told}; the intervals hold their noise"


def draw(studies: Mapping[str, Mapping[str, Found]], out: Path) -> Path:
    """One picture, a panel per study."""
    from llmrl.report.plots import samples

    panels = {study: [own.arm for own in arms.values()] for study, arms in studies.items()}
    alone = {
        study: max(known)
        for study, arms in studies.items()
        if (known := {own.alone for own in arms.values() if own.alone is not None and not np.isnan(own.alone)})
    }
    return samples(panels, out, LEVELS, alone)


def _id(cell: Cell, composed: dict[tuple[str, ...], DictConfig]) -> str:
    """Cells that differ in their seed are composed once."""
    key = tuple(o for o in cell.overrides if not o.startswith("seed="))
    if key not in composed:
        composed[key] = compose(list(key))
    cfg = composed[key].copy()
    OmegaConf.set_readonly(cfg, False)
    cfg.seed = cell.seed
    OmegaConf.set_readonly(cfg, True)
    return run_id(cfg)


def _last(run: RunInfo, key: str) -> Any:
    return run.metrics[-1].get(key)


def _episodes(run: RunInfo) -> int:
    """That its success is the mean of; 0 where it was computed."""
    return 0 if _last(run, "eval/exact") else int(run.config["evaluation"]["episodes"])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _told(e: Any) -> str:
    return f"{between(e.low, e.high)} ({between(e.interval_low, e.interval_high)})"


def _percent(value: float | None) -> str:
    return "-" if value is None else "not measured" if np.isnan(value) else f"{100 * value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY")
    parser.add_argument("--against", required=True, help="the arm that the others are compared with")
    parser.add_argument("--arms", nargs="+", help="only these")
    parser.add_argument("--runs", type=Path, nargs="+", help="a folder per study; default: runs/STUDY")
    parser.add_argument("--out", type=Path, help="a figure: .png, .svg or .pdf")
    args = parser.parse_args()
    studies = [Study.read(file) for file in args.studies]
    folders = args.runs or [Path("runs") / study.name for study in studies]
    if len(folders) != len(studies):
        raise SystemExit(f"error: --runs: {len(folders)} folders for {len(studies)} studies; name one for each")
    tables = {}
    for study, folder in zip(studies, folders, strict=True):
        tables[study.title] = found(study, folder, args.arms and [*args.arms, args.against])
        print(f"## {study.name}\n" * (len(studies) > 1), *table(tables[study.title], args.against), "", sep="\n")
    if args.out:
        print(draw(tables, args.out))


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:  # an arm's settings that do not fit together, data that are not collected
        raise SystemExit(f"error: {error}") from None
