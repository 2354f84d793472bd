"""`llmrl play`: one world and one agent, a decision at a time. `llmrl.cli.play_screen` shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from omegaconf import DictConfig

from llmrl.build import build, build_env
from llmrl.config.compose import ConfigError, compose
from llmrl.core.candidates import Candidates
from llmrl.core.seeding import integer, stream
from llmrl.core.state import TextState
from llmrl.envs.pool import EnvPool, Outcome, Reset, Step
from llmrl.learners.learner import Learner
from llmrl.lm.serve import serve_for_block
from llmrl.priors.supports import Explanation
from llmrl.report.progress import Speaker
from llmrl.run.checkpoint import checkpoint_steps
from llmrl.run.load import find_run
from llmrl.training.trained_agent import changed_config, load_weights


def open_game(
    arguments: Sequence[str],
    runs: Path = Path("runs"),
    config_dir: Path | None = None,
    greedy: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Game:
    """The game of `llmrl play ARGUMENTS`: a run with its last weights, or a config with an untrained learner.

    The run is the one argument without "=". `say` is told of each wait. Raises ConfigError for settings, ValueError for
    the run and its weights.
    """
    overrides = [text for text in arguments if "=" in text or text.startswith("~")]
    names = [text for text in arguments if text not in overrides]
    if not names:
        cfg = compose(overrides, config_dir)
        return Game(cfg, f"{cfg.env.name} · {cfg.learner.name}, untrained · prior {cfg.prior.name}", greedy, say)
    if len(names) > 1:
        raise ConfigError(f"{' and '.join(names)}: one run is played at a time; a setting is written key=value")
    run = find_run(names[0], runs)
    cfg = changed_config(run, overrides, config_dir)
    steps = checkpoint_steps(run.path)
    if not steps:
        unit = "decisions" if cfg.data is None else "gradient steps"
        every = f"every {cfg.checkpoint_every:,} {unit} and at the end"
        raise ValueError(
            f"{run.name}: it has not reached its first checkpoint; one is kept {every} (checkpoint_every=N). "
            "Without a run, `llmrl play` plays an untrained agent"
        )
    unit = "decision" if cfg.data is None else "gradient step"
    game = Game(cfg, f"{run.name} · as of {unit} {steps[-1]:,}", greedy, say)
    try:
        load_weights(game.parts, run.path / "checkpoints" / str(steps[-1]))
    except BaseException:
        game.close()
        raise
    return game


@dataclass(frozen=True)
class Decision:
    """One decision as the agent sees it."""

    state: TextState
    candidates: Candidates
    explanation: Explanation
    q: np.ndarray | None  # float [candidates]; None where nothing is learned
    posterior: np.ndarray  # float [candidates], sums to 1; without Q the weights themselves
    chosen: int  # what the policy drew: an index into state.actions

    def shares(self) -> list[float]:
        """The probability that each admissible action is taken; 0 for an action that is no candidate."""
        pi = dict(zip(self.candidates.actions.tolist(), self.posterior.tolist(), strict=True))
        return [pi.get(a, 0.0) for a in range(len(self.state.actions))]


@runtime_checkable
class _HasPosterior(Protocol):
    def posterior(self, state: TextState, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]: ...


class Game:
    """One world and one agent, who never learns here."""

    def __init__(
        self, cfg: DictConfig, title: str, greedy: bool, say: Callable[[str], None] = lambda text: None
    ) -> None:
        torch.set_num_threads(cfg.threads)
        self.cfg, self.title, self.greedy = cfg, title, greedy
        self.speaker = Speaker(say)
        self._opened = ExitStack()
        with self._opened:  # closed where something fails
            self._open()
            self._opened = self._opened.pop_all()
        self.rng = stream(cfg.seed, "play")
        self.prior.start_evaluation("play")
        self.episode = -1
        self.state: TextState
        self.outcome: Outcome
        self.ret, self.decisions, self.primitive_steps = 0.0, 0, 0
        self.speaker.listen()

    def _open(self) -> None:
        cfg = self._opened.enter_context(serve_for_block(self.cfg, self.speaker.note))
        self.speaker.note(f"loading {self.title}")
        self.parts = parts = build(cfg)
        self.prior, self.answers, self.history_turns = parts.prior, parts.answers, parts.history_turns
        self.cache = parts.cache
        for part in (self.cache, self.answers):
            if part is not None:
                self._opened.callback(part.close)
        if self.answers is not None:
            self.answers.tell(self.speaker.note, self.speaker.doing, cfg.lm.name)
        self.learner: Learner = parts.learner
        self.env = env = build_env(cfg)
        self.pool = EnvPool(lambda: env, 1)
        self._opened.callback(self.pool.close)

    @property
    def over(self) -> bool:
        return self.outcome.terminated or self.outcome.truncated

    def start(self, again: bool = False) -> None:
        """The next episode, or the same one once more: its task and its world's randomness, not the agent's."""
        self.episode += not again
        tasks = self.pool.task_ids
        task = tasks[self.episode % len(tasks)] if tasks else None
        (self.outcome,) = self.pool.run([Reset(0, integer(self.cfg.seed, "reset", "play", self.episode), task)])
        self.state = TextState.of(self.outcome.observation)
        self.ret, self.decisions, self.primitive_steps = 0.0, 0, 0

    def decide(self) -> Decision:
        self.speaker.forget()
        expert = self.outcome.info.get("expert_actions")
        (candidates,) = self.prior.candidates([self.state], "evaluation", [expert])
        q, posterior = None, np.exp(candidates.log_weights)
        if isinstance(self.learner, _HasPosterior):
            q, posterior = self.learner.posterior(self.state, candidates)
        (chosen,) = self.learner.evaluate([self.state], [candidates], self.rng, self.greedy)
        explanation = self.prior.explain(self.state, "evaluation", expert)
        return Decision(self.state, candidates, explanation, q, posterior, int(chosen))

    def take(self, state: TextState, action: int) -> None:
        (self.outcome,) = self.pool.run([Step(0, state.actions[action])])
        self.state = state.after(state.actions[action], self.outcome.observation, self.history_turns)
        self.ret += self.outcome.reward
        self.decisions += 1
        self.primitive_steps += int(self.outcome.info.get("duration", 1))

    def close(self) -> None:
        self.speaker.close()
        self._opened.close()
