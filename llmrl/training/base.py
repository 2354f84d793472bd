"""One run from its first tick to its summary: evaluations, checkpoints, resume, cost. Its subclasses learn."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from llmrl.build import Parts, build
from llmrl.core.files import read_lines
from llmrl.core.targets import Keeping
from llmrl.lm.language_model import Outage
from llmrl.report.progress import Progress, Reporter
from llmrl.run.checkpoint import checkpoint_steps, read_state, read_weights
from llmrl.run.folder import FEATURE_ROWS, FEATURE_TEXTS, METRICS, TIMING, Paused, RunFolder, RunFolderError
from llmrl.run.identity import RunIdentity
from llmrl.run.provenance import add_resumption, machine, provenance
from llmrl.run.resume import find_start
from llmrl.training.evaluator import Evaluator, evaluation_grid, evaluation_pool
from llmrl.training.fit_report import Misfit, describe_misfit
from llmrl.training.record import Since, attempt_cost, block

CURVE = 3  # evaluations that are drawn as a curve, at least


class Training(ABC):
    """Ticks until the budget is spent, with evaluations and checkpoints on the way; how it learns is a subclass's."""

    counters: tuple[str, ...]  # attributes that a checkpoint keeps

    def __init__(
        self, cfg: DictConfig, identity: RunIdentity, folder: RunFolder, reporter: Reporter, allow_drift: bool = False
    ) -> None:
        self.cfg, self.identity, self.folder, self.reporter = cfg, identity, folder, reporter
        pool = evaluation_pool(cfg)
        try:
            origin = provenance(cfg, identity, pool.provenance)
            self.conditions = {"settings": identity.settings, "machine": machine(origin)}
            start = find_start(folder, self.conditions, allow_drift)
        except BaseException:
            pool.close()
            raise
        for reason in start.passed_over:
            self.note(f"a checkpoint was passed over: {reason}")
        if start.damaged and start.checkpoint is None:
            self.note(f"no checkpoint is left to resume from: the old folder is set aside as {folder.set_aside()}")
        folder.start_at(start.step, start.logs)
        folder.write_config(cfg)
        self.parts: Parts = build(cfg, identity)
        if self.parts.answers is not None:
            self.parts.answers.tell(self.note, reporter.doing, cfg.lm.name)
        if self.parts.cache is not None and self.parts.cache.note:
            self.note(self.parts.cache.note)
        if pool.note:
            self.note(pool.note)
        self.open()
        tell = partial(reporter.doing, "episodes evaluated")
        self.evaluator = Evaluator(cfg, self.parts, pool, tell)
        self.grid = evaluation_grid(cfg.evaluation)
        self.evaluation_due = next(self.grid)
        self.env_steps = self.primitive_steps = self.episodes = self.evaluations = 0
        self.recent: deque[bool] = deque(maxlen=20)
        self.since = Since()
        self.last_row: dict[str, Any] = {}
        self.fit: dict[str, Any] = {}  # of data and prior to the world
        self.kept_states = self.kept_rows = 0  # of the feature table
        self.before = folder.cost  # of earlier attempts
        self.started = time.monotonic()
        self.evaluating = 0.0  # seconds
        lost = self.restore(start.checkpoint) if start.checkpoint else []
        if start.checkpoint:
            origin = add_resumption(folder.provenance, origin, self.at, start.drift, lost)
        folder.write_json("provenance.json", origin)

    @property
    @abstractmethod
    def at(self) -> int:
        """The run's position on its axis; `budget`: the end of the axis."""

    @property
    @abstractmethod
    def budget(self) -> int: ...

    @property
    def over(self) -> bool:
        return self.at >= self.budget

    @abstractmethod
    def open(self) -> None:
        """Opens the run's source of transitions: environments or data."""

    @abstractmethod
    def begin(self) -> None:
        """Before the first tick of an attempt."""

    @abstractmethod
    def tick(self) -> None:
        """Learns for a moment."""

    @abstractmethod
    def where(self) -> dict[str, int]:
        """The columns that name a row."""

    @abstractmethod
    def first_columns(self) -> dict[str, Any]:
        """The first columns of a row."""

    @abstractmethod
    def save_open(self) -> dict[str, Any]:
        """The position in the source of transitions."""

    @abstractmethod
    def restore_open(self, saved: Mapping[str, Any]) -> list[int]:
        """Returns the environments whose episode is lost."""

    @abstractmethod
    def close_open(self) -> None: ...

    @property
    def own_encoder(self) -> Keeping | None:
        """Somebody else's encoder that keeps a state; None for all others."""
        encoder = self.parts.table.encoder if self.parts.table is not None else None
        return encoder if isinstance(encoder, Keeping) else None

    def judge(self) -> None:
        """Says where data or prior do not fit the world. Raises Misfit where the run is strict."""
        wrong = describe_misfit(self.fit, self.cfg)
        if wrong is not None and self.cfg.strict:
            raise Misfit(
                f"{wrong}; nothing was learned, since the run is strict; leave --strict out to learn all the same"
            )
        if wrong is not None:
            self.note(wrong)

    def run(self) -> None:
        try:
            self.write_cost()  # this attempt counts, however it ends
            self.begin()
            while not self.over:
                before = self.at
                self.tick()
                finished = self.over
                if finished or self.at >= self.evaluation_due:
                    self.evaluate()
                while self.evaluation_due <= self.at:
                    self.evaluation_due = next(self.grid)
                if finished or _is_crossed(before, self.at, self.cfg.checkpoint_every):
                    self.checkpoint()
            self.write_cost()
        except BaseException as error:
            with suppress(RunFolderError):  # what ended the run is what a person is to be told
                self.write_cost()
            if isinstance(error, Outage):
                raise Paused(describe_pause(self.folder, error)) from error
            raise
        finally:
            self.close()
        self.draw()
        self.folder.finish(self.summary("complete"))  # last: nothing that fails comes after it

    def evaluate(self) -> None:
        """The behaviour policy and the greedy one, and a line of metrics."""
        start = time.monotonic()
        row = {
            **self.first_columns(),
            **self.since.metrics(),
            **self.evaluator.measure(self.at, self.evaluations),
            **self.parts.prior.lm_metrics(),
        }
        self.folder.append(METRICS, row)
        self.since, self.last_row = Since(), row
        self.evaluations += 1
        self.evaluating += time.monotonic() - start
        cost = self.cost()
        timed = {name: cost[name] for name in ("lm/tokens", "seconds", "training_seconds")}
        self.folder.append(TIMING, {**self.where(), **timed})
        self.reporter.show_evaluation(row)
        self.report()

    def checkpoint(self) -> None:
        learner = self.parts.learner
        resumable = isinstance(learner, Keeping)  # somebody else's may keep its weights alone
        is_evaluated = self.where().items() <= self.last_row.items()
        if resumable:
            self.keep_features()
        self.folder.checkpoint(
            self.at,
            self.parts.state_dict(),
            self.save() if resumable else None,
            {
                **self.conditions,
                "resumable": resumable,
                "env_steps": self.env_steps,
                "score": [self.last_row[name] for name in ("eval/success", "eval/return")] if is_evaluated else None,
            },
        )
        self.write_cost()

    def keep_features(self) -> None:
        """Each row is written once, into logs that belong to all later checkpoints."""
        table = self.parts.table
        if table is not None:
            texts = table.texts(self.kept_states)
            self.folder.append(FEATURE_TEXTS, *({"state": state, "actions": actions} for state, actions in texts))
            rows = table.features[self.kept_rows :].numpy().astype("<f4")
            self.folder.append_bytes(FEATURE_ROWS, rows.tobytes())
            self.kept_states += len(texts)
            self.kept_rows += len(rows)

    def draw(self) -> None:
        """The picture, which no result depends on: a run that cannot be drawn is as good as another.

        A start and an end are no curve, and not worth the second that drawing them takes.
        """
        if self.evaluations < CURVE:
            return
        try:
            from llmrl.report.plots import run_curve  # loads matplotlib

            run_curve(self.folder.path)
        except Exception as error:
            self.note(
                f"curve.png could not be drawn ({type(error).__name__}: {error}); "
                f"`llmrl plot {self.folder.path.name}` draws the run"
            )

    def save(self) -> dict[str, Any]:
        """All that the next tick depends on, besides weights, feature rows and kept answers."""
        return {
            "counters": {name: getattr(self, name) for name in self.counters},
            "recent": list(self.recent),
            "since": self.since.save(),
            "last_row": self.last_row,
            "fit": self.fit,
            "known_ceiling": self.evaluator.known_ceiling,
            **self.save_open(),
            "prior": self.parts.prior.save(),
            **({"encoder": self.own_encoder.save()} if self.own_encoder is not None else {}),
            "learner": self.parts.learner.save(),
        }

    def restore(self, checkpoint: Path) -> list[int]:
        """Everything as `save` had it. Returns the environments whose episode is lost, since their world differs."""
        saved = read_state(checkpoint)
        weights = read_weights(checkpoint)
        with _fitting(checkpoint):
            for name in self.counters:
                setattr(self, name, saved["counters"][name])
            self.recent.extend(saved["recent"])
            self.since.restore(saved["since"])
            self.last_row, self.evaluator.known_ceiling = saved["last_row"], saved["known_ceiling"]
            if (table := self.parts.table) is not None:
                texts = [(line["state"], line["actions"]) for line in read_lines(self.folder.path / FEATURE_TEXTS)]
                rows = np.fromfile(self.folder.path / FEATURE_ROWS, dtype="<f4").reshape(-1, table.encoder.dim)
                table.restore(texts, rows)
                self.kept_states, self.kept_rows = len(texts), len(rows)
            self.fit = saved.get("fit", {})
            self.parts.prior.restore(saved["prior"])
            if self.own_encoder is not None:
                self.own_encoder.restore(saved["encoder"])
            self.parts.load_state_dict(weights)
            self.parts.learner.restore(saved["learner"])
        while self.evaluation_due <= self.at:
            self.evaluation_due = next(self.grid)
        return self.restore_open(saved)

    def note(self, text: str) -> None:
        """For a person, now and later."""
        self.reporter.note(text)
        self.folder.log(text)

    def report(self) -> None:
        answers = self.parts.answers
        self.reporter.progress(
            Progress(
                self.at,
                self.episodes,
                float(np.mean(self.recent)) if self.recent else None,
                self.last_row.get("eval/success"),
                self.parts.prior.counts.queries,
                answers.counts.computed if answers else 0,
                answers.counts.hits if answers else 0,
                self.at / max(1e-9, self.cost()["training_seconds"]),
            )
        )

    def close(self) -> None:
        self.close_open()
        self.evaluator.pool.close()
        if self.parts.answers is not None:
            self.parts.answers.close()
        if self.parts.cache is not None:
            self.parts.cache.close()

    def cost(self) -> dict[str, Any]:
        """The cost of all attempts at this run."""
        total = time.monotonic() - self.started
        now = attempt_cost(self.parts.answers, total, total - self.evaluating)
        return {name: round(self.before.get(name, 0) + value, 3) for name, value in now.items()}

    def summary(self, status: str) -> dict[str, Any]:
        row = self.last_row
        return {
            "status": status,
            **self.where(),
            "eval": block(row, "eval/"),
            "eval_greedy": block(row, "eval_greedy/"),
            "lm": block(row, "lm/"),
            "fit": self.fit,
        }

    def write_cost(self) -> None:
        self.folder.write_json("cost.json", self.cost())
        server, origin = self.parts.answers.server() if self.parts.answers else {}, self.folder.provenance
        if server and origin.get("server") != server:
            self.folder.write_json("provenance.json", {**origin, "server": server})


def describe_pause(folder: RunFolder, outage: Outage) -> str:
    """The message when the model is out of reach."""
    steps = checkpoint_steps(folder.path)
    where = f"at its checkpoint at {steps[-1]:,} decisions" if steps else "at its beginning"
    return (
        f"{outage}. The run is paused {where}; every answer that it got is kept. Once this is fixed, the same "
        "command resumes, and ends with the same bytes as a run without a pause"
    )


@contextmanager
def _fitting(checkpoint: Path) -> Iterator[None]:
    """Explains a whole checkpoint of another shape: of a changed learner of one's own, or a foreign file."""
    try:
        yield
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{checkpoint} does not fit this run ({reason}): move it away to go on from an earlier one, or start anew "
            "with --fresh (the old folder is set aside)"
        ) from error


def _is_crossed(before: int, after: int, every: int) -> bool:
    return before // every != after // every
