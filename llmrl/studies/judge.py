"""Evaluations of a study's trained agents in other games, and with other models.

A study names in `evaluate` the games: a word for each set, and the overrides that choose it. Every arm of `judge` plays
them, `episodes` times each, and is compared with the arms of its own list: by the same seeds in the same games. A study
with `matrix` has arms that learned with different models, and the overrides that give an agent each. Every agent is
then evaluated with every model, in the games that it learned in. Evaluations are kept in the runs (`llmrl evaluate`),
and none is played again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llmrl.core.overrides import ConfigError
from llmrl.evaluate import Asked, Planned, evaluate_run, plan
from llmrl.launch.processes import run_all
from llmrl.lm.serve import served_for
from llmrl.report.alfworld import Played
from llmrl.report.compare_tables import with_interval
from llmrl.report.result import ResultTable
from llmrl.report.statistics import Estimate
from llmrl.rollout.episodes import Policy
from llmrl.run.load import RunInfo
from llmrl.studies.study import Study, find_results


class Shares(NamedTuple):
    """The success of an arm in a set of games."""

    seeds: list[int]
    share_SG: np.ndarray  # of a seed's episodes in a game, those that succeeded


class Judgement:
    """The evaluations that a study asks for. `arms`: its finished runs, by seed."""

    def __init__(self, study: Study, runs: Path, tell: Callable[[str], None]) -> None:
        plain = study.judged
        self.sets: dict[str, tuple[str, ...]] = {name: tuple(words) for name, words in plain["evaluate"].items()}
        self.episodes = int(plain["episodes"])
        self.judge: dict[str, list[str]] = plain["judge"]
        self.ceilings: list[str] = plain["ceilings"]
        self.matrix: dict[str, tuple[str, ...]] = {name: tuple(words) for name, words in plain["matrix"].items()}
        if not self.judge or not self.sets:
            raise ConfigError(f"{study.name} names neither the arms to evaluate (`judge`) nor the games (`evaluate`)")
        others = [other for others in self.judge.values() for other in others]
        wanted = list(dict.fromkeys([*self.judge, *self.ceilings, *self.matrix, *others]))
        for arm in wanted:
            if arm not in study.arms:
                raise ConfigError(f"{study.name} has no arm {arm}; there are {', '.join(study.arms)}")
        if missing := sorted(set(others) - set(self.judge)):
            raise ConfigError(
                f"{study.name}: others are compared with {missing[0]}; give it a line of its own in `judge`"
            )
        found = find_results(study, runs, wanted, lambda arm, error: tell(f"{arm} is left out: {error}"))
        self.arms = found.arms()
        self._planned: dict[tuple[Path, tuple[str, ...], Policy], Planned] = {}
        some = next((runs[0] for arm, runs in self.arms.items() if arm in self.matrix), None)
        for name, words in list(self.matrix.items()):
            try:
                if some is not None:
                    self._plan(some, words)
            except ConfigError as error:
                tell(f"nothing is played with {name}: {error}")
                del self.matrix[name]

    def orders(self) -> list[Planned]:
        """Each once. Seeds are the outer loop, so that what is stopped early has something of everything."""
        found = []
        for number in range(max((len(runs) for runs in self.arms.values()), default=0)):
            for arm, runs in self.arms.items():
                if number >= len(runs):
                    continue
                if arm in self.judge:
                    found += [self._plan(runs[number], words) for words in self.sets.values()]
                if arm in self.ceilings:
                    found += [self._plan(runs[number], words, "expert") for words in self.sets.values()]
                if arm in self.matrix:
                    found += [self._plan(runs[number], words) for words in self.matrix.values()]
        return list({planned.path: planned for planned in found}.values())

    def find_played(self) -> list[Played]:
        """The evaluations that there are, for `check_played`."""
        found = []
        for planned in self.orders():
            if (judged := planned.find_known()) is not None:
                words = " ".join(planned.asked.overrides) or "its own games"
                found.append(Played.of_evaluation(judged, f"{planned.run.name} in {words}"))
        return found

    def shares(self, arm: str, words: Sequence[str], policy: Policy = "behaviour") -> Shares | None:
        """The success of an arm in a set of games; None where not all its finished runs were evaluated there yet."""
        from llmrl.report.games import shares

        runs = self.arms.get(arm, [])
        judged = [found for run in runs if (found := self._plan(run, tuple(words), policy).find_known()) is not None]
        if not judged or len(judged) < len(runs):
            return None
        return Shares([int(run.config["seed"]) for run in runs], shares(judged)[1])

    def _plan(self, run: RunInfo, words: tuple[str, ...], policy: Policy = "behaviour") -> Planned:
        key = run.path, words, policy
        if key not in self._planned:
            self._planned[key] = plan(run, Asked(words, self.episodes, policy))
        return self._planned[key]

    def table(self, name: str, title: str) -> ResultTable:
        """Success in each set of games, and the difference from each arm that it is compared with."""
        return ResultTable(name, title, ["arm", "seeds", *self.sets], list(self._rows()))

    def _rows(self) -> Iterator[list[str]]:
        from llmrl.report.games import difference, mean_success

        for arm, others in self.judge.items():
            found = {name: self.shares(arm, words) for name, words in self.sets.items()}
            if all(own is None for own in found.values()):
                continue
            cells = [None if own is None else mean_success(own.share_SG) for own in found.values()]
            yield _row(arm, self.arms[arm], cells)
            for other in others:
                theirs = {name: self.shares(other, words) for name, words in self.sets.items()}
                pairs = [pair_seeds(found[name], theirs[name]) for name in self.sets]
                cells = [None if pair is None else difference(*pair) for pair in pairs]
                yield _row(f"minus {other}", [], cells, sign=True)
        for arm in self.ceilings:
            found = {name: self.shares(arm, words, "expert") for name, words in self.sets.items()}
            cells = [None if own is None else mean_success(own.share_SG) for own in found.values()]
            yield _row(f"oracle on the candidates of {arm}", self.arms.get(arm, []), cells)

    def matrix_table(self, name: str, title: str) -> ResultTable:
        """Rows learned with a model, columns are played with one."""
        return ResultTable(name, title, ["learned with, played with", *self.matrix], list(self._matrix_rows()))

    def _matrix_rows(self) -> Iterator[list[str]]:
        from llmrl.report.games import mean_success

        for arm in filter(self.arms.__contains__, self.matrix):
            found = [self.shares(arm, words) for words in self.matrix.values()]
            yield _row(arm, None, [None if own is None else mean_success(own.share_SG) for own in found])


def pair_seeds(a: Shares | None, b: Shares | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The rows of the seeds that both have, in one order; None where there are none."""
    both = sorted(set(a.seeds) & set(b.seeds)) if a is not None and b is not None else []
    if a is None or b is None or not both:
        return None
    return a.share_SG[[a.seeds.index(s) for s in both]], b.share_SG[[b.seeds.index(s) for s in both]]


def _row(name: str, runs: Sequence[RunInfo] | None, cells: Sequence[Estimate | None], sign: bool = False) -> list[str]:
    forms = ("{:+.1f}", "{:+.0f}") if sign else ("{:.1f}", "{:.0f}")
    told = ["-" if cell is None else with_interval(cell, *forms) for cell in cells]
    seeds = [] if runs is None else [str(len(runs) or "")]
    return [name, *seeds, *told]


def judge_all(judgement: Judgement, jobs: int, tell: Callable[[str], None]) -> list[tuple[Planned, Exception]]:
    """Plays what was not played yet, `jobs` evaluations at a time. Returns those that failed, with their errors."""
    start, failed = time.monotonic(), []
    orders = [order for order in judgement.orders() if order.find_known() is None]
    with served_for([order.cfg for order in orders], tell):
        for done, (order, error) in enumerate(run_all(evaluate_run, orders, jobs), 1):
            words = " ".join([*order.asked.overrides, order.asked.policy])
            said = "" if error is None else f"  {type(error).__name__}: {error}"
            tell(f"[{done}/{len(orders)}] {time.monotonic() - start:.0f} s  {order.run.name}  {words}{said}")
            if error is not None:
                failed.append((order, error))
    return failed
