"""Connections that can be told apart, so that it can be said who answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext

import httpx2

IDLE_S = 60.0  # for which a connection is kept


@dataclass
class Lane:
    """One connection at a time, for one request at a time: who answered on it answers on it again while it lasts."""

    client: httpx2.AsyncClient
    stream: object = None  # of the connection that the last answer came on
    vouched: tuple[object, int] | None = None  # the connection, and the epoch, whose answerer is known
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Lanes:
    """Connections to a server, as many as are in use at once.

    key: shown with each request. connect_s: seconds to open one.
    """

    def __init__(self, key: str, connect_s: float, trust_env: bool) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = httpx2.Timeout(None, connect=connect_s)  # an attempt's own limit is for all of it
        self._trust_env = trust_env
        self._tls: SSLContext | None = None  # takes long to make, and is the same for all
        self._all: list[Lane] = []
        self._idle: list[Lane] = []

    @contextmanager
    def one(self) -> Iterator[Lane]:
        """One that nobody else has meanwhile; the one used last, so that few stay open."""
        lane = self._idle.pop() if self._idle else self._new()
        try:
            yield lane
        finally:
            self._idle.append(lane)

    async def close(self) -> None:
        for lane in self._all:
            with suppress(Exception):  # nothing depends on it any more
                await lane.client.aclose()

    def _new(self) -> Lane:
        self._tls = self._tls or httpx2.create_ssl_context()
        lane = Lane(
            httpx2.AsyncClient(
                headers=self._headers,
                timeout=self._timeout,
                limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S),
                trust_env=self._trust_env,
                verify=self._tls,
            )
        )
        self._all.append(lane)
        return lane
