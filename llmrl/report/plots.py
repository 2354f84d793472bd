"""Learning curves: mean over seeds with its interval, one line per group of runs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from llmrl.core.files import publish
from llmrl.core.suggestions import did_you_mean
from llmrl.report.groups import TITLES, group_runs, points, rows
from llmrl.report.statistics import CONFIDENCE, MIN_SEEDS, common_grid, t_quantile
from llmrl.run.load import RunInfo

if TYPE_CHECKING:
    from llmrl.report.compare import Comparison
    from llmrl.report.transitions import Arm

# Okabe and Ito's palette, told apart with any colour vision; yellow, too pale for a line on white, is left out
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LEGEND_LINE, LEGEND_CHARACTER = 70, 8.6  # pixels: of an entry, beside its text, and for each character of it
STYLES = ("-", "--", "-.", ":")  # lines that lie on each other stay visible


@dataclass(frozen=True)
class Curve:
    """Shapes: S seeds, X points."""

    label: str
    x_X: np.ndarray
    y_SX: np.ndarray


def curve(runs: Sequence[RunInfo], out: Path, metric: str = "eval/success", x: str = "env_steps") -> Path:
    """Draws `metric` over `x`; runs that differ only in their seed are one line.

    The band is the 95 % interval of the mean over seeds; fewer than five have none. Raises ValueError when no run has
    both.
    """
    curves = [
        c for label, group in group_runs(runs).items() if (c := _curve(label, [points(r, metric, x) for r in group]))
    ]
    if not curves:
        known = sorted({key for run in runs for row in rows(run) for key in row})
        has = f"they have {', '.join(known)}" if known else "nothing was evaluated yet"
        raise ValueError(f"no run has {metric} over {x}: {has}{did_you_mean((metric, x), known)}")
    worlds = dict.fromkeys(str((run.config.get("env") or {}).get("name")) for run in runs)
    return _draw({", ".join(worlds): _in_order(curves)}, out, metric, x, _seeds)


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
    panels: Mapping[str, Sequence[Arm]], out: Path, levels: Sequence[float], alone: Mapping[str, float] | None = None
) -> Path:
    """Success over the number of transitions that were learned from: a panel per study, and in it a line per arm.

    `alone`: of studies, the success of the prior without data; a level line.
    """
    drawn = {name: [Curve(arm.label, arm.sizes, arm.success_SN) for arm in arms] for name, arms in panels.items()}
    for name, success in (alone or {}).items():
        sizes = np.unique(np.concatenate([arm.sizes for arm in panels[name]]))
        drawn[name].append(Curve(ALONE, sizes, np.full((1, sizes.size), success)))
    label = _seeds if len(panels) == 1 else _arm  # an arm may have other seeds in another study
    return _draw(drawn, out, "eval/success", "transitions", label, levels, log=True)


def comparison(found: Comparison, out: Path) -> Path:
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
    return _draw({found.world: _in_order(curves)}, out, found.metric, found.x, _seeds, found.levels, found.log)


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
) -> Path:
    """A label has one colour in all panels. Where there are several, seeds are not drawn one by one."""
    figure = Figure(figsize=(8 if len(panels) == 1 else 4.4 * len(panels), 4.6), dpi=100, layout="constrained")
    labels = list(dict.fromkeys(label(c) for curves in panels.values() for c in curves))
    lines: dict[str, Line2D] = {}
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for level in levels:
            axes.axhline(level, color="#777777", linewidth=0.9, linestyle=(0, (1, 3)))
        for c in curves:
            i = labels.index(label(c))
            line = _line(axes, c, COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)], each=len(panels) == 1)
            lines.setdefault(label(c), line)
        _scales(axes, metric, x, log, narrow=len(panels) > 1)
        axes.set_title(title, fontsize=12 if len(title) < 60 else 10)
    widest = LEGEND_LINE + LEGEND_CHARACTER * max(map(len, labels))
    columns = max(1, min(3 * len(panels), len(labels), int(figure.bbox.width / widest)))
    handles = [lines[name] for name in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=11, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=out.suffix.removeprefix(".") or "png")
    publish(out, drawn.getvalue())
    return out


def _line(axes: Axes, c: Curve, colour: str, style: str, each: bool) -> Line2D:
    """The mean over seeds, its interval, and where `each` is set the seeds."""
    if len(c.y_SX) > 1:
        low, high = interval(c.y_SX)
        axes.fill_between(c.x_X, low, high, color=colour, alpha=0.2 if each else 0.12, linewidth=0)
    if len(c.y_SX) > 1 and each:
        axes.plot(c.x_X, c.y_SX.T, color=colour, linewidth=0.6, alpha=0.45, linestyle=style)
    marker = "o" if c.x_X.size <= 25 else None
    (line,) = axes.plot(c.x_X, c.y_SX.mean(0), style, color=colour, linewidth=2.2, marker=marker, markersize=4)
    return line


def _scales(axes: Axes, metric: str, x: str, log: bool, narrow: bool) -> None:
    if metric.endswith("/success"):
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if narrow else (1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(TITLES.get(x, x), fontsize=12)
    axes.set_ylabel(TITLES.get(metric, metric), fontsize=12)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
