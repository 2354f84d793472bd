"""`llmrl collect`: whole episodes into a data set, played by chosen policies.

Episode i is a function of (seed, i) alone. Its policy, its task, its reset and every choice come from its own random
streams. So neither the number of episodes at once nor stops of the command change anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from omegaconf import DictConfig, OmegaConf

from llmrl.build import Parts, build, build_pool
from llmrl.config.compose import ConfigError, check
from llmrl.core.files import to_json
from llmrl.core.seeding import draw_from, integer, stream
from llmrl.core.state import TextState
from llmrl.data.files import read, write
from llmrl.data.frames import FrameWriter
from llmrl.data.parquet import read_about
from llmrl.envs.pool import EnvPool, Outcome, Reset, Step
from llmrl.learners.learner import HasPolicy
from llmrl.lm.serve import serve_for_block, served_for
from llmrl.report.progress import Speaker
from llmrl.run.checkpoint import checkpoint_steps, read_weights
from llmrl.run.identity import identify_run
from llmrl.run.load import find_run

PATIENCE = 3000  # episodes in a row that the share of successes leaves out, before it is given up
Experts = Sequence[frozenset[str] | None]


@dataclass(frozen=True)
class Order:
    """The data set to collect."""

    out: Path
    size: int  # transitions
    mix: dict[str, float]  # who acts -> how often, relative to the others
    success: float | None  # the share of episodes that succeed, 0 to 1; None: as they come
    noise: tuple[float, float]  # each episode draws from this range how often a uniform action is taken instead


class Agent(Protocol):
    about: dict[str, Any]  # who it is
    history_turns: int

    def chances(self, states: Sequence[TextState], experts: Experts) -> list[np.ndarray]:
        """float64 [actions] per state: how likely it takes each."""
        ...


def collect(cfg: DictConfig, order: Order, runs: Path, tell: Callable[[str], None]) -> str:
    """Writes `order.out`, and returns what to say about it. Goes on where a stopped one was.

    Raises ConfigError and ValueError for what a person can mend.
    """
    if order.out.suffix != ".parquet":
        raise ConfigError(f"out={order.out}: expected a file that ends in .parquet")
    agents = {name: _agent(name, cfg, runs) for name in order.mix}
    about = _about(cfg, order, agents)
    if order.out.exists():
        there = read_about(order.out)
        if all(there.get(key) == value for key, value in _plain(about).items()):
            return f"{order.out} is there already: nothing to collect"
        raise ConfigError(f"{order.out} holds data of another command: name another out=FILE, or move it away")
    with ExitStack() as opened:
        speaker = opened.enter_context(Speaker(tell))
        to_build = [agent for agent in agents.values() if isinstance(agent, _ByParts)]
        opened.enter_context(served_for([agent.cfg for agent in to_build], speaker.note))
        for agent in to_build:
            agent.open(opened, speaker)
        order.out.parent.mkdir(parents=True, exist_ok=True)
        part = order.out.with_suffix(".part")
        writer = opened.enter_context(closing(FrameWriter(part, about)))
        pool = opened.enter_context(closing(build_pool(cfg, cfg.rollout.num_envs, cfg.rollout.workers)))
        tried = _fill(writer, _Episodes(cfg, order, agents, pool), order, speaker)
    data = read(part)
    write(order.out, type(data)(data.texts, data.menus, data.columns, {**data.about, "episodes_tried": tried}))
    part.unlink()
    return f"{order.out}: {len(data):,} transitions, {len(data.starts):,} of {tried:,} episodes"


def _fill(writer: FrameWriter, episodes: _Episodes, order: Order, speaker: Speaker) -> int:
    """Appends until there are enough; returns how many episodes were tried."""
    have = sum(rows for rows, _ in writer.kept)
    succeeded = sum(note["success"] for _, note in writer.kept)
    tried = 1 + max((note["tried"] for _, note in writer.kept), default=-1)
    left_out = 0
    if have:
        speaker.note(f"{writer.path}: resumes after {have:,} transitions")
    if have >= order.size:
        return tried
    speaker.doing("transitions", have, order.size)
    for number, rows in episodes.since(tried):
        tried = number + 1
        success = bool(rows[-1]["success"])
        if not _is_wanted(success, succeeded, len(writer.kept), order.success):
            left_out += 1
            if left_out >= PATIENCE:
                what = "succeeded" if order.success else "failed"
                raise ValueError(
                    f"success={order.success:g}: none of the last {PATIENCE:,} episodes {what} where one was wanted, "
                    f"after {have:,} transitions; choose other policies with mix=... and noise=..., or another success="
                )
            continue
        left_out = 0
        rows = _cut(rows, order.size - have)
        writer.add(rows, {"tried": number, "success": success})
        have, succeeded = have + len(rows), succeeded + success
        speaker.doing("transitions", have, order.size)
        if have == order.size:
            return tried
    raise AssertionError("episodes never end")


def _is_wanted(success: bool, succeeded: int, episodes: int, share: float | None) -> bool:
    """Whether one more such episode keeps the share within one episode of its target."""
    if share is None:
        return True
    of_kind = succeeded if success else episodes - succeeded
    return of_kind < (share if success else 1 - share) * (episodes + 1) - 1e-9


def _cut(rows: list[dict[str, Any]], left: int) -> list[dict[str, Any]]:
    """The rows there is room for. A part of an episode is one that was cut: how it would have ended, nobody knows."""
    if len(rows) <= left:
        return rows
    kept = [row | {"success": None} for row in rows[:left]]
    kept[-1] |= {"terminated": False, "truncated": True}
    return kept


class _Episodes:
    """Episodes by number, as many at once as the pool has worlds."""

    def __init__(self, cfg: DictConfig, order: Order, agents: dict[str, Agent], pool: EnvPool) -> None:
        self.seed, self.order, self.agents, self.pool = cfg.seed, order, agents, pool
        self.turns = max(agent.history_turns for agent in agents.values())
        self.shares = np.array(list(order.mix.values())).cumsum()

    def since(self, number: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        while True:
            many = range(number, number + self.pool.num_envs)
            yield from zip(many, self._play(many), strict=True)
            number = many.stop

    def _play(self, numbers: Sequence[int]) -> list[list[dict[str, Any]]]:
        streams = [stream(self.seed, "collect", n) for n in numbers]
        who = [list(self.agents)[int(draw_from(self.shares, rng.random()))] for rng in streams]
        noise = [rng.uniform(*self.order.noise) for rng in streams]
        tasks = [self._task(rng) for rng in streams]
        resets = [
            Reset(e, integer(self.seed, "collect", "reset", n), task)
            for e, (n, task) in enumerate(zip(numbers, tasks, strict=True))
        ]
        outcomes = self.pool.run(resets)
        states = [TextState.of(o.observation) for o in outcomes]
        rows: list[list[dict[str, Any]]] = [[] for _ in numbers]
        running = list(range(len(numbers)))
        while running:
            taken = self._choose(running, who, noise, states, outcomes, streams)
            steps = [Step(e, states[e].actions[a]) for e, a in zip(running, taken, strict=True)]
            for step, o in zip(steps, self.pool.run(steps), strict=True):
                e, s = step.env, states[step.env]
                task_id = str(o.info.get("task_id", ""))
                rows[e].append(_row(s, step.action, o) | {"task_id": task_id, "agent": who[e]})
                outcomes[e], states[e] = o, s.after(step.action, o.observation, self.turns)
            running = [e for e in running if not (outcomes[e].terminated or outcomes[e].truncated)]
        for e, episode in enumerate(rows):
            success = bool(outcomes[e].info.get("success", False))
            for row in episode:
                row["success"] = success
        return rows

    def _task(self, rng: np.random.Generator) -> str | None:
        tasks = self.pool.task_ids
        return tasks[int(rng.integers(len(tasks)))] if tasks else None

    def _choose(
        self,
        running: Sequence[int],
        who: Sequence[str],
        noise: Sequence[float],
        states: Sequence[TextState],
        outcomes: Sequence[Outcome],
        streams: Sequence[np.random.Generator],
    ) -> list[int]:
        taken: dict[int, int] = {}
        for name, agent in self.agents.items():
            own = [e for e in running if who[e] == name]
            experts = [outcomes[e].info.get("expert_actions") for e in own]
            for e, p_A in zip(own, agent.chances([states[e] for e in own], experts) if own else [], strict=True):
                p_A = (1 - noise[e]) * p_A + noise[e] / p_A.size
                taken[e] = int(draw_from(p_A.cumsum(), streams[e].random()))
        return [taken[e] for e in running]


# ---- who acts --------------------------------------------------------------------------------------------------------


class _Random:
    about: dict[str, Any] = {}  # noqa: RUF012
    history_turns = 0

    def chances(self, states: Sequence[TextState], experts: Experts) -> list[np.ndarray]:
        return [np.full(len(s.actions), 1 / len(s.actions)) for s in states]


class _Expert:
    """One of the actions that begin a shortest way to success, each as likely; where there is none, any."""

    about: dict[str, Any] = {}  # noqa: RUF012
    history_turns = 0

    def chances(self, states: Sequence[TextState], experts: Experts) -> list[np.ndarray]:
        out = []
        for s, known in zip(states, experts, strict=True):
            if known is None:
                raise ValueError("mix=expert: this world names no expert's actions; let the prior or a run act")
            good = np.array([action in known for action in s.actions], dtype=np.float64)
            out.append(good / good.sum() if good.any() else np.full(good.size, 1 / good.size))
        return out


class _ByParts:
    """The prior of a config alone, or the behaviour policy of a run's learner; it acts once it is open."""

    parts: Parts
    history_turns: int

    def __init__(self, cfg: DictConfig, about: dict[str, Any], weights: Path | None) -> None:
        self.cfg, self.about, self.weights = cfg, about, weights
        self.learns = weights is not None

    def open(self, opened: ExitStack, speaker: Speaker) -> None:
        """Until `opened` is closed."""
        cfg = opened.enter_context(serve_for_block(self.cfg, speaker.note))
        self.parts = parts = build(cfg)
        self.history_turns = parts.history_turns
        for part in (parts.cache, parts.answers):
            if part is not None:
                opened.callback(part.close)
        if parts.answers is not None:
            parts.answers.tell(speaker.note, speaker.doing, str(cfg.lm.name))
        if self.weights is not None:
            parts.load_state_dict(read_weights(self.weights))

    def chances(self, states: Sequence[TextState], experts: Experts) -> list[np.ndarray]:
        proposals = self.parts.prior.proposals(states, experts, "evaluation" if self.learns else "behaviour")
        found, learner = None, self.parts.learner
        if proposals is not None and not self.learns:
            found = [p.weights for p in proposals]
        elif proposals is not None and isinstance(learner, HasPolicy):
            found = learner.policy(states, proposals, greedy=False)
        if found is None:
            raise ValueError("this prior or learner has no formula for how likely it acts: draws that grow or vary")
        return found


def _agent(name: str, cfg: DictConfig, runs: Path) -> Agent:
    if name == "random":
        return _Random()
    if name == "expert":
        return _Expert()
    if name == "prior":
        if cfg.prior.source == "uniform":
            raise ConfigError(
                "mix=prior: prior=uniform comes from no model; choose one, as in prior=scored, or mix=random"
            )
        if cfg.prior.mix == "auto":
            raise ConfigError("mix=prior: prior.mix=auto is learned, and here nothing is; say a number: prior.mix=0.05")
        settings = identify_run(cfg).settings
        return _ByParts(cfg, {part: settings[part] for part in ("prior", "lm", "prompt")}, None)
    try:
        run = find_run(name, runs)
    except ValueError as error:
        raise ConfigError(f"mix={name}: it is none of expert, random and prior, and as a run: {error}") from None
    steps = checkpoint_steps(run.path)
    if not steps:
        raise ValueError(f"{run.name} has no checkpoint yet, so that it cannot act")
    own = check(OmegaConf.create({**run.config, "paths": OmegaConf.to_container(cfg.paths)}))
    about = {"run_id": run.summary["run_id"], "checkpoint": steps[-1]}
    return _ByParts(own, about, run.path / "checkpoints" / str(steps[-1]))


# ---- the file --------------------------------------------------------------------------------------------------------


def _about(cfg: DictConfig, order: Order, agents: dict[str, Agent]) -> dict[str, Any]:
    return {
        "env": identify_run(cfg).settings["env"],
        "collected": {
            "seed": cfg.seed, "size": order.size, "mix": order.mix, "success": order.success,
            "noise": list(order.noise), "agents": {name: agent.about for name, agent in agents.items()},
        },
    }  # fmt: skip


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(to_json(about)))


def _row(s: TextState, action: str, o: Outcome) -> dict[str, Any]:
    return {
        "episode": 0, "task": s.task, "observation": s.observation, "actions": list(s.actions), "action": action,
        "reward": o.reward, "duration": int(o.info.get("duration", 1)), "terminated": o.terminated,
        "truncated": o.truncated and not o.terminated, "next_observation": o.observation["observation"],
        "next_actions": list(o.observation["actions"]),
    }  # fmt: skip


def parse_order(words: Sequence[str]) -> tuple[Order, list[str]]:
    """The order, from the words typed: out=, size=, mix=, success= and noise=, and the overrides that are left. Raises
    ConfigError.
    """
    own = ("out", "size", "mix", "success", "noise")
    given = {word.partition("=")[0]: word.partition("=")[2] for word in words if word.partition("=")[0] in own}
    overrides = [word for word in words if word.partition("=")[0] not in own]
    for key in ("out", "size", "mix"):
        if not given.get(key):
            raise ConfigError(
                f"{key} is missing: llmrl collect env=overcooked_salad out=salad.parquet size=10000 "
                "mix=expert,random noise=0.3"
            )
    mix: dict[str, float] = {}
    for part in given["mix"].split(","):
        name, _, weight = part.rpartition(":") if ":" in part else (part, "", "1")
        if not name:
            raise ConfigError(f"mix={given['mix']}: it names no policy between two commas; say mix=expert,random:0.3")
        mix[name] = _number("mix", weight, part)
        if mix[name] <= 0:
            raise ConfigError(f"mix={given['mix']}: {part}: how often it acts has to be above 0")
    low, _, high = given.get("noise", "0").partition(":")
    noise = _number("noise", low, low), _number("noise", high or low, high or low)
    success = None
    if (share := given.get("success")) not in (None, "null"):
        success = _number("success", share.removesuffix("%"), share) / 100
    size = _number("size", given["size"], given["size"])
    if not (size >= 1 and size == int(size)):
        raise ConfigError(f"size={given['size']}: it must be a whole number, at least 1")
    if not 0 <= noise[0] <= noise[1] <= 1:
        raise ConfigError(f"noise={given['noise']}: expected a share, or two as in noise=0.2:0.6")
    if success is not None and not 0 <= success <= 1:
        raise ConfigError(f"success={given['success']}: expected a percentage, as in success=75")
    return Order(Path(given["out"]), int(size), mix, success, noise), overrides


def _number(key: str, text: str, shown: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{key}={shown}: {text!r} is no number")
    return number
