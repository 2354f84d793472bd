"""A server that may be away: every question is asked until it is answered, or until patience ends.

Whatever goes wrong (refused, reset, stalled, 429, 5xx, half an answer, an answer that says nothing) is counted and
asked again, with exponential backoff and jitter, under a time limit for each attempt and one for all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from llmrl.lm.language_model import LanguageModelError, Outage

T = TypeVar("T")
CONNECT_S = 10.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # of the backoff, before jitter takes a random part of it
FIRST_LIMIT = 16  # requests at once, until more or fewer turn out to be right
SHOWN = 300  # characters of a server's own words


class BadAnswer(Exception):
    """What came back is no answer: not JSON, half of it, a NaN, a log-probability that is missing."""


class _Fault(Exception):
    """One attempt failed, and another may not."""

    def __init__(self, what: str, retry_after: float = 0.0, overloaded: bool = False) -> None:
        super().__init__(what)
        self.retry_after, self.overloaded = retry_after, overloaded


class Refused(LanguageModelError):
    """The server understood and declined: asking once more would not help. `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Counts:
    """What one connection did, for cost.json."""

    requests: int = 0  # answered
    outages: int = 0  # attempts that failed, whatever the reason
    waited: float = 0.0  # seconds between attempts


class Clock:
    """Time; a test has its own."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def limit(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        """Raises TimeoutError in the block that it holds for longer."""
        return asyncio.timeout(seconds)


class Connection:
    """Asks a server over HTTP, with as many requests at once as it sustains.

    url: where its API begins, as in http://127.0.0.1:8000/v1. key_env: the name of the environment variable that holds
    its key. allow_http: without encryption beyond this machine, too. concurrency: requests at once, at most.
    attempt_s: seconds for one attempt; patience_s: for all attempts at one question.

    `opened` counts the connections that were opened: who answers a new one need not be who answered before.

    Raises ValueError for an address or a key that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        key_env: str | None = None,
        allow_http: bool = False,
        concurrency: int = 256,
        attempt_s: float = 120.0,
        patience_s: float = 600.0,
        clock: Clock | None = None,
    ) -> None:
        check_url(url, allow_http)
        self.url, self.key_env = url.rstrip("/"), key_env
        self.attempt_s, self.patience_s = attempt_s, patience_s
        self.clock = clock or Clock()
        self.counts, self.opened = Counts(), 0
        self.limiter = Limiter(concurrency)
        self._key = _key(key_env)
        self._jitter = wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(None, connect=CONNECT_S),  # an attempt's own limit is for all of it
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60.0),
            trust_env=not is_loopback(url),  # a proxy has no business between a program and its own machine
        )
        self._loop = _Loop()

    # ---- from outside the loop ---------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for `work`, which may call `ask`."""
        return self.start(work)()

    def start(self, work: Coroutine[Any, Any, T]) -> Callable[[], T]:
        """Begins `work` and returns at once; what is returned waits for it."""
        return self._loop.start(work)

    def close(self) -> None:
        if self._loop.runs:
            with suppress(Exception):  # nothing depends on it any more
                self._loop.start(self._client.aclose())()
            self._loop.stop()

    # ---- inside the loop ---------------------------------------------------------------------------------------------

    async def ask(self, path: str, body: Any, read: Callable[[Any], T]) -> T:
        """POSTs `body` (None: GETs) until `read` makes an answer of what came back. `read` may raise BadAnswer.

        `path` is below the URL; one that begins with / is the server's own. Raises Refused for what will not be
        answered however often it is asked, Outage when patience has ended.
        """
        began = self.clock.now()

        def wait(state: RetryCallState) -> float:
            assert state.outcome is not None
            fault = state.outcome.exception()
            asked = fault.retry_after if isinstance(fault, _Fault) else 0.0
            left = max(0.0, began + self.patience_s - self.clock.now())
            return min(max(asked, self._jitter(state)), left)

        retrying = AsyncRetrying(
            sleep=self._wait,
            retry=retry_if_exception_type(_Fault),
            wait=wait,
            stop=lambda state: self.clock.now() - began >= self.patience_s,
            reraise=True,
        )
        try:
            return await retrying(self._attempt, path, body, read)
        except _Fault as fault:
            raise Outage(
                f"{self.url} gave no answer in {self.clock.now() - began:,.0f} s of trying; at last: {fault}"
            ) from fault

    async def _wait(self, seconds: float) -> None:
        self.counts.waited += seconds
        await self.clock.sleep(seconds)

    async def _attempt(self, path: str, body: Any, read: Callable[[Any], T]) -> T:
        async with self.limiter as slot:
            try:
                answer = read(await self._exchange(path, body))
            except _Fault as fault:
                self.counts.outages += 1
                if fault.overloaded:
                    slot.overloaded()
                raise
            except BadAnswer as error:
                self.counts.outages += 1
                raise _Fault(f"an answer that is none ({error})") from error
            slot.succeeded()
            self.counts.requests += 1
            return answer

    async def _exchange(self, path: str, body: Any) -> Any:
        url = _root(self.url) + path if path.startswith("/") else f"{self.url}/{path}"
        try:
            async with self.clock.limit(self.attempt_s):
                response = await self._client.request(
                    "GET" if body is None else "POST", url, json=body, extensions={"trace": self._trace}
                )
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise _Fault(f"no answer in {self.attempt_s:g} s", overloaded=True) from error
        except httpx2.TransportError as error:
            raise _Fault(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
        except httpx2.HTTPError as error:  # such as an encoding that cannot be undone
            raise _Fault(f"{type(error).__name__}: {error}") from error
        status = response.status_code
        if status in (408, 425, 429) or status >= 500:
            self.opened += status >= 500  # a proxy keeps its connection while who stands behind it changes
            raise _Fault(f"HTTP {status}{self._words(response)}", _retry_after(response), status in (408, 429, 503))
        if status in (401, 403):
            self.counts.outages += 1
            raise Outage(f"{self.url} wants another key (HTTP {status}{self._words(response)}): {self._about_key()}")
        if status != 200:
            raise Refused(f"{self.url} declined (HTTP {status}{self._words(response)})", status)
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"no JSON: {error}") from error

    async def _trace(self, event: str, _: object) -> None:
        self.opened += event == "connection.connect_tcp.complete"

    def _words(self, response: httpx2.Response) -> str:
        """What the server said, in brief and without the key, which some servers repeat."""
        text = " ".join(response.text.split())
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(response.text)
            text = str(told["error"]["message"] if isinstance(told.get("error"), dict) else told["message"])
        if self._key:
            text = text.replace(self._key, f"${self.key_env}")
        return f": {text[:SHOWN]}" if text else ""

    def _about_key(self) -> str:
        if self.key_env is None:
            return "name the environment variable that holds it with lm.api_key_env=NAME"
        return f"put the right one into ${self.key_env}"


class Limiter:
    """How many requests run at once: more while all goes well, half as many when the server says that it is too much.

    The limit doubles with each round of answers until the first complaint, and grows by one a round from then on. Of
    the requests that ran together one complaint counts.
    """

    def __init__(self, most: int) -> None:
        self.most, self.limit = most, float(min(FIRST_LIMIT, most))
        self.running = self.peak = 0
        self.complaints = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._slots: deque[_Slot] = deque()

    async def __aenter__(self) -> _Slot:
        while self.running >= int(self.limit):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()  # the turn that was given is somebody else's now
                raise
        self.running += 1
        self.peak = max(self.peak, self.running)
        return _Slot(self, self.complaints)

    async def __aexit__(self, *_: object) -> None:
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
class _Slot:
    limiter: Limiter
    complaints: int  # when its request began

    def succeeded(self) -> None:
        limiter = self.limiter
        limiter.limit = min(limiter.most, limiter.limit + (1 / limiter.limit if limiter.complaints else 1))

    def overloaded(self) -> None:
        if self.complaints == self.limiter.complaints:
            self.limiter.limit = max(1.0, self.limiter.limit / 2)
            self.limiter.complaints += 1


async def together(questions: Sequence[Awaitable[T]]) -> list[T]:
    """All answers, in order; at the first error the others are dropped, and it is raised."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_url(url: str, allow_http: bool, setting: str = "lm.url") -> None:
    """Raises ValueError for an address that is none, or over which anybody could read along."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{setting}={url}: it has to be a server's address, as in {setting}=http://127.0.0.1:8000/v1")
    if parts.scheme == "http" and not allow_http and not is_loopback(url):
        raise ValueError(
            f"{setting}={url}: without encryption, prompts and keys cross the network for others to read; use https, a "
            f"tunnel to 127.0.0.1, or say lm.allow_http=true"
        )


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _root(url: str) -> str:
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _key(name: str | None) -> str:
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(f"lm.api_key_env={name}: there is no such environment variable, or it is empty: export {name}")
    return key


def _retry_after(response: httpx2.Response) -> float:
    """Seconds; a date is not read, and backoff does as well."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return 0.0


class _Loop:
    """An event loop in a thread of its own, which begins with the first work."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        return self._loop is not None

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

    def stop(self) -> None:
        if self._loop is None or self._thread is None:
            return
        loop, self._loop = self._loop, None
        asyncio.run_coroutine_threadsafe(_drop_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _drop_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
