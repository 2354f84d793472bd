"""How groups of runs compare with one group: the figures of `llmrl compare`, and what may be claimed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.config import ConfigError
from llmrl.near import did_you_mean
from llmrl.report import statistics
from llmrl.report.groups import TITLES, grouped, rows, settings
from llmrl.report.pretraining import cost, pretrainings
from llmrl.report.statistics import Estimate, Figures, SeedCurve, digits
from llmrl.run.load import RunInfo

LEVELS = (0.5, 0.8, 0.95)
HARD = 5000  # decisions that the other side needs at least, before "ten times fewer" says anything
FEW = 10  # seeds; with fewer on a side nothing is claimed
FEW_EPISODES = 100  # a point of a sampled curve, to be published
SIZES = "transitions"  # the axis of offline runs: each run is one point
PAID_ONCE = ("seconds", "training_seconds", "lm/tokens")  # axes on which a kept answer costs nothing
UNBIASED = ("evaluation.exact_up_to", "evaluation.episodes")  # change how sure a success is, not its mean


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
    curves: list[SeedCurve]


@dataclass(frozen=True)
class Pair:
    """A group against the other side. Ratios and claims are per level; `paired` ones need the same seeds."""

    label: str
    difference: Estimate  # of final success
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
) -> Comparison:
    """Each group of `runs` against the one group of `against`.

    `levels` are shares; `with_training` counts the trainings of models on `x`. Raises ValueError for runs that cannot
    be compared: in both, of several settings on the other side, of one seed twice, of several numerics, models or
    weights, made by uncommitted code unless `allow_dirty`, in other worlds or otherwise evaluated unless
    `allow_different`; and for an axis that exact evaluations make void.
    """
    if not metric.endswith("/success"):
        raise ValueError(f"--metric {metric}: only success is compared (eval/success, eval_greedy/success)")
    notes: list[str] = []
    reasons: list[str] = []  # why nothing may be claimed
    runs, against = _complete(runs, against, notes)
    _code([*runs, *against], allow_dirty, notes, reasons)
    named = _named(runs, against, ("data.size",) if x == SIZES else ())
    _evaluation(named, allow_different, notes, reasons)
    _worlds(named, reasons)
    _axis(named, x)
    _knowledge(named, x if with_training else None, notes)

    offsets = [cost(pretrainings(group[0].config), x) if with_training else 0.0 for _, group in named]
    curves = [_curves(group, metric, x, offset) for (_, group), offset in zip(named, offsets, strict=True)]
    notes.append(_sampling([label for label, _ in named], curves))
    log = x == SIZES or all(settings(group[0]).get("evaluation.grid") == "log" for _, group in named)
    xs = [curve.x_T for group in curves for curve in group]
    grids = (statistics.common_grid(xs), statistics.common_grid(xs, log=True) if log else None)
    measured = [
        _group(label, group, c, levels, grids, 0) for (label, group), c in zip(named[:-1], curves[:-1], strict=True)
    ]
    last, last_figures = _group(*named[-1], curves[-1], levels, grids, 1)
    return Comparison(
        ", ".join(dict.fromkeys(str(settings(group[0]).get("env.name")) for _, group in named)),
        metric,
        x,
        tuple(levels),
        log,
        [group for group, _ in measured],
        last,
        [_pair(group, figures, last, last_figures, x, levels, reasons) for group, figures in measured],
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


Named = Sequence[tuple[str, list[RunInfo]]]  # label -> runs by seed; the other side last


def _complete(
    runs: Sequence[RunInfo], against: Sequence[RunInfo], notes: list[str]
) -> tuple[list[RunInfo], list[RunInfo]]:
    """Both sides without what is unfinished, which is named."""
    both = {run.path.resolve() for run in runs} & {run.path.resolve() for run in against}
    if both:
        names = sorted(path.name for path in both)
        raise ValueError(f"{len(both)} runs are on both sides, such as {names[0]}: name them more closely")
    unfinished = _listed([run.name for run in (*runs, *against) if run.status != "complete"])
    a, b = ([run for run in side if run.status == "complete"] for side in (runs, against))
    if not a or not b:
        raise ValueError(f"no run of one side is complete: {unfinished}; `llmrl train` again makes them so")
    if unfinished:
        notes.append(f"left out, unfinished: {unfinished}")
    return a, b


def _code(runs: Sequence[RunInfo], allow_dirty: bool, notes: list[str], reasons: list[str]) -> None:
    """Refuses runs whose code makes them incomparable."""
    numerics = {run.config.get("numerics"): run.name for run in runs}
    if len(numerics) > 1:
        told = ", ".join(f"{name} has {number}" for number, name in numerics.items())
        raise ValueError(f"numerics differ, so that equal settings would not give equal curves ({told}): run one again")
    states: list[dict[str, Any]] = []
    dirty, drifted, outside = [], [], 0
    for run in runs:
        resumed = run.provenance.get("resumed", [])
        own = [run.provenance.get("git") or {}, *(entry["git"] or {} for entry in resumed)]
        states += own
        outside += not all(own)
        if any(state.get("dirty") for state in own):
            dirty.append(run.name)
        if any(entry["drift"] or entry["lost_episodes"] for entry in resumed):
            drifted.append(run.name)
    if dirty and not allow_dirty:
        raise ValueError(
            f"{len(dirty)} of {len(runs)} runs were made by code with uncommitted changes, such as {dirty[0]}: commit "
            "and run again, or --allow-dirty, which marks the table"
        )
    if dirty:
        reasons.append("made by uncommitted code")
        notes.append(f"MADE BY UNCOMMITTED CODE: {len(dirty)} of {len(runs)} runs; nothing is claimed")
    if drifted:
        reasons.append("resumed under other conditions")
        notes.append(
            f"RESUMED UNDER OTHER CONDITIONS: {len(drifted)} of {len(runs)} runs, such as {drifted[0]} "
            "(`llmrl runs show` says which)"
        )
    if outside:
        reasons.append("made outside a git checkout")
        notes.append(f"MADE OUTSIDE A GIT CHECKOUT, by code nobody can look up: {outside} of {len(runs)} runs")
    commits = sorted({str(state.get("commit", "unknown"))[:10] for state in states})
    notes.append(f"made by commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}")


def _named(runs: Sequence[RunInfo], against: Sequence[RunInfo], apart_from: Sequence[str]) -> Named:
    """Labelled by what tells all groups apart."""
    labels = grouped([*runs, *against], apart_from)

    def side(own: set[RunInfo]) -> list[tuple[str, list[RunInfo]]]:
        groups = {label: sorted((run for run in group if run in own), key=_cell) for label, group in labels.items()}
        return [(label, group) for label, group in groups.items() if group]

    named, others = side(set(runs)), side(set(against))
    if len(others) > 1:
        told = _listed([label for label, _ in others], 5)
        raise ValueError(
            f"--against is {len(others)} groups, and has to be one: {told}; add what tells them apart as KEY=VALUE"
        )
    ((label, other),) = others
    if label in dict(named):  # the same settings from another folder: other code, or another machine
        label = f"{label} (against)"
    for name, group in [*named, (label, other)]:
        _refuse_mixed(name, group)
    return [*named, (label, other)]


def _refuse_mixed(label: str, group: Sequence[RunInfo]) -> None:
    cells = [_cell(run) for run in group]
    for cell in cells:
        if cells.count(cell) > 1:
            twice = ", ".join(str(run.path) for run in group if _cell(run) == cell)
            raise ValueError(f"{label}: seed {cell[0]} is there {cells.count(cell)} times ({twice}): leave one out")
    made = [run.provenance for run in group]
    for what, contents in (
        ("asked models of the same name", {(each.get("model") or {}).get("revision") for each in made}),
        ("read with encoders of the same name", {(each.get("encoder") or {}).get("revision") for each in made}),
        ("started from files of the same name", {each.get("weights") for each in made}),
        ("learned from files of the same name", {each.get("data") for each in made}),
    ):
        if len(contents) > 1:
            unknown = " (some do not say with which)" if None in contents else ""
            kind = "contents" if what.startswith("learned") else "weights"
            raise ValueError(f"{label}: its runs {what} with {len(contents)} different {kind}{unknown}")


def _evaluation(named: Named, allow_different: bool, notes: list[str], reasons: list[str]) -> None:
    """Refuses groups of other worlds, other evaluations, other budgets."""
    flats = [settings(group[0]) for _, group in named]
    keys = sorted({k for flat in flats for k in flat if k.startswith(("env.", "evaluation.")) or k == "env_steps"})
    keys = [key for key in keys if key not in UNBIASED]
    different = "; ".join(
        f"{key} ({', '.join(dict.fromkeys(str(flat.get(key, '-')) for flat in flats))})"
        for key in keys
        if len({repr(flat.get(key)) for flat in flats if key != "env_steps" or key in flat}) > 1  # absent: from data
    )
    if different and not allow_different:
        raise ValueError(
            f"the groups differ in {different}: only equal worlds, evaluated alike, are compared "
            "(--allow-different compares them nevertheless, and claims nothing)"
        )
    if different:
        reasons.append("not evaluated alike")
        notes.append(f"NOT EVALUATED ALIKE: {different}; nothing is claimed")
    histories = [{flat[key] for key in flat if key.endswith(".history_turns")} for flat in flats]
    if len(set().union(*histories)) > 1:
        told = [f"{label} {'/'.join(map(str, sorted(h)))}" for (label, _), h in zip(named, histories, strict=True) if h]
        notes.append(f"not all see the same history (turns that prior and Q are shown): {'; '.join(told)}")


def _worlds(named: Named, reasons: list[str]) -> None:
    """Worlds in which a result is no evidence, however it turns out."""
    found = (_no_evidence(settings(run)) for _, group in named for run in group[:1])
    reasons += dict.fromkeys(reason for reason in found if reason)


def _no_evidence(flat: Mapping[str, Any]) -> str | None:
    kind = str(flat.get("env._target_")).rpartition(".")[2]
    if kind in ("overcooked_tomato", "frozen_lake"):
        return f"{kind} is a test of correctness"
    if flat.get("env.split") == "dev":
        return "split dev is what was tuned on"
    read = {"overcooked_random": "train", "household": "corpus"}.get(kind)
    if read is not None and flat.get("env.split") == read:
        return f"split {read} is what the embedded model read"
    return None


def _axis(named: Named, x: str) -> None:
    if x not in PAID_ONCE:
        return
    for label, group in named:
        if any(row.get("eval/exact") or row.get("eval_greedy/exact") for run in group for row in run.metrics):
            raise ValueError(
                f"--x {x}: {label} was evaluated exactly, and the first exact evaluation asks the model about every "
                "state, so that training pays nothing: run with evaluation.exact_up_to=0 and an empty paths.cache for "
                "each run"
            )


def _knowledge(named: Named, counted: str | None, notes: list[str]) -> None:
    """What the groups knew beforehand, which is a cost of their results too; `counted` on this axis."""
    for label, group in named:
        config = group[0].config
        suffix = f" (counted in {TITLES.get(counted, counted)})" if counted else ""
        notes += [f"{label} began with {pretraining}{suffix}" for pretraining in pretrainings(config)]
        if weights := (config.get("learner") or {}).get("weights"):
            notes.append(f"{label}: every seed starts from {Path(weights).name}; intervals are given this one file")
        prior = config.get("prior") or {}
        if prior.get("source") == "generated" and prior.get("draw_seed") is not None:
            notes.append(f"{label}: intervals are given one table of draws (prior.draw_seed={prior['draw_seed']})")


def _sampling(labels: Sequence[str], curves: Sequence[Sequence[SeedCurve]]) -> str:
    """How success was measured; by group where that differs."""
    episodes = [sorted({int(n) for curve in group for n in curve.episodes_T}) for group in curves]
    told = [" and ".join(f"sampled, {n} episodes a point" if n else "exact" for n in found) for found in episodes]
    by_group = [f"{how} ({label})" for label, how in zip(labels, told, strict=True)]
    few = any(0 < n < FEW_EPISODES for found in episodes for n in found)
    advice = f": what is published takes {FEW_EPISODES}, or evaluation.exact_up_to" if few else ""
    return f"success is {told[0] if len(set(told)) == 1 else '; '.join(by_group)}{advice}"


def _curves(group: Sequence[RunInfo], metric: str, x: str, offset: float) -> list[SeedCurve]:
    curves = []
    exact_key = metric.replace("/success", "/exact")
    for run, table in _tables(group, x):
        kept = [row for row in table if row.get(x) is not None and row.get(metric) is not None]
        if not kept:
            known = sorted({key for row in table for key in row})
            has = ", ".join(known) or "no evaluation"
            raise ValueError(f"{run.name} has no {metric} over {x}: it has {has}{did_you_mean((metric, x), known)}")
        episodes = (run.config.get("evaluation") or {}).get("episodes", 0)
        x_T = np.array([row[x] for row in kept], dtype=float)
        if x_T[-1] <= 0:
            offline = f"; runs that learn from data are compared with --x {SIZES}" if run.config.get("data") else ""
            raise ValueError(f"--x {x}: it stays at 0 in {run.name}, so that nothing is a curve over it{offline}")
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
        by_seed.setdefault(_seed(run), []).append(run)
    return [
        (own[0], sorted((rows(run)[-1] for run in own), key=lambda row: row.get(SIZES, 0))) for own in by_seed.values()
    ]


def _group(
    label: str,
    runs: Sequence[RunInfo],
    curves: list[SeedCurve],
    levels: Sequence[float],
    grids: tuple[np.ndarray | None, np.ndarray | None],
    side: int,
) -> tuple[Group, list[Figures]]:
    """The group, and what pairs are made of: its final successes, then what was spent until each level.

    Episodes are drawn again by a stream of each `side`, so that the two of a pair are independent.
    """
    drawn = statistics.draw_episodes(curves, np.random.default_rng(side))
    final = statistics.final(drawn)
    areas = [
        None if grid is None else statistics.mean(statistics.area(curves, drawn, grid, log))
        for grid, log in zip(grids, (False, True), strict=True)
    ]
    spent = [statistics.reached(curves, drawn, level) for level in levels]
    group = Group(
        label,
        list(dict.fromkeys(_seed(run) for run in runs)),
        statistics.mean(final),
        areas[0],
        areas[1],
        [int(np.isfinite(figures.high_SL[:, 0]).sum()) for figures in spent],
        [statistics.median(figures) for figures in spent],
        curves,
    )
    return group, [final, *(statistics.after_start(figures, curves) for figures in spent)]


def _pair(
    a: Group,
    a_figures: list[Figures],
    b: Group,
    b_figures: list[Figures],
    x: str,
    levels: Sequence[float],
    reasons: Sequence[str],
) -> Pair:
    (a_final, *a_spent), (b_final, *b_spent) = a_figures, b_figures
    pairable = a.seeds == b.seeds and len(a.seeds) > 1
    ratios = [statistics.ratio(fa, fb, False) for fa, fb in zip(a_spent, b_spent, strict=True)]
    return Pair(
        a.label,
        statistics.difference(a_final, b_final, False),
        statistics.difference(a_final, b_final, True) if pairable else None,
        statistics.detectable_difference(a_final, b_final),
        ratios,
        [statistics.ratio(fa, fb, True) for fa, fb in zip(a_spent, b_spent, strict=True)] if pairable else None,
        [claim(a, b, level, r, needed, x, reasons) for level, r, needed in zip(levels, ratios, b.needed, strict=True)],
    )


def claim(
    a: Group, b: Group, level: float, ratio: Estimate, needed: Estimate, x: str, reasons: Sequence[str] = ()
) -> str:
    """What may be said about reaching `level`: the end of the interval, never the estimate.

    `needed` is what `b` needs, and `reasons` say why nothing may be claimed at all. "Ten times fewer" is for worlds
    that are hard without help: where `b` needs HARD decisions or more.
    """
    reasons = [*reasons, *(f"{g.label} has {len(g.seeds)} seeds, not {FEW}" for g in (a, b) if len(g.seeds) < FEW)]
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


def _seed(run: RunInfo) -> int:
    return int(run.config.get("seed", 0))


def _cell(run: RunInfo) -> tuple[int, float]:
    """What tells the runs of a group apart."""
    size = (run.config.get("data") or {}).get("size")
    return _seed(run), float("inf") if size is None else float(size)


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
