"""Several environments behind one call, in this process or in workers. Workers change speed only."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import gymnasium

WORKER_SECONDS = 5.0  # what a worker is given to end by itself

TextWorld = gymnasium.Env[dict[str, Any], str]


class Reset(NamedTuple):
    env: int
    seed: int
    task: str | None


class Step(NamedTuple):
    env: int
    action: str


class Outcome(NamedTuple):
    """A reset's or a step's; a reset has reward 0 and ends nothing."""

    observation: dict[str, Any]
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class WorldError(RuntimeError):
    """An environment raised. The message is what it said and where."""


class EnvPool:
    """`num_envs` copies of a world. `run` does resets and steps and answers in the order asked."""

    def __init__(self, make: Callable[[], TextWorld], num_envs: int, workers: int = 0) -> None:
        if num_envs < 1 or workers < 0:
            raise ValueError(f"num_envs={num_envs} must be at least 1 and workers={workers} at least 0")
        first = _first(make)
        self.task_ids: tuple[str, ...] = tuple(getattr(first, "task_ids", ()))
        self.deterministic: bool = bool(getattr(first, "deterministic", False))
        self.provenance: dict[str, Any] = dict(getattr(first, "provenance", {}))  # what the world is made of
        self.note = str(getattr(first, "note", ""))  # what a person should know about it
        self.num_envs = num_envs
        self._local = [first, *(make() for _ in range(num_envs - 1))] if workers == 0 else []
        self._workers: list[tuple[Connection, multiprocessing.process.BaseProcess]] = []
        if workers:
            first.close()
            context = multiprocessing.get_context("spawn")  # a forked process would share torch's threads
            for _ in range(min(workers, num_envs)):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, make), daemon=True)
                process.start()
                theirs.close()
                self._workers.append((ours, process))

    def run(self, commands: Sequence[Reset | Step]) -> list[Outcome]:
        if not self._workers:
            return [_do(self._local[c.env], c) for c in commands]
        for w, (connection, _) in enumerate(self._workers):
            with suppress(BrokenPipeError):  # that worker has ended: _receive says so
                connection.send([c for c in commands if c.env % len(self._workers) == w])
        answers = [self._receive(w) for w in range(len(self._workers))]
        queues = [iter(a) for a in answers]
        return [next(queues[c.env % len(self._workers)]) for c in commands]

    def _receive(self, w: int) -> list[Outcome]:
        connection, process = self._workers[w]
        try:
            answer = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join(WORKER_SECONDS)  # its end of the pipe is closed, so it is about to end
            who = ", ".join(map(str, range(w, self.num_envs, len(self._workers))))
            raise WorldError(
                f"the worker process of environments {who} ended without an answer (exit code {process.exitcode})"
            ) from None
        if isinstance(answer, str):
            raise WorldError(answer)
        return answer

    def close(self) -> None:
        for env in self._local:
            with suppress(Exception):  # nothing depends on it any more
                env.close()
        for connection, _ in self._workers:
            connection.close()  # the worker's receive ends, and so does it
        for _, process in self._workers:
            for insist in (lambda: None, process.terminate, process.kill):  # a step of its world may never end
                insist()
                process.join(WORKER_SECONDS)
                if process.exitcode is not None:
                    break
        self._local, self._workers = [], []


def _do(env: TextWorld, command: Reset | Step) -> Outcome:
    try:
        if isinstance(command, Reset):
            options = {} if command.task is None else {"task": command.task}
            observation, info = env.reset(seed=command.seed, options=options)
            return Outcome(observation, 0.0, False, False, info)
        observation, reward, terminated, truncated, info = env.step(command.action)
        for name, number in (("reward", reward), ("duration", info.get("duration", 1))):
            if not math.isfinite(number):
                raise ValueError(f"the {name} of {command.action!r} is {number}; it must be a finite number")
        return Outcome(observation, float(reward), terminated, truncated, info)
    except (Exception, SystemExit) as error:  # a world that calls exit() ends no run, least of all as if all were well
        raise _world_error(f"environment {command.env}", error) from error


def _serve(connection: Connection, make: Callable[[], TextWorld]) -> None:
    """A worker: answers lists of commands until the pool closes the pipe, or Ctrl-C."""
    envs: dict[int, TextWorld] = {}
    # EOFError, OSError: the pool is gone, so nobody waits for an answer.
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            commands: list[Reset | Step] = connection.recv()
            try:
                for c in commands:
                    if c.env not in envs:
                        envs[c.env] = _make_env(make, c.env)
                connection.send([_do(envs[c.env], c) for c in commands])
            except WorldError as error:
                connection.send(str(error))
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                connection.send(f"what an environment tells cannot leave its worker ({error}): use rollout.workers=0")


def _first(make: Callable[[], TextWorld]) -> TextWorld:
    try:
        return make()
    except ValueError:  # settings that the world does not take, said in its own words
        raise
    except Exception as error:
        raise _world_error("the world, when it was made,", error) from error


def _make_env(make: Callable[[], TextWorld], env: int) -> TextWorld:
    try:
        return make()
    except Exception as error:
        raise _world_error(f"environment {env}, when it was made,", error) from error


def _world_error(who: str, error: BaseException) -> WorldError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return WorldError(f"{who} raised {type(error).__name__}: {error} ({where.filename}:{where.lineno})")
