"""One run, from config to summary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from llmrl.build import Parts, build, build_exact, build_pool
from llmrl.config import checked, named_settings, run_id, run_name
from llmrl.envs.pool import EnvPool
from llmrl.evaluate import Evaluation, evaluate
from llmrl.finished import announce, named, shown_if_finished, written
from llmrl.fit import Misfit, complaint, prior_fit
from llmrl.lm.language_model import Outage
from llmrl.pipeline import Pipeline
from llmrl.priors.cache import AnswerCounts
from llmrl.progress import Progress, Reporter, Silent
from llmrl.ready import refuse_unready
from llmrl.rollout import Episode, Rollout
from llmrl.run.checkpoint import checkpoint_steps, read_state, read_weights
from llmrl.run.files import read_lines
from llmrl.run.folder import EPISODES, FEATURE_ROWS, FEATURE_TEXTS, METRICS, TIMING, Paused, RunFolder, RunFolderError
from llmrl.run.provenance import machine, provenance, resumed
from llmrl.run.resume import find_start
from llmrl.schema import EvaluationConfig

EVALUATION_ENVS = 32  # at most so many evaluation episodes at once
CURVE = 3  # evaluations that are drawn as a curve, at least


def train(
    cfg: DictConfig, reporter: Reporter | None = None, *, fresh: bool = False, allow_drift: bool = False
) -> dict[str, Any]:
    """Runs `cfg` (see `llmrl.compose`) and returns its summary, and in it `folder`, where everything of the run is.

    A finished run is not run again, an unfinished one goes on from its last checkpoint. `fresh`: it is begun anew, and
    what there was is kept aside. `allow_drift`: it goes on though numbers may differ here, and is marked.

    Everything is in the run's folder when this returns, and whatever an error or Ctrl-C left of it when it does not.
    Raises ValueError for what a person can mend, LanguageModelError and WorldError for what failed, Paused where a
    model is out of reach.
    """
    cfg = checked(cfg)
    reporter = reporter or Silent()
    if not fresh and (summary := shown_if_finished(cfg, reporter)) is not None:
        return summary
    refuse_unready(cfg)
    announce(cfg, reporter)
    torch.set_num_threads(cfg.threads)
    with RunFolder.open(Path(cfg.paths.runs), run_name(cfg), run_id(cfg), fresh) as folder:
        if folder.note:
            reporter.note(folder.note)
        if not folder.finished:
            _spine(cfg)(cfg, folder, reporter, allow_drift).run()
        reporter.done(folder.summary, folder.cost, written(folder.path))
        if (wrong := complaint(folder.summary.get("fit", {}), cfg)) is not None:
            reporter.note(wrong)
        return named(folder.path)


class Training:
    """The spine: ticks until the budget is spent, with evaluations and checkpoints on their way.

    What is counted is decisions; `llmrl.offline` counts gradient steps.
    """

    counters: tuple[str, ...] = ("env_steps", "primitive_steps", "episodes", "evaluations")

    def __init__(self, cfg: DictConfig, folder: RunFolder, reporter: Reporter, allow_drift: bool = False) -> None:
        self.cfg, self.folder, self.reporter = cfg, folder, reporter
        self.evaluation_pool = build_pool(cfg, min(cfg.evaluation.episodes, EVALUATION_ENVS), cfg.rollout.workers)
        try:
            origin = provenance(cfg, self.evaluation_pool.provenance)
            self.conditions = {"settings": named_settings(cfg), "machine": machine(origin)}
            start = find_start(folder, self.conditions, allow_drift)
        except BaseException:
            self.evaluation_pool.close()
            raise
        for reason in start.passed_over:
            self.note(f"a checkpoint was passed over: {reason}")
        if start.damaged and start.checkpoint is None:
            self.note(f"nothing is left to go on from: what was there is kept aside as {folder.set_aside()}")
        folder.start_at(start.step, start.logs)
        folder.write_config(cfg)
        self.parts: Parts = build(cfg)
        if self.parts.answers is not None:
            self.parts.answers.tell(self.note, reporter.doing, cfg.lm.name)
        if self.parts.cache is not None and self.parts.cache.note:
            self.note(self.parts.cache.note)
        if self.evaluation_pool.note:
            self.note(self.evaluation_pool.note)
        self.open()
        self.exact = build_exact(cfg, self.parts.history_turns)
        self.grid = evaluation_grid(cfg.evaluation)
        self.evaluation_due = next(self.grid)
        self.env_steps = self.primitive_steps = self.episodes = self.evaluations = 0
        self.recent: deque[bool] = deque(maxlen=20)
        self.since = _Since()
        self.last_row: dict[str, Any] = {}
        self.fit: dict[str, Any] = {}  # of data and prior to the world
        self.known_ceiling: float | None = None
        self.kept_states = self.kept_rows = 0  # of the feature table
        self.before = folder.cost  # of earlier attempts
        self.started = time.monotonic()
        self.evaluating = 0.0  # seconds
        lost = self.restore(start.checkpoint) if start.checkpoint else []
        if start.checkpoint:
            origin = resumed(folder.provenance, origin, self.at, start.drift, lost)
        folder.write_json("provenance.json", origin)

    @property
    def at(self) -> int:
        """How far the run is; `budget`: how far it goes."""
        return self.env_steps

    @property
    def budget(self) -> int:
        return self.cfg.env_steps

    @property
    def own_encoder(self) -> Any:
        """Somebody else's encoder that keeps a state; None for all others."""
        encoder = self.parts.table.encoder if self.parts.table is not None else None
        return encoder if hasattr(encoder, "save") else None

    @property
    def over(self) -> bool:
        return self.at >= self.budget or self._enough(self.episodes)

    def _enough(self, episodes: int) -> bool:
        return self.cfg.data is None and self.cfg.episodes is not None and episodes >= self.cfg.episodes

    def open(self) -> None:
        """What it learns from."""
        cfg = self.cfg
        self.pool: EnvPool = build_pool(cfg, cfg.rollout.num_envs, cfg.rollout.workers)
        kind = Pipeline if cfg.rollout.pipeline else Rollout
        prior, turns = self.parts.prior, self.parts.history_turns
        self.rollout = kind(self.pool, prior, cfg.seed, "train", history_turns=turns, trust=prior.trust)

    def begin(self) -> None:
        """Before the first tick of an attempt."""
        if not self.last_row:
            self.rollout.start()
            self.evaluate()
            self.fit = prior_fit(self.parts.prior, self.exact)
        self.judge()

    def judge(self) -> None:
        """Says where data or prior do not fit the world. Raises Misfit where the run is strict."""
        wrong = complaint(self.fit, self.cfg)
        if wrong is not None and self.cfg.strict:
            raise Misfit(f"{wrong}; nothing was learned, since the run is strict: without --strict it goes on")
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
                if finished or _crossed(before, self.at, self.cfg.checkpoint_every):
                    self.checkpoint()
            self.write_cost()
        except BaseException as error:
            with suppress(RunFolderError):  # what ended the run is what a person is to be told
                self.write_cost()
            if isinstance(error, Outage):
                raise Paused(self.paused(error)) from error
            raise
        finally:
            self.close()
        self.draw()
        self.folder.finish(self.summary("complete"))  # last: nothing that fails comes after it

    def tick(self) -> None:
        left = self.cfg.env_steps - self.env_steps
        tick = self.rollout.tick(self.parts.learner.act, self.rollout.due(left))
        is_last = tick.decisions == left or self._enough(self.episodes + len(tick.episodes))
        transitions = tick.transitions + (self.rollout.rest() if is_last else [])
        self.parts.learner.observe(transitions)
        metrics = self.parts.learner.update()
        self.env_steps += tick.decisions
        self.primitive_steps += tick.primitive_steps
        for episode in tick.episodes:
            self.episodes += 1
            self.recent.append(episode.success)
            self.folder.append(EPISODES, {"env_steps": self.env_steps, **episode_row(episode)})
        self.since.add(tick.episodes, tick.covered, tick.with_expert, metrics)
        self.report()

    def evaluate(self) -> None:
        """The behaviour policy and the greedy one, and a line of metrics."""
        start = time.monotonic()
        blocks: dict[str, float] = {}
        for prefix, greedy in (("eval", False), ("eval_greedy", True)):
            found = self.exact.evaluate(self.parts.prior, self.parts.learner, greedy) if self.exact else None
            blocks |= (found or self.sample(greedy)).metrics(prefix)
        blocks |= self.ceiling()
        row = {
            **self.counted(),
            **self.since.metrics(),
            **blocks,
            **self.parts.prior.lm_metrics(),
        }
        self.folder.append(METRICS, row)
        self.since, self.last_row = _Since(), row
        self.evaluations += 1
        self.evaluating += time.monotonic() - start
        cost = self.cost()
        timed = {name: cost[name] for name in ("lm/tokens", "seconds", "training_seconds")}
        self.folder.append(TIMING, {**self.where(), **timed})
        self.reporter.evaluated(row)
        self.report()

    def where(self) -> dict[str, int]:
        """What names a row."""
        return {"env_steps": self.env_steps}

    def counted(self) -> dict[str, int]:
        return {**self.where(), "primitive_steps": self.primitive_steps, "episodes": self.episodes}

    def ceiling(self) -> dict[str, float]:
        """`prior/ceiling`, computed once where no learning changes it."""
        if self.exact is not None and (self.known_ceiling is None or self.parts.prior.trust is not None):
            self.known_ceiling = self.exact.ceiling(self.parts.prior)
        return {} if self.known_ceiling is None else {"prior/ceiling": self.known_ceiling}

    def sample(self, greedy: bool) -> Evaluation:
        """Whole episodes; of the greedy policy one per task, where it does the same each time."""
        cfg = self.cfg
        repeats_itself = self.evaluation_pool.deterministic and self.parts.prior.frozen_in_evaluation
        one_each = repeats_itself and self.parts.learner.greedy_is_deterministic
        return evaluate(
            self.evaluation_pool,
            self.parts.prior,
            self.parts.learner,
            seed=cfg.seed,
            step=self.at,
            episodes=max(1, len(self.evaluation_pool.task_ids)) if greedy and one_each else cfg.evaluation.episodes,
            greedy=greedy,
            history_turns=self.parts.history_turns,
            first_task=self.evaluations * cfg.evaluation.episodes,
            told=lambda done, total: self.reporter.doing("episodes evaluated", done, total),
        )

    def checkpoint(self) -> None:
        learner = self.parts.learner
        resumable = hasattr(learner, "save")  # somebody else's may keep its weights alone
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
            "known_ceiling": self.known_ceiling,
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
            self.last_row, self.known_ceiling = saved["last_row"], saved["known_ceiling"]
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

    def save_open(self) -> dict[str, Any]:
        """Where it is in what it learns from."""
        return {"rollout": self.rollout.save()}

    def restore_open(self, saved: Mapping[str, Any]) -> list[int]:
        self.note(f"{self.folder.path} goes on from its checkpoint at {self.env_steps:,} decisions")
        lost = self.rollout.restore(saved["rollout"])
        if lost:
            self.parts.learner.forget(lost)
            self.note(
                f"world {self.cfg.env.name} does not replay: the same seed, task and actions led elsewhere in "
                f"{len(lost)} of {self.pool.num_envs} environments. Their episodes begin anew, and this run will not "
                "be byte-identical to one that was never interrupted; all else goes on as it was"
            )
        return lost

    def paused(self, outage: Outage) -> str:
        """What to say when the model is out of reach."""
        steps = checkpoint_steps(self.folder.path)
        where = f"at its checkpoint at {steps[-1]:,} decisions" if steps else "at its beginning"
        return (
            f"{outage}. The run is paused {where}; every answer that it got is kept. When this is mended, the same "
            "command goes on, and ends with the same bytes as if nothing had happened"
        )

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
        self.evaluation_pool.close()
        if self.parts.answers is not None:
            self.parts.answers.close()
        if self.parts.cache is not None:
            self.parts.cache.close()

    def close_open(self) -> None:
        self.pool.close()

    def cost(self) -> dict[str, Any]:
        """Of all attempts at this run."""
        counts = self.parts.answers.counts if self.parts.answers else AnswerCounts()
        total = time.monotonic() - self.started
        now = {
            "attempts": 1,
            "lm/calls": counts.calls,
            "lm/computed": counts.computed,
            "lm/cache_hits": counts.hits,
            "lm/tokens": counts.scored_tokens,
            "lm/outages": 0,
            **(self.parts.answers.counters() if self.parts.answers else {}),
            "seconds": total,
            "training_seconds": total - self.evaluating,
        }
        return {name: round(self.before.get(name, 0) + value, 3) for name, value in now.items()}

    def summary(self, status: str) -> dict[str, Any]:
        row = self.last_row
        return {
            "status": status,
            **self.where(),
            "eval": _block(row, "eval/"),
            "eval_greedy": _block(row, "eval_greedy/"),
            "lm": _block(row, "lm/"),
            "fit": self.fit,
        }

    def write_cost(self) -> None:
        self.folder.write_json("cost.json", self.cost())
        server, origin = self.parts.answers.server() if self.parts.answers else {}, self.folder.provenance
        if server and origin.get("server") != server:
            self.folder.write_json("provenance.json", {**origin, "server": server})


def _spine(cfg: DictConfig) -> type[Training]:
    if cfg.data is None:
        return Training
    from llmrl.offline import OfflineTraining

    return OfflineTraining


class _Since:
    """What happened since the last evaluation."""

    def __init__(self) -> None:
        self.returns: list[float] = []
        self.successes: list[bool] = []
        self.covered = self.with_expert = 0
        self.values: dict[str, list[float]] = {}

    def add(self, episodes: list[Episode], covered: int, with_expert: int, metrics: Mapping[str, float]) -> None:
        self.returns += [e.ret for e in episodes]
        self.successes += [e.success for e in episodes]
        self.covered += covered
        self.with_expert += with_expert
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def save(self) -> dict[str, Any]:
        return vars(self)

    def restore(self, saved: Mapping[str, Any]) -> None:
        vars(self).update(saved)

    def metrics(self) -> dict[str, float | None]:
        return {
            "train/return": _mean(self.returns),
            "train/success": _mean(self.successes),
            "prior/coverage": self.covered / self.with_expert if self.with_expert else None,
            **{name: _mean(values) for name, values in self.values.items()},
        }


@contextmanager
def _fitting(checkpoint: Path) -> Iterator[None]:
    """What was saved is whole, but of another shape: somebody else's learner that was changed, or a foreign file."""
    try:
        yield
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{checkpoint} does not fit this run ({reason}): move it away to go on from an earlier one, or start anew "
            "with --fresh (what there is, is kept aside)"
        ) from error


def evaluation_grid(cfg: EvaluationConfig) -> Iterator[int]:
    """After how many decisions a run is evaluated, besides at its start and at its end; never decreases.

    linear: every, 2 every, 3 every, ...  log: round(every 2^(i / per_doubling)), i = 0, 1, 2, ...
    """
    for i in count():
        yield (i + 1) * cfg.every if cfg.grid == "linear" else round(cfg.every * 2 ** (i / cfg.per_doubling))


def episode_row(e: Episode) -> dict[str, Any]:
    return {
        "env": e.env,
        "episode": e.number,
        "task": e.task_id,
        "return": e.ret,
        "success": e.success,
        "length": e.decisions,
        "primitive_steps": e.primitive_steps,
    }


def _crossed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _block(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _mean(values: list[Any]) -> float | None:
    return float(np.mean(values)) if values else None
