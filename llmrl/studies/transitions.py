"""The table and the figure of an offline study, from its finished runs.

Rows are arms; N* is the number of transitions to a level of success, with its 95 % interval; the ratio is that of the
other side over the arm's, by seeds that drew the same data. Where success was sampled, intervals hold the noise of its
episodes too, and the last line says of how many. An arm is read at the sizes that all its seeds have finished. `alone`
names the arm that is its prior without data, in the study's file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.core.overrides import ConfigError
from llmrl.report.compare_tables import format_estimate
from llmrl.report.result import ResultTable
from llmrl.report.transitions import LEVELS, Arm, claim, common, estimate_needed, ratio
from llmrl.run.load import RunInfo
from llmrl.studies.study import Results


@dataclass(frozen=True)
class Found:
    """An arm's finished runs. `limits`: of its runs at the largest size, the mean of what limits them. `alone`: success
    of its prior without data; NaN where that was not measured, None where it has no prior.
    """

    arm: Arm
    limits: dict[str, float | None]
    alone: float | None


def find_arms(results: Results, names: list[str] | None = None) -> dict[str, Found]:
    """Arms by name, those that have a seed with at least two sizes."""
    cells: dict[str, dict[int, dict[int, RunInfo]]] = defaultdict(lambda: defaultdict(dict))
    for cell, run in results.cells:
        cells[cell.arm][cell.seed][cell.size or 0] = run
    alone = {name: arm.get("alone") for name, arm in results.study.arms.items()}
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
            raise ConfigError(f"{name}: its runs were evaluated by {sorted(episodes)} episodes (0: exactly)")
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
    """Whether the arm's prior comes from a model, and is no control."""
    prior = run.config["prior"]
    return prior["source"] != "uniform" and prior["control"] is None


def transition_table(name: str, title: str, arms: dict[str, Found], against: str) -> ResultTable:
    """Its notes say what may be claimed."""
    if against not in arms:
        there = ", ".join(arms) or "no arms"
        raise ConfigError(f"{against} has no finished seed of two sizes; there are {there}")
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
    for arm_name, own in arms.items():
        to, theirs = (
            [estimate_needed(arm.arm, level, arm.alone or 0.0) for level in LEVELS] for arm in (own, arms[against])
        )
        times = [""] * len(LEVELS)
        if arm_name != against:
            a, b = common([own.arm, arms[against].arm])
            for i, level in enumerate(LEVELS):
                r = ratio(a, b, level)
                times[i] = "the prior alone is there" if to[i].alone or theirs[i].alone else format_estimate(r)
                claims.append(f"{arm_name}, {claim(a, b, r, to[i], theirs[i])}")
        cells = [
            arm_name, str(len(own.arm.seeds)), f"{own.arm.sizes[0]:,.0f} to {own.arm.sizes[-1]:,.0f}",
            f"{100 * own.arm.success_SN[:, -1].mean():.1f}", *(format_estimate(n.transitions) for n in to), *times,
            *(_percent(value) for value in (own.alone, own.limits["data/coverage"], own.limits["prior/ceiling"])),
        ]  # fmt: skip
        rows.append(cells)
    notes = []
    sampled = {name: own.arm.episodes for name, own in arms.items() if own.arm.episodes}
    if sampled:
        arms_told = ", ".join(f"{name} by {episodes}" for name, episodes in sampled.items())
        notes.append(f"success is sampled, episodes a run: {arms_told}; the intervals hold their noise")
    return ResultTable(name, title, columns, rows, claims, notes)


def draw(studies: Mapping[str, Mapping[str, Found]], out: Path, columns: int | None = None) -> Path:
    """One picture, a panel per study; `columns` are those of a paper."""
    from llmrl.report.plots import samples

    panels = {study: [own.arm for own in arms.values()] for study, arms in studies.items()}
    alone = {
        study: max(known)
        for study, arms in studies.items()
        if (known := {own.alone for own in arms.values() if own.alone is not None and not np.isnan(own.alone)})
    }
    return samples(panels, out, LEVELS, alone, columns)


def _last(run: RunInfo, key: str) -> Any:
    return run.metrics[-1].get(key)


def _episodes(run: RunInfo) -> int:
    """That its success is the mean of; 0 where it was computed."""
    return 0 if _last(run, "eval/exact") else int(run.config["evaluation"]["episodes"])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _percent(value: float | None) -> str:
    return "-" if value is None else "not measured" if np.isnan(value) else f"{100 * value:.0f}"
