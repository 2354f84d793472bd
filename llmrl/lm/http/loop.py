"""Asynchronous work for callers that are not: it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own, which begins with the first work."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> Callable[[], T]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="llmrl-server", daemon=True)
            self._thread.start()
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)

        def result() -> T:
            try:
                return future.result()
            except BaseException:  # Ctrl-C among them: nobody waits for it any more
                future.cancel()
                raise

        return result

    def stop(self, last: Callable[[], Awaitable[None]]) -> None:
        """`last` is awaited when all other work was dropped: it may take away what that work needs."""
        if self._loop is None or self._thread is None:
            return
        loop, self._loop = self._loop, None
        asyncio.run_coroutine_threadsafe(_end(last), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _end(last: Callable[[], Awaitable[None]]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await last()


async def together(questions: Sequence[Awaitable[T]]) -> list[T]:
    """All answers, in order; at the first error the others are dropped, and it is raised."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
