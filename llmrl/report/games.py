"""Success over seeds and games, with intervals over both.

Seeds trained alike are one sample, games another, and all seeds play the same games: the two are crossed. So an
interval covers the results of other seeds and of other games. Comparisons are made pair by pair: the same seed in the
same game on both sides.

Shapes: S seeds, G games.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, sqrt

import numpy as np
from rich.table import Table
from rich.text import Text

from llmrl.report.alfworld import Played, check_played
from llmrl.report.groups import group_runs
from llmrl.report.statistics import MIN_SEEDS, NO_INTERVAL, PSEUDO, Estimate, around, moments
from llmrl.run.evaluations import Judged


def shares(judged: Sequence[Judged]) -> tuple[list[str], np.ndarray]:
    """The names of the games, and [S, G]: the share of each seed's episodes in each game that succeeded.

    Where a single game was played, its episodes take the place of games. Raises ValueError where the runs did not all
    play the same games.
    """
    found = [each.success() for each in judged]
    games = sorted(found[0])
    for each, own in zip(judged, found, strict=True):
        if sorted(own) != games:
            raise ValueError(f"{each.path} and {judged[0].path} are of different games: they cannot be put together")
    if len(games) == 1 and len({len(own[games[0]]) for own in found}) == 1:
        return games, np.array([own[games[0]] for own in found], dtype=float)
    return games, np.array([[np.mean(own[game]) for game in games] for own in found])


def mean_success(share_SG: np.ndarray) -> Estimate:
    """Over seeds and games, from shares of 0 to 1."""
    return _mean(share_SG, 0.0, PSEUDO)


def difference(a_SG: np.ndarray, b_SG: np.ndarray) -> Estimate:
    """Mean of `a` minus mean of `b`; row i of both is the same seed, column j the same game."""
    return _mean(a_SG - b_SG, -1.0, PSEUDO / 4)


def _mean(value_SG: np.ndarray, least: float, weight: float) -> Estimate:
    """The mean of values from `least` to 1, with its interval.

    The interval is Student's t. The squared errors of both samples are summed, which is rather more than that of
    crossed ones (the noise of single episodes is in both). The degrees of freedom are Satterthwaite's. Each sample has
    pseudo-observations at both ends, as `statistics.mean` has. A sample of fewer than MIN_SEEDS is not generalised
    from: a single run's interval is over games, given this agent, and that over three games is over seeds, given these
    games.
    """
    point = float(value_SG.mean())
    seeds, games = value_SG.shape
    if 1 < seeds < MIN_SEEDS or max(seeds, games) < MIN_SEEDS:
        return Estimate(point, point, nan, nan)
    found = [moments(value_SG.mean(axis), least, 1.0, weight)
             for axis, size in ((1, seeds), (0, games)) if size >= MIN_SEEDS]  # fmt: skip
    middle = point + sum(own - point for own, _, _ in found)
    square = sum(error**2 for _, error, _ in found)
    freedom = square**2 / sum(error**4 / own for _, error, own in found)
    return around(point, (middle, sqrt(square), freedom), least)


def evaluations_table(judged: Sequence[Judged]) -> Table:
    """One row a run, and one for each group of runs that differ in their seed alone. Raises MixedCells."""
    check_played(map(Played.of_evaluation, judged))
    by_run = {each.run.path: each for each in judged}
    groups = [[by_run[run.path] for run in runs] for runs in group_runs(each.run for each in judged).values()]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    for column in ("success", "95 % interval", "length", "games", "episodes"):
        table.add_column(column, justify="right", no_wrap=column != "95 % interval")
    for group in groups:
        for each in group:
            unfinished = "" if each.run.status == "complete" else f", unfinished: as of {each.summary['checkpoint']:,}"
            table.add_row(*_row(each.run.name + unfinished, [each]))
        if len(group) > 1 and all(each.run.status == "complete" for each in group):
            table.add_row(*_row(f"all {len(group)} seeds", group), style="bold")
    return table


def _row(name: str, group: Sequence[Judged]) -> list[Text]:
    games, share_SG = shares(group)
    found = mean_success(share_SG)
    exact = all(judged.exact for judged in group)
    episodes = sum(judged.summary["tasks"] * judged.summary.get("per_task", 0) for judged in group)
    length = np.mean([judged.summary["length"] for judged in group])
    interval = f"{found.interval_low:.0%} to {found.interval_high:.0%}" if found.known else NO_INTERVAL
    cells = [
        name, f"{found.low:.1%}", "exact" if exact and share_SG.size == 1 else interval, f"{length:.1f}",
        f"{len(games):,}", "computed" if exact else f"{episodes:,}",
    ]  # fmt: skip
    return [Text(cell) for cell in cells]
