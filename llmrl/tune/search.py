"""The search itself: trials are proposed, run, and recorded in order, whatever the number of processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from llmrl.config.compose import ConfigError
from llmrl.core.files import publish, to_json
from llmrl.launch.processes import ENDED, start_workers
from llmrl.lm.serve import served_for
from llmrl.run.folder import RunInUse, is_complete
from llmrl.run.identity import RunIdentity, identify_run
from llmrl.run.load import RunInfo
from llmrl.run.versions import git_state
from llmrl.train import train
from llmrl.training.preflight import refuse_unready
from llmrl.tune.log import Log, hold_log, rank
from llmrl.tune.plan import Plan
from llmrl.tune.screen import Screen
from llmrl.tune.space import AHEAD

CONFIRMED = "confirmed.jsonl"


def search(plan: Plan, out: Path, jobs: int = 1, screen: Screen | None = None) -> list[dict[str, Any]]:
    """Runs what is left of the search in `out` and returns its log, one row a trial (fields: docs/how-to/tune.md).

    `jobs`: runs at the same time, each in a process; it changes speed only. Where it stops early, for whatever reason,
    the same call continues. Raises ValueError for what a person can mend, and what a run raises for what failed.
    """
    screen = screen or Screen(quiet=True)
    first = [plan.compose({}, world, plan.seeds[0], out / "runs") for world in plan.tasks]
    for cfg in first:
        refuse_unready(cfg)
    with hold_log(out), screen, ExitStack() as stack:
        log = Log(out, plan)
        screen.begin(plan, out, log.rows)
        stack.enter_context(served_for(first if len(log.rows) < plan.trials else [], screen.note))
        workers = stack.enter_context(start_workers(jobs))
        runs = _Runs(workers, plan, out / "runs", screen.run_done)
        git = git_state() or {"commit": None, "dirty": None}
        under_way: deque[_Trial] = deque()
        at_once = 1 if jobs == 1 else AHEAD  # the proposals are the same: they never look at newer results
        while len(log.rows) < plan.trials:
            while len(under_way) < min(at_once, plan.trials - len(log.rows)):
                number = len(log.rows) + len(under_way)
                parameters = plan.propose(number, log.rows)
                under_way.append(runs.start(number, parameters, may_fail=number > 0))
            row = under_way.popleft().row() | git
            log.add(row)
            screen.show_trial(row, log.rows)
        screen.end(log.rows)
        return log.rows


def confirm(
    plan: Plan, rows: Sequence[Mapping[str, Any]], out: Path, top: int, seeds: Sequence[int], jobs: int = 1
) -> list[dict[str, Any]]:
    """The best `top` of `rows`, the log of the search in `out`, again with more seeds; returned and kept best first.

    The greatest of many noisy values flatters, and among equal ones the first is no better than the next. `value` is
    the mean over tasks and all seeds, the search's own among them. One that fails with a new seed is left out.
    """
    chosen, plan = rank(rows)[:top], replace(plan, seeds=list(seeds))
    wanted = [run for row in chosen for run in _make_runs(plan, row["parameters"], out / "runs")]
    to_train = [run.cfg for run in wanted if not run.find_finished()]
    with hold_log(out), served_for(to_train, print), start_workers(jobs) as workers:
        runs = _Runs(workers, plan, out / "runs", lambda: None)
        trials = [runs.start(row["number"], row["parameters"], may_fail=True) for row in chosen]
        found = []
        for row, trial in zip(chosen, trials, strict=True):
            again = trial.row()
            if again["state"] == "complete":
                made = [*row["runs"], *again["runs"]]
                value = float(np.mean([run["value"] for run in made]))
                final = float(np.mean([run["final"] for run in made]))
                found.append({**row, "value": value, "final": final, "runs": made})
        best_first = [dict(row) for row in rank(found)]
        publish(out / CONFIRMED, "".join(f"{to_json(row)}\n" for row in best_first))
        return best_first


@dataclass(frozen=True)
class _Run:
    task: str
    seed: int
    cfg: DictConfig
    identity: RunIdentity

    def find_finished(self) -> RunInfo | None:
        path = self.identity.folder(Path(self.cfg.paths.runs))
        return RunInfo(path) if is_complete(path) else None


def _make_runs(plan: Plan, parameters: dict[str, Any], root: Path) -> list[_Run]:
    """The runs of a trial. Raises ConfigError where its settings do not fit together."""
    return [
        _Run(task, seed, cfg, identify_run(cfg))
        for task in plan.tasks
        for seed in plan.seeds
        for cfg in [plan.compose(parameters, task, seed, root)]
    ]


@dataclass(frozen=True)
class _Trial:
    number: int
    parameters: dict[str, Any]
    overrides: list[str]
    runs: list[tuple[_Run, Future[None] | None]]  # no future: finished before
    refused: ConfigError | None
    may_fail: bool  # not so trial 0 of a search, which has no settings of its own

    def row(self) -> dict[str, Any]:
        """The trial's row of the log, once its runs are done.

        A config that is refused and a run that its settings break are a failed trial; where none may fail, the search
        ends.
        """
        made: list[dict[str, Any]] = []
        seconds, decisions = 0.0, 0
        error: ValueError | None = self.refused
        for run, future in self.runs:
            try:
                if future is not None:
                    future.result()
            except RunInUse:
                raise
            except BrokenProcessPool:
                raise ValueError(ENDED) from None
            except ValueError as failure:
                error = error or failure
                continue
            info = run.find_finished()
            assert info is not None
            made.append({"task": run.task, "seed": run.seed, "run": info.name, **_figures(info)})
            seconds += info.cost.get("seconds", 0.0)
            decisions += info.summary["env_steps"]
        if error is not None and not self.may_fail:
            raise error
        return {
            "number": self.number,
            "state": "complete" if error is None else "failed",
            "error": None if error is None else str(error),
            "parameters": self.parameters,
            "overrides": self.overrides,
            "value": float(np.mean([run["value"] for run in made])) if error is None else None,
            "final": float(np.mean([run["final"] for run in made])) if error is None else None,
            "runs": made,
            "decisions": decisions,
            "seconds": round(seconds, 3),
        }


class _Runs:
    """Hands runs to the workers; equal ones, of two trials that try the same, once."""

    def __init__(self, workers: Executor, plan: Plan, root: Path, done: Callable[[], None]) -> None:
        self.workers, self.plan, self.root, self.done = workers, plan, root, done
        self.given: dict[str, Future[None]] = {}

    def start(self, number: int, parameters: dict[str, Any], may_fail: bool) -> _Trial:
        overrides = self.plan.space.overrides_of(parameters)
        try:
            wanted = _make_runs(self.plan, parameters, self.root)
        except ConfigError as error:
            for _ in range(self.plan.runs):
                self.done()
            return _Trial(number, parameters, overrides, [], error, may_fail)
        futures = [(run, self._future(run)) for run in wanted]
        return _Trial(number, parameters, overrides, futures, None, may_fail)

    def _future(self, run: _Run) -> Future[None] | None:
        if run.identity.id not in self.given:
            if run.find_finished():
                self.done()
                return None
            self.given[run.identity.id] = self.workers.submit(_train, run.cfg)
        future = self.given[run.identity.id]
        future.add_done_callback(lambda _: self.done())
        return future


def _figures(run: RunInfo) -> dict[str, float]:
    """`value`: the mean height of the success curve, by the trapezoidal rule; `final`: its last point. Both 0 to 1.

    A run that learned from data is worth what it was in the end.
    """
    steps_T = np.array([row["env_steps"] for row in run.metrics], dtype=float)
    success_T = np.array([row["eval/success"] for row in run.metrics], dtype=float)
    if steps_T[-1] == 0:
        return {"value": float(success_T[-1]), "final": float(success_T[-1])}
    area = np.trapezoid(success_T, steps_T) / (steps_T[-1] - steps_T[0])
    return {"value": float(area), "final": float(success_T[-1])}


def _train(cfg: DictConfig) -> None:
    train(cfg)
