"""Training from data alone: ticks are gradient steps, and nobody acts.

Its counter is `gradient_steps`; `env_steps` stays 0, and `transitions` says how much data it was given. All candidates
are asked for before the first step. It is evaluated by its grid and at its end, not before it has learned anything:
what the prior reaches without data is a run of learner=prior_only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.build import build_exact
from llmrl.core.candidates import Proposal
from llmrl.core.files import to_json
from llmrl.core.state import TextState
from llmrl.data.dataset import DataSet
from llmrl.data.files import read
from llmrl.data.training_set import OfflineData, Supports
from llmrl.learners.offline import OfflineLearner, steps_of
from llmrl.training.base import Training
from llmrl.training.fit_report import data_fit, prior_fit

STEPS_AT_ONCE = 50  # gradient steps of a tick: what is told of them is their mean
STATES_AT_ONCE = 512  # of which candidates are asked for at once
LISTED = 20_000  # states of a world, at most, of which it is found out whether the data are of it


class OfflineTraining(Training):
    counters = ("gradient_steps", "evaluations")

    @property
    def at(self) -> int:
        return self.gradient_steps

    @property
    def budget(self) -> int:
        return int(self.cfg.learner.gradient_steps)

    def open(self) -> None:
        """The rows that are drawn. Raises DataError for a file that is not what it should be."""
        cfg = self.cfg
        self.gradient_steps = 0
        file = Path(cfg.data.file)
        self.set = _read(file, file.stat().st_mtime_ns)
        self.rows = self.set.draw_rows(cfg.data.size, cfg.seed if cfg.data.draw is None else cfg.data.draw)
        self.learner: OfflineLearner = self.parts.learner  # type: ignore[assignment]
        if not isinstance(self.parts.learner, OfflineLearner):
            raise ValueError(
                f"learner={cfg.learner.name} cannot learn from data: "
                "it has no `study` and `step` (docs/how-to/extend.md)"
            )

    def begin(self) -> None:
        if (world := self.elsewhere()) is not None:
            self.note(world)
        states, following = self.set.states(self.rows, self.parts.history_turns)
        self.learner.study(self.offline(states, following))
        if not self.fit:
            listed = build_exact(self.cfg, 0, LISTED)
            self.fit = data_fit(self.set, self.rows, listed) if listed is not None else {}
            self.fit |= prior_fit(self.parts.prior, self.evaluator.exact)
        self.judge()

    def elsewhere(self) -> str | None:
        """A note for a person, where the data are not of the world that the run is evaluated in."""
        file, there, name = self.cfg.data.file, self.set.about.get("env"), self.cfg.env.name
        if there is None:
            return f"{file} does not say which world its transitions are of; it is evaluated in {name}"
        if there.get("name") != name:
            return f"{file} is of the world {there.get('name')}, and the run is evaluated in {name}"
        here = json.loads(to_json(self.identity.settings["env"]))
        differing = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        if not differing:
            return None
        theirs, ours = (", ".join(f"{key}={env[key]}" for key in differing if key in env) for env in (there, here))
        return f"{file} is of {name} with {theirs or 'less set'}, and the run is evaluated with {ours or 'less set'}"

    def offline(self, states: list[TextState], following: list[TextState]) -> OfflineData:
        data, rows = self.set, self.rows
        terminated = data["terminated"][rows]
        alive = [s for s, ended in zip(following, terminated.tolist(), strict=True) if not ended]
        if self.parts.prior.reads_on:  # each row's own answers, and those at its next state
            asked, before = [*states, *alive], np.arange(len(states))
            after = np.where(terminated, -1, len(states) + np.cumsum(~terminated) - 1)
        else:
            number = {s: i for i, s in enumerate(dict.fromkeys([*states, *alive]))}
            asked, before = list(number), np.array([number[s] for s in states])
            after = np.array([-1 if t else number[s] for s, t in zip(following, terminated.tolist(), strict=True)])
        proposals = self.ask(asked)
        if (table := self.parts.table) is not None:
            table.ids(asked)
        episode = data["episode"][rows]
        ends_here = terminated[-1] or data["truncated"][rows[-1]]  # or the draw was full
        return OfflineData(
            asked,
            Supports(proposals),
            before,
            data["action"][rows].astype(np.int64),
            data["reward"][rows],
            data["duration"][rows].astype(np.int64),
            after,
            np.append(np.diff(episode) != 0, True),
            data["success"][rows] == 1,
            (episode != episode[-1]) | ends_here,
        )

    def ask(self, states: list[TextState]) -> list[Proposal]:
        """The candidates of every state, in one pass; what is kept already is not asked for again."""
        found: list[Proposal] = []
        self.parts.prior.start_data()
        for at in range(0, len(states), STATES_AT_ONCE):
            self.reporter.doing("states given candidates", at, len(states))
            some = self.parts.prior.proposals(
                states[at : at + STATES_AT_ONCE], use="target", count=self.gradient_steps == 0, visits=True
            )
            assert some is not None, "a prior whose candidates change is refused with data"
            found += some
        self.reporter.doing("states given candidates", len(states), len(states))
        return found

    def tick(self) -> None:
        steps = min(STEPS_AT_ONCE - self.gradient_steps % STEPS_AT_ONCE, self.budget - self.gradient_steps)
        told: dict[str, list[float]] = {}
        for metrics in steps_of(self.learner, steps):
            for name, value in metrics.items():
                told.setdefault(name, []).append(value)
        self.gradient_steps += steps
        self.since.add([], 0, 0, {name: float(np.mean(values)) for name, values in told.items()})
        self.report()

    def where(self) -> dict[str, int]:
        return {"env_steps": 0, "gradient_steps": self.gradient_steps, "transitions": len(self.rows)}

    def first_columns(self) -> dict[str, Any]:
        covered: float | None = self.learner.data.coverage if hasattr(self.learner, "data") else None
        return {**self.where(), "data/coverage": covered}

    def save_open(self) -> dict[str, Any]:
        return {}

    def restore_open(self, saved: Mapping[str, Any]) -> list[int]:
        self.note(f"{self.folder.path} resumes from its checkpoint at {self.gradient_steps:,} gradient steps")
        return []

    def close_open(self) -> None:
        """Nothing is open: the file was read whole."""


@lru_cache(maxsize=4)
def _read(file: Path, changed: int) -> DataSet:
    """Runs of one process share what they read; `changed`: when the file was."""
    return read(file)
