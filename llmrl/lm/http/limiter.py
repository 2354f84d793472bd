"""The number of requests at once: as many as the server sustains."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

FIRST_LIMIT = 16  # requests at once, until more or fewer turn out to be right


class Limiter:
    """More requests at once while all goes well, half as many when the server says that it is too much.

    The limit doubles with each round of answers until the first complaint, and grows by one a round from then on. Of
    the requests that ran together one complaint counts.
    """

    def __init__(self, most: int) -> None:
        self.most, self.limit = most, float(min(FIRST_LIMIT, most))
        self.running = self.peak = 0
        self.complaints = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def cap(self, most: int) -> None:
        """No more than `most` requests at once from now on."""
        self.most = min(self.most, most)
        self.limit = min(self.limit, self.most)

    @asynccontextmanager
    async def slot(self, again: bool = False) -> AsyncIterator[Slot]:
        """For one attempt. `again`: before those who were not asked yet, whose time has not begun."""
        slot = await self.enter(again)
        try:
            yield slot
        finally:
            self.leave()

    async def enter(self, again: bool = False) -> Slot:
        while self.running >= int(self.limit):
            turn = asyncio.get_running_loop().create_future()
            if again:
                self._waiting.appendleft(turn)
            else:
                self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()  # the turn that was given is somebody else's now
                raise
        self.running += 1
        self.peak = max(self.peak, self.running)
        return Slot(self, self.complaints)

    def leave(self) -> None:
        self.running -= 1
        self._wake()

    def _wake(self) -> None:
        free = int(self.limit) - self.running
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


@dataclass
class Slot:
    limiter: Limiter
    complaints: int  # when its request began

    def count_success(self) -> None:
        limiter = self.limiter
        limiter.limit = min(limiter.most, limiter.limit + (1 / limiter.limit if limiter.complaints else 1))

    def count_overload(self) -> None:
        if self.complaints == self.limiter.complaints:
            self.limiter.limit = max(1.0, self.limiter.limit / 2)
            self.limiter.complaints += 1
