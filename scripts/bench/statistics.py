"""How often the intervals and claims of `llmrl.report` hold, where the truth is known.

    python -m scripts.bench.statistics [PART...] [--repeats N]

Parts are shares, times, reached, transitions and games; all of them take some minutes on one core. A cell is a number
of seeds, a population of seeds, and a way to evaluate. Its experiments are simulated, and handed to the functions that
print the tables. Intervals draw 500 resamples here, and not
10,000.

- shares: coverage of 95 % intervals of final success, area and differences.
- times: coverage for ratios of times, false lower ends, and false claims where nothing differs.
- reached: how early or late a threshold is found, and how often a plateau below it counts as having reached it.
- transitions: the same as `times`, for sizes of data.
- games: coverage over crossed seeds and games.

Shapes: S seeds, T evaluations, N sizes, G games.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from math import isfinite, log

import numpy as np

from llmrl.report import games, statistics, transitions
from llmrl.report.statistics import Estimate, SeedCurve, Times
from scripts.bench.calibration import interpreter

SEEDS = (3, 5, 10, 20)
LEVEL = 0.8
LINEAR = np.arange(0, 8001, 200.0)
LOG = np.append(0, 200 * 2 ** (np.arange(17) / 3))  # as `evaluation.grid=log evaluation.per_doubling=3`
Rng = np.random.Generator
Draw = Callable[[Rng, int], np.ndarray]  # true values of seeds [S]


# ---- shares ------------------------------------------------------------------------------------------------------

POPULATIONS: dict[str, Draw] = {
    "0.6, spread 0.05": lambda rng, s: rng.beta(0.6 * 95, 0.4 * 95, s),
    "0.6, spread 0.3": lambda rng, s: rng.beta(0.6 * 1.67, 0.4 * 1.67, s),
    "0.95, spread 0.05": lambda rng, s: rng.beta(0.95 * 18, 0.05 * 18, s),
    "nearly all won": lambda rng, s: rng.beta(0.99 * 99, 0.01 * 99, s),
    "0.95, a tenth fails": lambda rng, s: np.where(rng.random(s) < 0.1, 0.05, rng.beta(95, 5, s)),
    "0.95, a third fails": lambda rng, s: np.where(rng.random(s) < 0.33, 0.05, rng.beta(95, 5, s)),
}
TRUE = {
    "0.95, a tenth fails": 0.9 * 0.95 + 0.1 * 0.05, "0.95, a third fails": 0.67 * 0.95 + 0.33 * 0.05,
    "nearly all won": 0.99, "0.95, spread 0.05": 0.95,
}  # fmt: skip
RISE = np.minimum(1, np.arange(21) / 10)  # of an evaluation's success, as a share of the last one's


def shares(repeats: int) -> Iterator[list[str]]:
    yield ["population", "episodes", "seeds", "final", "area", "difference", "paired", "width 0", "final's width"]
    for name, draw in POPULATIONS.items():
        for episodes in (0, 30):
            for seeds in SEEDS:
                rng = np.random.default_rng([seeds, episodes])
                held = np.zeros((repeats, 5))
                widths = []
                truth = TRUE.get(name, 0.6)
                rise = float(np.trapezoid(RISE) / (RISE.size - 1))
                for i in range(repeats):
                    a, b = (_risen(draw(rng, seeds), episodes, rng) for _ in range(2))
                    a_S, b_S = statistics.final(a), statistics.final(b)
                    one = statistics.mean(a_S)
                    found = (
                        (one, truth),
                        (statistics.mean(statistics.area(a, a[0].x_T, False)), truth * rise),
                        (statistics.difference(a_S, b_S, False), 0.0),
                        (statistics.difference(a_S, b_S, True), 0.0),
                    )
                    held[i] = [*(_holds(*f) for f in found), min(_width(e) for e, _ in found) == 0]
                    widths.append(_width(one))
                yield [name, _episodes(episodes), str(seeds), *_percent(held), f"{np.nanmedian(widths):.2f}"]


def _risen(top_S: np.ndarray, episodes: int, rng: Rng) -> list[SeedCurve]:
    x_T = np.arange(RISE.size, dtype=float) * 100
    return [_sample_curve(x_T, top * RISE, episodes, rng) for top in top_S]


# ---- times -------------------------------------------------------------------------------------------------------


# truth, grid, spread of log times, slopes of the faster and of the slower, episodes of an evaluation
CASES = (
    (1.0, LOG, 0.02, (0.15, 0.15), 0),
    (1.0, LOG, 0.3, (0.15, 0.15), 30),
    (1.0, LINEAR, 0.8, (0.15, 0.6), 30),
    (1.1, LOG, 0.02, (0.15, 0.15), 0),
    (1.1, LOG, 0.3, (0.15, 0.6), 30),
    (1.1, LINEAR, 0.02, (0.15, 0.15), 30),
    (8.58, LOG, 0.02, (0.15, 0.15), 0),
    (8.58, LOG, 0.3, (0.15, 0.6), 30),
    (8.58, LINEAR, 0.8, (0.15, 0.15), 0),
)


def times(repeats: int) -> Iterator[list[str]]:
    yield ["truth", "grid", "spread", "slopes", "episodes", "seeds", "coverage", "lower end above", "claims", "paired"]
    for case, (truth, x_T, spread, slopes, episodes) in enumerate(CASES):
        for seeds in SEEDS:
            rng = np.random.default_rng([seeds, case])
            held = np.zeros((repeats, 4))
            for i in range(repeats):
                start = 460 * 2 ** rng.uniform(-1 / 6, 1 / 6)  # anywhere between two evaluations
                medians = start, start * truth  # the slower one is at times beyond the budget
                a, b = (
                    _spent(_learned(median, spread, slope, seeds, x_T, episodes, rng))
                    for median, slope in zip(medians, slopes, strict=True)
                )
                found, paired = statistics.ratio(a, b, False), statistics.ratio(a, b, True)
                claim = found.interval_low > 1 or found.interval_high < 1
                held[i] = _holds(found, truth), found.interval_low > truth + 1e-9, claim, _holds(paired, truth)
            told = "equal" if slopes[0] == slopes[1] else "the slower is flat"
            grid = "log" if x_T is LOG else "linear"
            yield [f"{truth:g}", grid, f"{spread:g}", told, _episodes(episodes), str(seeds), *_percent(held)]


def _learned(
    median: float, spread: float, slope: float, seeds: int, x_T: np.ndarray, episodes: int, rng: Rng
) -> list[SeedCurve]:
    """Seeds whose true success rises as a sigmoid of log x, to 1, and is LEVEL at a log-normal time."""
    curves = []
    for at in median * np.exp(spread * rng.normal(size=seeds)):
        curves.append(_sample_curve(x_T, _sigmoid(x_T, at, slope), episodes, rng))
    return curves


def _sigmoid(x_T: np.ndarray, at: float, slope: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        z_T = (np.log(x_T) - log(at)) / slope + log(LEVEL / (1 - LEVEL))
    return 1 / (1 + np.exp(-np.clip(z_T, -50, 50)))


def _spent(curves: list[SeedCurve]) -> Times:
    return statistics.after_start(statistics.find_times(curves, LEVEL), curves)


# ---- a threshold -------------------------------------------------------------------------------------------------


def reached(repeats: int) -> Iterator[list[str]]:
    yield ["curve", "evaluations", "episodes", "counts as reached", "too early", "too late", "measured / true"]
    rng = np.random.default_rng(0)
    for looks in (11, 41, 161):
        x_T = np.linspace(0, 8000, looks)
        for episodes in (30, 100):
            for plateau in (0.7, 0.75, 0.85):
                y_T = np.where(x_T < 1000, 0.0, plateau)
                curves = [_sample_curve(x_T, y_T, episodes, rng) for _ in range(repeats)]
                there = np.isfinite(_spent(curves).high_S).mean()
                yield [f"stays at {plateau:g}", str(looks), str(episodes), f"{100 * there:.0f}", "", "", ""]
    for looks in (41, 161):
        x_T = np.linspace(0, 8000, looks)
        for episodes in (0, 30, 100):
            for slope in (0.05, 0.3, 1.0):
                at_S = np.exp(rng.uniform(log(1500), log(2500), repeats))
                curves = [_sample_curve(x_T, _sigmoid(x_T, at, slope), episodes, rng) for at in at_S]
                found_S = _spent(curves).high_S
                there = np.isfinite(found_S)
                step = x_T[1]
                told = [there, found_S < at_S, found_S[there] > at_S[there] + step]
                ratio = np.median(found_S[there] / at_S[there])
                name = f"slope {slope:g}"
                yield [name, str(looks), _episodes(episodes), *(f"{100 * t.mean():.0f}" for t in told), f"{ratio:.2f}"]


# ---- sizes of data -----------------------------------------------------------------------------------------------

SIZES = np.array([100, 316, 1000, 3162, 10_000, 31_623, 100_000.0])


def sizes(repeats: int) -> Iterator[list[str]]:
    yield ["truth", "slope", "episodes", "seeds", "estimate", "coverage", "lower end above", "claims of a table"]
    for truth in (1.0, 2.14, 8.0):
        for slope in (0.2, 0.5):
            for episodes in (0, 30):
                for seeds in (5, 10):
                    rng = np.random.default_rng([seeds, episodes])
                    held, estimates = np.zeros((repeats, 3)), []
                    for i in range(repeats):
                        shared_S = rng.normal(size=seeds)  # both drew the same data
                        start = 1500 * 10 ** rng.uniform(-0.25, 0.25)
                        a, b = (_sized(start * f, slope, shared_S, episodes, rng) for f in (1, truth))
                        found = [transitions.ratio(a, b, level) for level in transitions.LEVELS]
                        claims = [f.interval_low > 1 or f.interval_high < 1 for f in found]
                        held[i] = _holds(found[1], truth), found[1].interval_low > truth + 1e-9, any(claims)
                        estimates.append(found[1].low)
                    head = [f"{truth:g}", f"{slope:g}", _episodes(episodes), str(seeds)]
                    yield [*head, f"{np.median(estimates):.2f}", *_percent(held)]


def _sized(median: float, slope: float, shared_S: np.ndarray, episodes: int, rng: Rng) -> transitions.Arm:
    at_S = median * np.exp(0.2 * shared_S + 0.2 * rng.normal(size=shared_S.size))
    success_SN = np.stack([_sample_curve(SIZES, _sigmoid(SIZES, at, slope), episodes, rng).success_T for at in at_S])
    return transitions.Arm("a", list(range(shared_S.size)), SIZES, success_SN, episodes)


# ---- seeds and games ---------------------------------------------------------------------------------------------


def crossed(repeats: int) -> Iterator[list[str]]:
    yield ["mean", "spread of seeds", "of games", "seeds", "games", "coverage", "difference", "width"]
    for middle in (0.6, 0.97):
        for of_seeds, of_games in ((0.3, 0.3), (1.0, 0.3), (0.3, 2.0)):
            many = np.random.default_rng(0).normal(size=(400_000, 2)) * (of_seeds, of_games)
            logit = log(middle / (1 - middle))
            truth = float(np.mean(1 / (1 + np.exp(-(logit + many.sum(1))))))
            for seeds in (5, 10):
                for played in (10, 26, 134):
                    rng = np.random.default_rng([seeds, played])
                    held, widths = np.zeros((repeats, 2)), []
                    for i in range(repeats):
                        game_G = of_games * rng.normal(size=played)
                        a, b = (
                            rng.binomial(
                                2, 1 / (1 + np.exp(-(logit + of_seeds * rng.normal(size=(seeds, 1)) + game_G)))
                            )
                            / 2
                            for _ in range(2)
                        )
                        one = games.mean_success(a)
                        held[i] = _holds(one, truth), _holds(games.difference(a, b), 0.0)
                        widths.append(_width(one))
                    head = [f"{truth:.2f}", f"{of_seeds:g}", f"{of_games:g}", str(seeds), str(played)]
                    yield [*head, *_percent(held), f"{np.median(widths):.2f}"]


# ---- shared ------------------------------------------------------------------------------------------------------


def _sample_curve(x_T: np.ndarray, true_T: np.ndarray, episodes: int, rng: Rng) -> SeedCurve:
    success_T = rng.binomial(episodes, true_T) / episodes if episodes else true_T
    return SeedCurve(x_T, success_T, np.full(x_T.size, episodes))


def _holds(found: Estimate, truth: float) -> float:
    """NaN where no interval is given."""
    if np.isnan(found.interval_low):
        return np.nan
    return float(found.interval_low - 1e-9 <= truth <= found.interval_high + 1e-9)


def _width(found: Estimate) -> float:
    return found.interval_high - found.interval_low if isfinite(found.interval_high) else float("inf")


def _percent(held_RC: np.ndarray) -> list[str]:
    return ["none" if np.isnan(column).all() else f"{100 * np.nanmean(column):.1f}" for column in held_RC.T]


def _episodes(episodes: int) -> str:
    return str(episodes) if episodes else "exact"


PARTS = {"shares": shares, "times": times, "reached": reached, "transitions": sizes, "games": crossed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; without one, all")
    parser.add_argument("--repeats", type=int, default=300, help="experiments a cell")
    asked = parser.parse_args()
    statistics.RESAMPLES = transitions.RESAMPLES = 500
    for part in asked.parts or PARTS:
        start = time.process_time()
        print(f"\n## {part}, {asked.repeats} experiments a cell\n")
        for i, row in enumerate(PARTS[part](asked.repeats)):
            print("| " + " | ".join(row) + " |", flush=True)
            if i == 0:
                print("|" + " --- |" * len(row))
        print(f"\n{time.process_time() - start:.0f} s of CPU time; interpreter {interpreter() * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
