"""Success over seeds and games, with intervals that resample both.

Seeds trained alike are one sample, games another, and all seeds play the same games: the two are crossed. So a resample
draws seeds and, apart from them, games, each with replacement, and takes the mean over all episodes of the pairs. What
is compared is drawn together: the same seeds and the same games on both sides.

Shapes: S seeds, G games, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from llmrl.report.groups import grouped
from llmrl.report.statistics import RESAMPLES, Estimate, estimate
from llmrl.run.evaluations import Judged


def shares(judged: Sequence[Judged]) -> tuple[list[str], np.ndarray]:
    """Games by name, and [S, G]: of each seed's episodes in each game, the share that succeeded.

    Of a single game that was played, its episodes take the place of games. Raises ValueError where the runs did not all
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
    return _mean(share_SG, 0.0)


def difference(a_SG: np.ndarray, b_SG: np.ndarray) -> Estimate:
    """Mean of `a` minus mean of `b`; row i of both is the same seed, column j the same game."""
    return _mean(a_SG - b_SG, -1.0)


def _mean(value_SG: np.ndarray, least: float) -> Estimate:
    """Of values from `least` to 1.

    Where all are equal nothing can be resampled. Then as far away is thought possible as a share of other games that
    would still not be among so many with a chance of 2.5 %: (1 - p)^G = 0.025.
    """
    point = float(value_SG.mean())
    if np.ptp(value_SG) == 0:
        other = 1 - 0.025 ** (1 / value_SG.shape[1])
        return Estimate(point, point, max(least, point - other), min(1.0, point + other))
    means_R = _resampled(value_SG)
    return estimate(point, point, means_R, means_R)


def _resampled(value_SG: np.ndarray) -> np.ndarray:
    seeds, games = value_SG.shape
    rng = np.random.default_rng(0)
    # How often each seed, and each game, is drawn: the mean over pairs is a product of the two.
    seeds_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    games_RG = rng.multinomial(games, np.full(games, 1 / games), size=RESAMPLES) / games
    return np.einsum("rs,sg,rg->r", seeds_RS, value_SG, games_RG, optimize=True)


def evaluations_table(judged: Sequence[Judged]) -> Table:
    """One row a run, and one for each group of runs that differ in their seed alone."""
    by_run = {each.run.path: each for each in judged}
    groups = [[by_run[run.path] for run in runs] for runs in grouped(each.run for each in judged).values()]
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
    interval = f"{found.interval_low:.0%} to {found.interval_high:.0%}"
    cells = [
        name, f"{found.low:.1%}", "exact" if exact and share_SG.size == 1 else interval, f"{length:.1f}",
        f"{len(games):,}", "computed" if exact else f"{episodes:,}",
    ]  # fmt: skip
    return [Text(cell) for cell in cells]
