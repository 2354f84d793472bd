"""Learning curves: mean over seeds with its interval, one line per group of runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from llmrl.config import free_settings
from llmrl.report.tables import flatten
from llmrl.run.load import RunInfo

# Okabe and Ito's palette, told apart with any colour vision; yellow, too pale for a line on white, is left out
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")  # lines that lie on each other stay visible
RESAMPLES = 2000
_TITLES = {
    "env_steps": "decisions",
    "primitive_steps": "primitive steps",
    "eval/success": "success",
    "eval_greedy/success": "success of the greedy policy",
    "train/success": "success in training",
    "lm/queries": "states the model was asked about",
    "lm/distinct_prompts": "distinct prompts",
}


@dataclass(frozen=True)
class Curve:
    """Shapes: S seeds, X points."""

    label: str
    x_X: np.ndarray
    y_SX: np.ndarray


def curve(runs: Sequence[RunInfo], out: Path, metric: str = "eval/success", x: str = "env_steps") -> Path:
    """Draws `metric` over `x`; runs that differ only in their seed are one line.

    The band is the 95 % bootstrap interval of the mean over seeds. Raises ValueError when no run has both.
    """
    curves = [
        c for label, group in grouped(runs).items() if (c := _curve(label, [_points(r, metric, x) for r in group]))
    ]
    if not curves:
        known = sorted({key for run in runs for row in run.metrics for key in row})
        has = f"they have {', '.join(known)}" if known else "nothing was evaluated yet"
        raise ValueError(f"no run has {metric} over {x}: {has}")
    worlds = dict.fromkeys(str((run.config.get("env") or {}).get("name")) for run in runs)
    return _draw(curves, out, metric, x, ", ".join(worlds), _seeds)


def run_curve(folder: Path) -> Path | None:
    """A run's own curve.png: success of the behaviour policy and of the greedy one. None when nothing was evaluated."""
    run = RunInfo(folder)
    names = {"behaviour policy": "eval/success", "greedy policy": "eval_greedy/success"}
    curves = [c for label, m in names.items() if (c := _curve(label, [_points(run, m, "env_steps")]))]
    if not curves:
        return None
    return _draw(curves, folder / "curve.png", "eval/success", "env_steps", run.name, lambda c: c.label)


def grouped(runs: Iterable[RunInfo]) -> dict[str, list[RunInfo]]:
    """Label -> the runs that differ only in their seed (and in settings that cannot change a result)."""
    groups: dict[Hashable, list[RunInfo]] = defaultdict(list)
    flats: dict[Hashable, dict[str, Any]] = {}
    for run in runs:
        free = free_settings(run.config)
        flat = {k: v for k, v in flatten(run.config).items() if k != "seed" and k not in free}
        key = repr(sorted(flat.items()))
        groups[key].append(run)
        flats[key] = flat
    labels = _labels(list(flats.values()))
    return {label: groups[key] for label, key in zip(labels, flats, strict=True)}


def interval(y_SX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % percentile bootstrap interval of the mean over seeds, [X] and [X]; always the same draws."""
    seeds = y_SX.shape[0]
    draws_RS = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    low, high = np.percentile(y_SX[draws_RS].mean(axis=1), [2.5, 97.5], axis=0)
    return low, high


def _labels(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which the groups differ, as few as tell them apart; learner and world by name."""
    if len(flats) == 1:
        return [str(flats[0].get("learner.name", "run"))]
    keys = list(dict.fromkeys(key for flat in flats for key in flat))
    differing = [key for key in keys if len({repr(flat.get(key)) for flat in flats}) > 1]
    first = ["learner.name", "env.name", "prior.name", "lm.model", "lm.name", "encoder.name", "prompt.id"]
    differing.sort(key=lambda key: first.index(key) if key in first else len(first))
    chosen: list[str] = []
    for key in differing:
        told = _told_apart(flats, chosen)
        if key in first[:2] or _told_apart(flats, [*chosen, key]) > told:
            chosen.append(key)
    return [" ".join(_part(key, flat.get(key), keys) for key in chosen) for flat in flats]


def _told_apart(flats: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    return len({repr([flat.get(key) for key in keys]) for flat in flats})


def _part(key: str, value: Any, keys: Sequence[str]) -> str:
    """dqn_prior, or alpha=0.1; the whole key where several end alike."""
    last = key.rpartition(".")[2]
    if last in ("name", "model", "id"):
        return str(value) if value is not None else f"no {key.partition('.')[0]}"
    shown = last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key
    return f"{shown}={'null' if value is None else value}"


def _points(run: RunInfo, metric: str, x: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(row[x], row[metric]) for row in run.metrics if row.get(x) is not None and row.get(metric) is not None]
    points = np.array(sorted(dict(rows).items()), dtype=float).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _curve(label: str, points: Sequence[tuple[np.ndarray, np.ndarray]]) -> Curve | None:
    """Seeds on the x they share; where they share none (prompts, seconds), between their points on a common grid."""
    points = [(x, y) for x, y in points if x.size]
    if not points:
        return None
    shared = sorted(set.intersection(*(set(x.tolist()) for x, _ in points)))
    if len(shared) >= min(2, *(x.size for x, _ in points)):
        at = np.array(shared)
    else:
        low, high = max(x[0] for x, _ in points), min(x[-1] for x, _ in points)
        if low >= high:
            return None
        at = np.linspace(low, high, 100)
    return Curve(label, at, np.stack([np.interp(at, x, y) for x, y in points]))


def _seeds(c: Curve) -> str:
    return f"{c.label} ({len(c.y_SX)} seed{'s' if len(c.y_SX) > 1 else ''})"


def _draw(curves: Sequence[Curve], out: Path, metric: str, x: str, title: str, label: Any) -> Path:
    figure = Figure(figsize=(8, 4.6), dpi=100, layout="constrained")
    axes: Axes = figure.subplots()
    for i, c in enumerate(curves):
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
        if len(c.y_SX) > 1:
            low, high = interval(c.y_SX)
            axes.fill_between(c.x_X, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(c.x_X, c.y_SX.T, color=colour, linewidth=0.6, alpha=0.45, linestyle=style)
        marker = "o" if c.x_X.size <= 25 else None
        axes.plot(
            c.x_X, c.y_SX.mean(0), style, color=colour, linewidth=2.2, marker=marker, markersize=4, label=label(c)
        )
    if metric.endswith("/success"):
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(_TITLES.get(x, x), fontsize=12)
    axes.set_ylabel(_TITLES.get(metric, metric), fontsize=12)
    axes.set_title(title, fontsize=12 if len(title) < 60 else 10)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(3, len(curves)), fontsize=11, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return out
