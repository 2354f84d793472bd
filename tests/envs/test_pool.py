from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial

import numpy as np
import pytest
import worlds

from llmrl.envs.kitchen.env import overcooked_tomato
from llmrl.envs.pool import EnvPool, Outcome, Reset, Step, WorldError


def children() -> set[int]:
    return {process.pid or 0 for process in multiprocessing.active_children()}


def played(pool: EnvPool, ticks: int = 30) -> list[Outcome]:
    """A few hundred outcomes with resets among them, by actions that are a function of what was seen."""
    rng = np.random.default_rng(0)
    tasks = pool.task_ids
    now = pool.run([Reset(e, e, tasks[e % len(tasks)]) for e in range(pool.num_envs)])
    seen = list(now)
    for tick in range(ticks):
        order = rng.permutation(pool.num_envs).tolist()[: 1 + tick % pool.num_envs]
        commands = [
            Reset(e, 100 + tick, None)
            if now[e].terminated or now[e].truncated
            else Step(e, str(rng.choice(now[e].observation["actions"])))
            for e in order
        ]
        for e, outcome in zip(order, pool.run(commands), strict=True):
            now[e] = outcome
            seen.append(outcome)
    return seen


@pytest.mark.parametrize("make", [worlds.Corridor, partial(overcooked_tomato, max_decisions=5)])
def test_workers_change_nothing_and_leave_nothing_behind(make) -> None:
    before = children()
    here, one, three = EnvPool(make, 4), EnvPool(make, 4, workers=1), EnvPool(make, 4, workers=3)
    assert len(children() - before) == 4
    expected = played(here)
    assert any(o.terminated or o.truncated for o in expected)
    assert played(one) == expected
    assert played(three) == expected
    for pool in (here, one, three):
        assert (pool.task_ids, pool.deterministic) == (here.task_ids, here.deterministic)
        pool.close()
        pool.close()  # again is harmless
    assert children() == before


def test_no_more_workers_than_environments() -> None:
    before = children()
    pool = EnvPool(worlds.Corridor, 2, workers=5)
    assert len(children() - before) == 2
    pool.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_world_that_raises_is_named_with_what_it_said_and_where(workers: int) -> None:
    before = children()
    pool = EnvPool(worlds.Fragile, 3, workers)
    pool.run([Reset(e, 0, None) for e in range(3)])
    with pytest.raises(
        WorldError, match=r"environment 2 raised ZeroDivisionError: the world has no west .*worlds\.py:"
    ):
        pool.run([Step(0, "go east"), Step(1, "go east"), Step(2, "go west")])
    pool.close()
    assert children() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_an_action_or_a_task_that_is_not_there_is_a_world_error(workers: int) -> None:
    pool = EnvPool(worlds.Corridor, 1, workers)
    with pytest.raises(WorldError, match="environment 0 raised ValueError: unknown task 'fly'"):
        pool.run([Reset(0, 0, "fly")])
    pool.run([Reset(0, 0, None)])
    with pytest.raises(WorldError, match="InadmissibleAction: 'fly' is not admissible"):
        pool.run([Step(0, "fly")])
    pool.close()


def test_a_world_that_a_worker_cannot_make_says_why() -> None:
    pool = EnvPool(partial(worlds.Unmakeable, only_in=os.getpid()), 1, workers=1)
    with pytest.raises(WorldError, match="environment 0, when it was made, raised OSError: no such map"):
        pool.run([Reset(0, 0, None)])
    pool.close()


def test_a_worker_that_dies_is_an_error_whenever_it_is_noticed() -> None:
    pool = EnvPool(worlds.Deadly, 1, workers=1)
    pool.run([Reset(0, 0, None)])
    for _ in range(2):  # while it is waited for, and before it is asked
        with pytest.raises(WorldError, match="ended without an answer"):
            pool.run([Step(0, "go east")])
    pool.close()


def test_a_worker_whose_step_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.envs.pool.WORKER_SECONDS", 0.01)
    pool = EnvPool(worlds.Endless, 1, workers=1)
    pool.run([Reset(0, 0, None)])
    ((connection, process),) = pool._workers
    connection.send([Step(0, "go east")])  # as one that Ctrl-C interrupts has done
    pool.close()
    assert process.exitcode in (-signal.SIGTERM, -signal.SIGKILL)


def test_workers_end_quietly_with_ctrl_c(capfd: pytest.CaptureFixture[str]) -> None:
    pool = EnvPool(worlds.Corridor, 1, workers=1)
    pool.run([Reset(0, 0, None)])
    (_, process) = pool._workers[0]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 0
    pool.close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_pool_needs_an_environment() -> None:
    with pytest.raises(ValueError, match="num_envs=0 must be at least 1"):
        EnvPool(worlds.Corridor, 0)
    with pytest.raises(ValueError, match="workers=-1 at least 0"):
        EnvPool(worlds.Corridor, 1, workers=-1)
