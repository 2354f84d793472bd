"""Time that passes only where somebody waits, so that no test does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from llmrl.lm.http.connection import Clock


class OwnTime(Clock):
    """`on_wait` is told the time after each wait between two attempts; `expire` ends every attempt under way."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []
        self.on_wait: Callable[[float], None] = lambda _: None
        self._limits: list[tuple[asyncio.AbstractEventLoop, asyncio.Timeout, float]] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds
        self.on_wait(self.time)
        await asyncio.sleep(0)

    def limit(self, seconds: float) -> asyncio.Timeout:
        limit = asyncio.timeout(None)
        self._limits.append((asyncio.get_running_loop(), limit, seconds))
        return limit

    def expire(self) -> None:
        def end(limit: asyncio.Timeout, at: float) -> None:
            with suppress(RuntimeError):  # that attempt has ended
                limit.reschedule(at)

        limits, self._limits = self._limits, []
        self.time += max(seconds for _, _, seconds in limits)
        for loop, limit, _ in limits:
            loop.call_soon_threadsafe(end, limit, loop.time())
