"""What a study's trained agents do in games that they did not learn in, and with other models than they learned with.

    python -m scripts.homes scripts/studies/homes_pick.yaml --jobs 2      evaluates what is finished, prints the tables
    python -m scripts.homes scripts/studies/homes_pick.yaml --table       prints what is there, and evaluates nothing

A study names in `evaluate` the games: a word for each set, and the overrides that choose it. Every arm of `judge` plays
them, `episodes` times each, and is compared with the arms of its own list: by the same seeds in the same games. A study
with `matrix` has arms that learned with different models, and the overrides that give an agent each: every agent is
evaluated with every model, in the games that it learned in. Evaluations are kept in the runs (`llmrl evaluate`), so
that what is there is not played again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.run.load import RunInfo
from scripts.study import Study, finished


@dataclass(frozen=True)
class Order:
    """One run, to be evaluated in one way."""

    run: RunInfo
    overrides: tuple[str, ...]
    policy: str = "behaviour"


class Judgement:
    """The evaluations that a study asks for. `arms`: its finished runs, by seed."""

    def __init__(self, study: Study, runs: Path) -> None:
        self.study, plain = study, study.judged
        self.sets: dict[str, tuple[str, ...]] = {name: tuple(words) for name, words in plain["evaluate"].items()}
        self.episodes = int(plain["episodes"])
        self.judge: dict[str, list[str]] = plain["judge"]
        self.ceilings: list[str] = plain["ceilings"]
        self.matrix: dict[str, tuple[str, ...]] = {name: tuple(words) for name, words in plain["matrix"].items()}
        wanted = dict.fromkeys([*self.judge, *self.ceilings, *self.matrix])
        self.arms = finished(study, runs, list(wanted))

    def orders(self) -> Iterator[Order]:
        """Seeds are the outer loop, so that what is stopped early has something of everything."""
        for number in range(max((len(runs) for runs in self.arms.values()), default=0)):
            for arm, runs in self.arms.items():
                if number >= len(runs):
                    continue
                if arm in self.judge:
                    yield from (Order(runs[number], words) for words in self.sets.values())
                if arm in self.ceilings:
                    yield from (Order(runs[number], words, "expert") for words in self.sets.values())
                if arm in self.matrix:
                    yield from (Order(runs[number], words) for words in self.matrix.values())

    def shares(self, arm: str, words: Sequence[str], policy: str = "behaviour") -> np.ndarray | None:
        """[S, G] of an arm in a set of games; None where not all its finished runs were evaluated there yet."""
        from llmrl.report.games import shares

        judged = [self._read(Order(run, tuple(words), policy)) for run in self.arms.get(arm, [])]
        return shares(judged)[1] if judged and all(judged) else None

    def _read(self, order: Order) -> Any:
        from llmrl.run.judged import evaluations

        wanted = {"overrides": list(order.overrides), "policy": order.policy, "per_task": self.episodes}
        for judged in evaluations(order.run):
            if wanted.items() <= judged.summary.items():
                return judged
        return None

    def table(self) -> Iterator[str]:
        """Markdown: success in each set of games, and the difference from each arm that it is compared with."""
        from llmrl.report.games import difference, mean_success

        yield f"| arm | seeds | {' | '.join(self.sets)} |"
        yield f"|---|--:|{'---|' * len(self.sets)}"
        for arm, others in self.judge.items():
            found = {name: self.shares(arm, words) for name, words in self.sets.items()}
            if all(share_SG is None for share_SG in found.values()):
                continue
            yield _row(arm, self.arms[arm], (None if s is None else mean_success(s) for s in found.values()))
            for other in others:
                theirs = {name: self.shares(other, words) for name, words in self.sets.items()}
                pairs = [(found[name], theirs[name]) for name in self.sets]
                cells = [None if a is None or b is None else difference(*_paired(a, b)) for a, b in pairs]
                yield _row(f"&nbsp; minus {other}", [], cells, sign=True)
        for arm in self.ceilings:
            found = {name: self.shares(arm, words, "expert") for name, words in self.sets.items()}
            cells = [None if s is None else mean_success(s) for s in found.values()]
            yield _row(f"who knows the way, with what {arm} is proposed", self.arms.get(arm, []), cells)

    def matrix_table(self) -> Iterator[str]:
        """Markdown: rows learned with a model, columns are played with one."""
        from llmrl.report.games import mean_success

        yield f"| learned with, played with | {' | '.join(self.matrix)} |"
        yield f"|---|{'---|' * len(self.matrix)}"
        for arm in self.matrix:
            found = [self.shares(arm, words) for words in self.matrix.values()]
            yield f"| {arm} | {' | '.join('-' if s is None else _told(mean_success(s)) for s in found)} |"


def _paired(a_SG: np.ndarray, b_SG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The seeds that both have: they are numbered from 0, and none is left out."""
    seeds = min(len(a_SG), len(b_SG))
    return a_SG[:seeds], b_SG[:seeds]


def _row(name: str, runs: Sequence[RunInfo], cells: Any, sign: bool = False) -> str:
    told = ["-" if cell is None else _told(cell, sign) for cell in cells]
    return f"| {name} | {len(runs) or ''} | {' | '.join(told)} |"


def _told(found: Any, sign: bool = False) -> str:
    form = "{:+.1f} ({:+.0f} to {:+.0f})" if sign else "{:.1f} ({:.0f} to {:.0f})"
    return form.format(100 * found.low, 100 * found.interval_low, 100 * found.interval_high)


def evaluated(order: Order, episodes: int) -> str:
    """Evaluates in this process; returns what went wrong, or nothing."""
    from llmrl.evaluations import Asked, evaluate_run

    try:
        evaluate_run(order.run, Asked(order.overrides, episodes, order.policy))  # type: ignore[arg-type]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--runs", type=Path, help="default: runs/STUDY")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there, and evaluate nothing")
    args = parser.parse_args()
    study = Study.read(args.study)
    judgement = Judgement(study, args.runs or Path("runs") / study.name)
    start, failed = time.monotonic(), 0
    orders = [] if args.table else list(judgement.orders())
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(evaluated, order, judgement.episodes): order for order in orders}
        for done, future in enumerate(as_completed(waiting), 1):
            order, error = waiting[future], future.result()
            failed += bool(error)
            print(
                f"[{done}/{len(orders)}] {time.monotonic() - start:.0f} s  {order.run.name}  "
                f"{' '.join(order.overrides)}{'' if order.policy == 'behaviour' else ' ' + order.policy}  {error}",
                flush=True,
            )
    print("\n".join([*judgement.table(), "", *(judgement.matrix_table() if judgement.matrix else ())]))
    if failed:
        raise SystemExit(f"{failed} of {len(orders)} evaluations failed")


if __name__ == "__main__":
    main()
