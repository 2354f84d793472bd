"""Learning curves: mean over seeds with its interval, one line per group of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from llmrl.core.suggestions import did_you_mean
from llmrl.report.figures import STYLES, Layout, Style, layout, save
from llmrl.report.groups import TITLES, group_runs, points, rows
from llmrl.report.statistics import CONFIDENCE, MIN_SEEDS, common_grid, t_quantile
from llmrl.run.load import RunInfo

if TYPE_CHECKING:
    from llmrl.report.compare import Comparison
    from llmrl.report.transitions import Arm


@dataclass(frozen=True)
class Curve:
    """Shapes: S seeds, X points."""

    label: str
    x_X: np.ndarray
    y_SX: np.ndarray


def curve(
    runs: Sequence[RunInfo],
    out: Path,
    metric: str = "eval/success",
    x: str = "env_steps",
    columns: int | None = None,
) -> Path:
    """Draws `metric` over `x`; runs that differ only in their seed are one line.

    The band is the 95 % interval of the mean over seeds; fewer than five have none. `columns`: of a paper, as in
    `layout`. Raises ValueError when no run has both.
    """
    curves = [
        c for label, group in group_runs(runs).items() if (c := _curve(label, [points(r, metric, x) for r in group]))
    ]
    if not curves:
        known = sorted({key for run in runs for row in rows(run) for key in row})
        has = f"they have {', '.join(known)}" if known else "nothing was evaluated yet"
        raise ValueError(f"no run has {metric} over {x}: {has}{did_you_mean((metric, x), known)}")
    worlds = dict.fromkeys(str((run.config.get("env") or {}).get("name")) for run in runs)
    return _draw({", ".join(worlds): _in_order(curves)}, out, metric, x, _seeds, columns=columns)


def run_curve(folder: Path) -> Path | None:
    """A run's own curve.png: success of the behaviour policy and of the greedy one. None when nothing was evaluated."""
    run = RunInfo(folder)
    x = "gradient_steps" if any("gradient_steps" in row for row in run.metrics) else "env_steps"
    names = {"behaviour policy": "eval/success", "greedy policy": "eval_greedy/success"}
    curves = [c for label, m in names.items() if (c := _curve(label, [points(run, m, x)]))]
    if not curves:
        return None
    return _draw({run.name: curves}, folder / "curve.png", "eval/success", x, _arm)


ALONE = "prior alone"  # the label of what is no arm, and has no seeds of its own


def samples(
    panels: Mapping[str, Sequence[Arm]],
    out: Path,
    levels: Sequence[float],
    alone: Mapping[str, float] | None = None,
    columns: int | None = None,
) -> Path:
    """Success over the number of transitions that were learned from: a panel per study, and in it a line per arm.

    `alone`: of studies, the success of the prior without data; a level line.
    """
    drawn = {name: [Curve(arm.label, arm.sizes, arm.success_SN) for arm in arms] for name, arms in panels.items()}
    for name, success in (alone or {}).items():
        sizes = np.unique(np.concatenate([arm.sizes for arm in panels[name]]))
        drawn[name].append(Curve(ALONE, sizes, np.full((1, sizes.size), success)))
    label = _seeds if len(panels) == 1 else _arm  # an arm may have other seeds in another study
    return _draw(drawn, out, "eval/success", "transitions", label, levels, log=True, columns=columns)


def comparison(found: Comparison, out: Path, columns: int | None = None) -> Path:
    """Draws the groups of a comparison with its thresholds; over log x where the evaluations are spaced so.

    Bands as in `curve`. Raises ValueError where no group has a stretch of x that all its seeds cover.
    """
    curves = [
        c
        for group in [*found.groups, found.against]
        if (c := _curve(group.label, [(seed.x_T, seed.success_T) for seed in group.curves], found.log))
    ]
    if not curves:
        raise ValueError(f"nothing to draw over {found.x}: no stretch of it is common to all seeds of a group")
    panels = {found.world: _in_order(curves)}
    return _draw(panels, out, found.metric, found.x, _seeds, found.levels, found.log, columns)


def _in_order(curves: Sequence[Curve]) -> list[Curve]:
    """So that a group has one colour, in whatever order the runs were named."""
    return sorted(curves, key=lambda c: c.label)


def interval(y_SX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the mean over seeds by Student's t at each x, [X] and [X]; NaN of fewer than MIN_SEEDS."""
    seeds = y_SX.shape[0]
    if seeds < MIN_SEEDS:
        return np.full(y_SX.shape[1], np.nan), np.full(y_SX.shape[1], np.nan)
    half_X = t_quantile(CONFIDENCE, seeds - 1) * y_SX.std(0, ddof=1) / np.sqrt(seeds)
    return y_SX.mean(0) - half_X, y_SX.mean(0) + half_X


def _curve(label: str, points: Sequence[tuple[np.ndarray, np.ndarray]], log: bool = False) -> Curve | None:
    """Seeds on the x they share; where they share none (prompts, seconds), between their points on a common grid."""
    points = [(x, y) for x, y in points if x.size]
    at = common_grid([x for x, _ in points], log) if points else None
    return None if at is None else Curve(label, at, np.stack([np.interp(at, x, y) for x, y in points]))


def _seeds(c: Curve) -> str:
    if c.label == ALONE:
        return c.label
    return f"{c.label} ({len(c.y_SX)} seed{'s' if len(c.y_SX) > 1 else ''})"


def _arm(c: Curve) -> str:
    return c.label


def _draw(
    panels: Mapping[str, Sequence[Curve]],
    out: Path,
    metric: str,
    x: str,
    label: Callable[[Curve], str],
    levels: Sequence[float] = (),
    log: bool = False,
    columns: int | None = None,
) -> Path:
    """A label has one style in all panels. Where there are several, seeds are not drawn one by one."""
    look = layout(columns, len(panels))
    labels = list(dict.fromkeys(label(c) for curves in panels.values() for c in curves))
    shown = [look.wrap(name, look.small) for name in labels]
    stacked = columns == 1
    rows, across = (len(panels), 1) if stacked else (1, len(panels))
    legend = look.legend_columns(shown, 3 * across)
    lines_below = -(-len(shown) // legend) * max(name.count("\n") + 1 for name in shown)
    height = 4.6 if columns is None else rows * 0.62 * look.width / across + lines_below * 1.6 * look.small / 72
    figure = Figure(figsize=(look.width, height), dpi=look.dpi, layout="constrained")
    lines: dict[str, Line2D] = {}
    for axes, (title, curves) in zip(figure.subplots(rows, across, squeeze=False).flat, panels.items(), strict=True):
        for level in levels:
            axes.axhline(level, color="#777777", linewidth=0.4 * look.line, linestyle=(0, (1, 3)))
        for c in curves:
            i = labels.index(label(c))
            line = _line(axes, c, i, look, each=len(panels) == 1)
            lines.setdefault(label(c), line)
        _scales(axes, metric, x, log, look, narrow=across > 1 or columns is not None)
        size = look.text if len(title) < 60 else look.text - 2
        axes.set_title(look.wrap(title, size, 0.9 / across), fontsize=size)
    handles = [lines[name] for name in labels]
    figure.legend(
        handles, shown, loc="outside lower center", ncols=legend, fontsize=look.small, frameon=False, handlelength=3.2
    )
    return save(figure, out, look.dpi)


MARKERS = 8  # of a line, about


def _line(axes: Axes, c: Curve, number: int, look: Layout, each: bool) -> Line2D:
    """The mean over seeds, its interval, and where `each` is set the seeds."""
    style: Style = STYLES[number % len(STYLES)]
    if len(c.y_SX) > 1:
        low, high = interval(c.y_SX)
        axes.fill_between(c.x_X, low, high, color=style.colour, alpha=0.2 if each else 0.12, linewidth=0)
    if len(c.y_SX) > 1 and each:
        axes.plot(c.x_X, c.y_SX.T, color=style.colour, linewidth=0.27 * look.line, alpha=0.45, linestyle=style.line)
    apart = max(1, c.x_X.size // MARKERS)
    (line,) = axes.plot(
        c.x_X, c.y_SX.mean(0), color=style.colour, linestyle=style.line, linewidth=look.line, marker=style.marker,
        markersize=0.5 * look.small, markevery=(number % apart, apart),
    )  # fmt: skip
    return line


def _scales(axes: Axes, metric: str, x: str, log: bool, look: Layout, narrow: bool) -> None:
    if metric.endswith("/success"):
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if narrow else (1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif narrow:
        axes.xaxis.set_major_locator(MaxNLocator(4 if look.columns == 1 else 6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(TITLES.get(x, x), fontsize=look.text)
    axes.set_ylabel(TITLES.get(metric, metric), fontsize=look.text)
    axes.tick_params(labelsize=look.small)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
