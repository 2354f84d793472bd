"""Comparison of groups of runs with one group: the figures of `llmrl compare`, and the claims they allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrl.config.compose import ConfigError
from llmrl.core.suggestions import did_you_mean
from llmrl.report import reliable, statistics
from llmrl.report.comparable import SIZES, Refused, prepare, seed_of
from llmrl.report.groups import TITLES, rows, settings
from llmrl.report.pretraining import cost, pretrainings
from llmrl.report.statistics import Estimate, SeedCurve, Times, digits
from llmrl.run.load import RunInfo

LEVELS = (0.5, 0.8, 0.95)
HARD = 5000  # decisions that the other side needs at least, before "ten times fewer" says anything
FEW = 10  # seeds; with fewer on a side nothing is claimed
FEW_EPISODES = 100  # a point of a sampled curve, to be published


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, and what became of them."""

    label: str
    seeds: list[int]
    final: Estimate  # success at the last evaluation
    area: Estimate | None  # under the success curve, 0 to 1; None where no stretch of x is common to all
    log_area: Estimate | None  # the same over log x; None where the evaluations are not spaced so
    reached: list[int]  # per level: seeds that got there
    needed: list[Estimate]  # per level: median of what a seed spent until there
    interquartile: Estimate  # mean of the middle half of the seeds' final successes
    above: list[Estimate]  # per level: share of seeds whose final success is above it
    curves: list[SeedCurve]


@dataclass(frozen=True)
class Pair:
    """A group against the other side. Ratios and claims are per level; `paired` ones need the same seeds."""

    label: str
    difference: Estimate  # of final success
    improvement: Estimate  # chance that a seed's final success is above that of a seed of the other side
    paired_difference: Estimate | None
    detectable: float | None  # the smallest difference of final success that shows with a chance of 80 %
    ratios: list[Estimate]  # how many times fewer than the other side
    paired_ratios: list[Estimate] | None
    claims: list[str]


@dataclass(frozen=True)
class Comparison:
    world: str
    metric: str
    x: str
    levels: tuple[float, ...]
    log: bool  # evaluations are spaced by ratios
    groups: list[Group]
    against: Group
    pairs: list[Pair]  # one per group
    notes: list[str]


def compare(
    runs: Sequence[RunInfo],
    against: Sequence[RunInfo],
    *,
    metric: str = "eval/success",
    x: str = "env_steps",
    levels: Sequence[float] = LEVELS,
    with_training: bool = False,
    allow_dirty: bool = False,
    allow_different: bool = False,
    told: Sequence[str] = (),
) -> Comparison:
    """Each group of `runs` against the one group of `against`.

    `told` are notes on how the runs were chosen; `levels` are shares; `with_training` counts the trainings of models on
    `x`. Raises Refused for runs that cannot be compared: in both, of several settings on the other side, of one seed
    twice, of several numerics, models or weights, made by uncommitted code unless `allow_dirty`, in other worlds or
    otherwise evaluated unless `allow_different`; and for an axis that exact evaluations make void.
    """
    if not metric.endswith("/success"):
        raise ConfigError(f"--metric {metric}: only success is compared (eval/success, eval_greedy/success)")
    prepared = prepare(
        runs, against, x=x, with_training=with_training, allow_dirty=allow_dirty, allow_different=allow_different
    )
    named, notes, reasons = prepared.named, [*told, *prepared.notes], prepared.reasons
    offsets = [cost(pretrainings(group[0].config), x) if with_training else 0.0 for _, group in named]
    curves = [_curves(group, metric, x, offset) for (_, group), offset in zip(named, offsets, strict=True)]
    notes.append(_sampling([label for label, _ in named], curves))
    log = x == SIZES or all(settings(group[0]).get("evaluation.grid") == "log" for _, group in named)
    xs = [curve.x_T for group in curves for curve in group]
    grids = (statistics.common_grid(xs), statistics.common_grid(xs, log=True) if log else None)
    measured = [
        _group(label, group, c, levels, grids) for (label, group), c in zip(named[:-1], curves[:-1], strict=True)
    ]
    last, last_times = _group(*named[-1], curves[-1], levels, grids)
    return Comparison(
        ", ".join(dict.fromkeys(str(settings(group[0]).get("env.name")) for _, group in named)),
        metric,
        x,
        tuple(levels),
        log,
        [group for group, _ in measured],
        last,
        [_pair(group, times, last, last_times, x, levels, reasons) for group, times in measured],
        notes,
    )


def percentages(text: str) -> tuple[float, ...]:
    """Shares from percentages, as in "50,80,95". Raises ConfigError."""
    try:
        found = tuple(sorted({float(part) / 100 for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or not all(0 < level <= 1 for level in found):
        raise ConfigError(f"--at {text}: expected percentages above 0 and at most 100, as in --at 50,80,95")
    return found


def _sampling(labels: Sequence[str], curves: Sequence[Sequence[SeedCurve]]) -> str:
    """The way in which success was measured; by group where that differs."""
    episodes = [sorted({int(n) for curve in group for n in curve.episodes_T}) for group in curves]
    told = [" and ".join(f"sampled, {n} episodes a point" if n else "exact" for n in found) for found in episodes]
    by_group = [f"{how} ({label})" for label, how in zip(labels, told, strict=True)]
    few = any(0 < n < FEW_EPISODES for found in episodes for n in found)
    advice = f": published results take {FEW_EPISODES}, or evaluation.exact_up_to" if few else ""
    return f"success is {told[0] if len(set(told)) == 1 else '; '.join(by_group)}{advice}"


def _curves(group: Sequence[RunInfo], metric: str, x: str, offset: float) -> list[SeedCurve]:
    curves = []
    exact_key = metric.replace("/success", "/exact")
    for run, table in _tables(group, x):
        kept = [row for row in table if row.get(x) is not None and row.get(metric) is not None]
        if not kept:
            known = sorted({key for row in table for key in row})
            has = ", ".join(known) or "no evaluation"
            raise Refused(f"{run.name} has no {metric} over {x}: it has {has}{did_you_mean((metric, x), known)}")
        episodes = (run.config.get("evaluation") or {}).get("episodes", 0)
        x_T = np.array([row[x] for row in kept], dtype=float)
        if x_T[-1] <= 0:
            offline = f"; runs that learn from data are compared with --x {SIZES}" if run.config.get("data") else ""
            raise Refused(f"--x {x}: it stays at 0 in {run.name}, so that nothing is a curve over it{offline}")
        curves.append(
            SeedCurve(
                x_T + offset,
                np.array([row[metric] for row in kept], dtype=float),
                np.array([0 if row.get(exact_key) else episodes for row in kept]),
            )
        )
    return curves


def _tables(group: Sequence[RunInfo], x: str) -> list[tuple[RunInfo, list[dict[str, Any]]]]:
    """The rows of each run; over sizes of data, the last row of each of a seed's runs."""
    if x != SIZES:
        return [(run, rows(run)) for run in group]
    by_seed: dict[int, list[RunInfo]] = {}
    for run in group:
        by_seed.setdefault(seed_of(run), []).append(run)
    return [
        (own[0], sorted((rows(run)[-1] for run in own), key=lambda row: row.get(SIZES, 0))) for own in by_seed.values()
    ]


def _group(
    label: str,
    runs: Sequence[RunInfo],
    curves: list[SeedCurve],
    levels: Sequence[float],
    grids: tuple[np.ndarray | None, np.ndarray | None],
) -> tuple[Group, list[Times]]:
    """The group, and what its ratios are made of: what was spent until each level."""
    areas = [
        None if grid is None else statistics.mean(statistics.area(curves, grid, log))
        for grid, log in zip(grids, (False, True), strict=True)
    ]
    spent = [statistics.find_times(curves, level) for level in levels]
    final = statistics.final(curves)
    group = Group(
        label,
        list(dict.fromkeys(seed_of(run) for run in runs)),
        statistics.mean(final),
        areas[0],
        areas[1],
        [int(np.isfinite(times.high_S).sum()) for times in spent],
        [statistics.median(times) for times in spent],
        reliable.interquartile_mean(final[:, None]),
        reliable.performance_profile(final[:, None], np.array(levels)),
        curves,
    )
    return group, [statistics.after_start(times, curves) for times in spent]


def _pair(
    a: Group,
    a_spent: list[Times],
    b: Group,
    b_spent: list[Times],
    x: str,
    levels: Sequence[float],
    reasons: Sequence[str],
) -> Pair:
    a_final, b_final = statistics.final(a.curves), statistics.final(b.curves)
    pairable = a.seeds == b.seeds and len(a.seeds) > 1
    ratios = [statistics.ratio(fa, fb, False) for fa, fb in zip(a_spent, b_spent, strict=True)]
    return Pair(
        a.label,
        statistics.difference(a_final, b_final, False),
        reliable.probability_of_improvement(a_final[:, None], b_final[:, None]),
        statistics.difference(a_final, b_final, True) if pairable else None,
        statistics.detectable_difference(a_final, b_final),
        ratios,
        [statistics.ratio(fa, fb, True) for fa, fb in zip(a_spent, b_spent, strict=True)] if pairable else None,
        [claim(a, b, level, r, needed, x, reasons) for level, r, needed in zip(levels, ratios, b.needed, strict=True)],
    )


def claim(
    a: Group, b: Group, level: float, ratio: Estimate, needed: Estimate, x: str, reasons: Sequence[str] = ()
) -> str:
    """The claim about reaching `level`, from the end of the interval and never from the estimate.

    `needed` is the cost of `b`, and `reasons` say why nothing may be claimed at all. "Ten times fewer" is for worlds
    that are hard without help: those where `b` needs HARD decisions or more.
    """
    reasons = [*reasons, *(f"{g.label} has {len(g.seeds)} of {FEW} seeds" for g in (a, b) if len(g.seeds) < FEW)]
    to = f"to {level * 100:g} %"
    if reasons:
        return f"{to}: no claim ({'; '.join(reasons)})"
    if ratio.interval_low > 1:
        times = digits(ratio.interval_low, -1)
        sentence = f"{to}: {a.label} needs at least {times} times fewer {TITLES.get(x, x)} than {b.label}"
        if ratio.interval_low < 10 or x != "env_steps" or needed.low >= HARD:
            return sentence
        if needed.high < HARD:
            return f"{sentence}, but that is no evidence: {b.label} needs fewer than {HARD:,} decisions"
        budget = digits(max(curve.x_T[-1] for curve in b.curves))
        unknown = f"{b.label} is not known to need {HARD:,} decisions (censored at {budget})"
        return f"{sentence}, but that is no evidence: {unknown}"
    if ratio.interval_high < 1:
        more = digits(1 / ratio.interval_high, -1)
        return f"{to}: {a.label} needs at least {more} times more {TITLES.get(x, x)} than {b.label}"
    return f"{to}: no claim (the interval of the ratio holds 1)"
