"""Worker processes for jobs that are functions: they load torch once, and do one job after another."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from llmrl.core.processes import end_with_parent

Job = TypeVar("Job")
ENDED = "a process ended by itself (was there enough memory?); the same command continues, with fewer --jobs if need be"


@contextmanager
def start_workers(jobs: int) -> Iterator[Executor]:
    """`jobs` processes; with one, this process. When the block is left by an error, they are ended amid their jobs."""
    if jobs == 1:
        yield _Here()
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepare)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    pool.shutdown()


def run_all(
    function: Callable[[Job], Any], jobs: Iterable[Job], at_once: int
) -> Iterator[tuple[Job, Exception | None]]:
    """Calls `function` with each job. Yields each when it is done, with the error that it raised.

    Jobs begin in their order, and one that fails stops no other. Raises ValueError where a process ended by itself.
    """
    with start_workers(at_once) as workers:
        if isinstance(workers, _Here):
            yield from ((job, workers.submit(function, job).exception()) for job in jobs)  # type: ignore[misc]
            return
        waiting = {workers.submit(function, job): job for job in jobs}
        for future in as_completed(waiting):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                raise ValueError(ENDED)
            if error is not None and not isinstance(error, Exception):
                raise error
            yield waiting[future], error


class _Here(Executor):
    """This process, one job after another."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _prepare() -> None:
    """Ctrl-C reaches all processes of a terminal, and is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
