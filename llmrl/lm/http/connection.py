"""A server that may be away: every question is asked until it is answered, or until patience ends.

Whatever goes wrong for a while (refused, reset, stalled, 429, 5xx, half an answer, an answer that says nothing) is
counted and asked again, with exponential backoff and jitter, under a time limit for each attempt and one for all of
them. What asking again cannot mend ends it at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from llmrl.lm.http.address import check_url, is_loopback, read_key, root
from llmrl.lm.http.complaint import Complaint, complaint_of, complaint_within
from llmrl.lm.http.lanes import Lane, Lanes
from llmrl.lm.http.limiter import Limiter
from llmrl.lm.http.loop import Loop
from llmrl.lm.language_model import LanguageModelError, Outage, WrongSetting

T = TypeVar("T")
CONNECT_S = 10.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # of the backoff, before jitter takes a random part of it
SAYS_EVERY_S = 30.0
NEVER_HEARD_S = 2.0  # after which a server that never answered is told of
SILENT_S = 10.0  # after which one is told of that did: many an answer takes longer than a moment
SHOWN = 300  # characters of a server's own words

ended: dict[str, Callable[[], str | None]] = {}  # address of a server that we started -> how it ended, if it has


class BadAnswer(Exception):
    """An answer that cannot be read: not JSON, half of it, a NaN, a log-probability that is missing."""


class TooLong(Exception):
    """An attempt at a question that may be asked in parts ran out of time."""


class _Fault(Exception):
    """One attempt failed, and another may not."""

    def __init__(
        self, what: str, retry_after: float = 0.0, overloaded: bool = False, too_long: bool = False, bad: bool = False
    ) -> None:
        super().__init__(what)
        self.retry_after, self.overloaded, self.too_long, self.bad = retry_after, overloaded, too_long, bad


class _NotFound(_Fault):
    """A path that the server answered before, and no longer has."""


class Refused(LanguageModelError):
    """The server understood and declined: asking once more would not help. `status` is HTTP's.

    mend: what a person may set instead.
    """

    def __init__(self, message: str, status: int, complaint: Complaint | None = None, mend: str | None = None) -> None:
        super().__init__(f"{message}: {mend}" if mend else message)
        self.status, self.complaint = status, complaint or Complaint()
        self.exit_code = WrongSetting.exit_code if mend else 1


@dataclass
class Counts:
    """The counts of one connection, for cost.json."""

    requests: int = 0  # answered
    outages: int = 0  # attempts that failed, whatever the reason
    waited: float = 0.0  # seconds between attempts


@dataclass
class Patience:
    """The attempts so far at one question; its parts share it."""

    began: float | None = None  # the first attempt that failed
    faults: int = 0
    bad: int = 0  # of them, answers that were none


class Clock:
    """Time; a test has its own."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def format_time(self, moment: float) -> str:
        """A moment of `now` as a person's clock shows it."""
        return time.strftime("%H:%M:%S", time.localtime(time.time() + moment - time.monotonic()))

    def limit(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        """Raises TimeoutError in the block that it holds for longer."""
        return asyncio.timeout(seconds)


class Guard(Protocol):
    """Checks that the server that answers is the right one."""

    async def vouch(self) -> None:
        """Asks the server which model answers. Raises Outage where it is another one."""
        ...

    async def report_missing(self) -> None:
        """Reports a path that is not found any more. Raises Outage where the server has another model instead."""
        ...


class _Pin(NamedTuple):
    """All that is asked goes along one lane. within: an attempt that holds it already."""

    lane: Lane
    within: bool


class Connection:
    """Asks a server over HTTP, with as many requests at once as it sustains.

    url: where its API begins, as in http://127.0.0.1:8000/v1. key_env: the name of the environment variable that holds
    its key. allow_http: without encryption beyond this machine, too. concurrency: requests at once, at most.
    attempt_s: seconds for one attempt; patience_s: for all attempts at one question, from the first that failed.
    hint: what to do where no server answers.

    Once `guard` is set, no answer is handed over before it has vouched for who answers on that very connection, since
    who answers a new one need not be who answered before. `opened` counts them. `say` is told of what is waited for.

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
        hint: str = "",
        clock: Clock | None = None,
    ) -> None:
        check_url(url, allow_http)
        self.url, self.key_env, self.hint = url.rstrip("/"), key_env, hint
        self.attempt_s, self.patience_s = attempt_s, patience_s
        self.clock = clock or Clock()
        self.counts, self.opened = Counts(), 0
        self.limiter = Limiter(concurrency)
        self.guard: Guard | None = None
        self.say: Callable[[str], None] = lambda _: None
        self._said_at = -SAYS_EVERY_S
        self._heard_at: float | None = None  # when an answer came last, to whatever question
        self._key = read_key(key_env)
        self._jitter = wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)
        self._pin: ContextVar[_Pin | None] = ContextVar("pin", default=None)
        # A proxy has no business between a program and its own machine.
        self.lanes = Lanes(self._key, CONNECT_S, trust_env=not is_loopback(url))
        self._epoch = 0  # a new one begins when who is behind a connection may have changed
        self._answered: set[str] = set()  # the paths that there are
        self._loop = Loop()

    # ---- from outside the loop ---------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for `work`, which may call `ask`."""
        return self.start(work)()

    def start(self, work: Coroutine[Any, Any, T]) -> Callable[[], T]:
        """Begins `work` and returns at once; what is returned waits for it."""
        return self._loop.start(work)

    def close(self) -> None:
        self._loop.stop(self.lanes.close)

    # ---- inside the loop ---------------------------------------------------------------------------------------------

    async def ask(
        self,
        path: str,
        body: Any,
        read: Callable[[Any], T],
        *,
        patience: Patience | None = None,
        optional: bool = False,
        divisible: bool = False,
    ) -> T:
        """POSTs `body` (None: GETs) until `read` makes an answer of what came back. `read` may raise BadAnswer.

        `path` is below the URL; one that begins with / is the server's own. optional: what does not even claim to be
        JSON is no answer of this API. divisible: TooLong is raised where an attempt takes too long. Raises Refused for
        what will not be answered however often it is asked, Outage when patience has ended.
        """
        patience = patience or Patience()
        pin = self._pin.get()
        if pin is not None and pin.within:  # the attempt that this is a part of is what may be repeated
            return await self._attempt_on(pin.lane, path, body, read, optional)

        retrying = AsyncRetrying(
            sleep=self._wait,
            retry=retry_if_exception(lambda e: isinstance(e, _Fault) and not (divisible and e.too_long)),
            wait=lambda state: self._next_wait(state, patience),
            stop=lambda _: self._seconds_left(patience) <= 0,
            reraise=True,
        )
        try:
            return await retrying(self._attempt, path, body, read, patience, optional)
        except _Fault as fault:
            if self._seconds_left(patience) <= 0:
                raise self._outage(patience, fault) from fault
            raise TooLong from fault

    @contextmanager
    def stay_on_lane(self, lane: Lane, within: bool = False) -> Iterator[None]:
        """All that is asked in this block goes along one lane."""
        before = self._pin.set(_Pin(lane, within))
        try:
            yield
        finally:
            self._pin.reset(before)

    def trust(self, lane: Lane) -> None:
        """Trusts the server that answers on this lane now."""
        lane.vouched = (lane.stream, self._epoch)

    async def _attempt(self, path: str, body: Any, read: Callable[[Any], T], patience: Patience, optional: bool) -> T:
        async with self.limiter.slot(again=patience.began is not None) as slot:
            began = self.clock.now()
            try:
                pin = self._pin.get()
                if pin is not None:
                    answer = await self._attempt_on(pin.lane, path, body, read, optional)
                else:
                    with self.lanes.one() as lane:
                        answer = await self._attempt_on(lane, path, body, read, optional)
                        await self._vouch(lane)
            except _Fault as fault:
                patience.began = began if patience.began is None else patience.began
                patience.faults += 1
                patience.bad += fault.bad
                if fault.overloaded:
                    slot.count_overload()
                raise
            slot.count_success()
            return answer

    async def _vouch(self, lane: Lane) -> None:
        """Checks the server that answered last on this lane, by questions on the same connection."""
        stream, epoch = lane.stream, self._epoch
        if self.guard is None or lane.vouched == (stream, epoch):
            return
        with self.stay_on_lane(lane, within=True):
            await self.guard.vouch()
        if lane.stream is not stream:
            self.counts.outages += 1
            raise _Fault("the connection was closed before its server could be checked")
        lane.vouched = (stream, epoch)

    async def _attempt_on(self, lane: Lane, path: str, body: Any, read: Callable[[Any], T], optional: bool) -> T:
        """One attempt, on one lane."""
        async with lane.lock:
            try:
                answer = read(await self._exchange(lane, path, body, optional))
            except _NotFound as error:
                missed = error
            except _Fault:
                self.counts.outages += 1
                raise
            except BadAnswer as error:
                self.counts.outages += 1
                raise _Fault(f"an answer that is none ({error})", bad=True) from error
            else:
                self.counts.requests += 1
                self._answered.add(path)
                return answer
        self.counts.outages += 1
        with self.stay_on_lane(lane, within=True), suppress(_Fault, Refused):
            await self.guard.report_missing()  # type: ignore[union-attr]
        raise missed

    async def _exchange(self, lane: Lane, path: str, body: Any, optional: bool) -> Any:
        url = root(self.url) + path if path.startswith("/") else f"{self.url}/{path}"
        try:
            async with self.clock.limit(self.attempt_s):
                with self._speaking_up(self.clock.now()):
                    response = await lane.client.request("GET" if body is None else "POST", url, json=body)
            self._heard_at = self.clock.now()
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise _Fault(f"no answer in lm.attempt_s={self.attempt_s:g} s", overloaded=True, too_long=True) from error
        except httpx2.LocalProtocolError as error:  # whose words are what was to be sent, such as a key
            raise _Fault(type(error).__name__) from None
        except httpx2.HTTPError as error:
            raise _Fault(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
        if (stream := response.extensions.get("network_stream")) is not lane.stream:
            lane.stream = stream
            self.opened += 1
        if response.status_code != 200:
            raise self._make_error(response.status_code, complaint_of(response.text), path, optional, response)
        try:
            raw = response.json()
        except (ValueError, RecursionError) as error:
            if optional and "json" not in response.headers.get("content-type", ""):
                raise Refused(f"{self.url} has no {path}", 200) from None
            raise BadAnswer(f"no JSON: {error}") from error
        if (within := complaint_within(raw)) is not None:
            status, complaint = within
            raise self._make_error(status or 200, complaint, path, optional, response)
        return raw

    def _make_error(
        self, status: int, complaint: Complaint, path: str, optional: bool, response: httpx2.Response
    ) -> LanguageModelError | _Fault:
        """The exception for an error of the server.

        It is an Outage where the same command works once the fault is mended.
        """
        said = f"HTTP {status}{self._quote(complaint.words)}"
        if status == 402 or complaint.unpaid:
            self.counts.outages += 1
            return Outage(f"{self.url} wants to be paid first ({said})")
        if status in (501, 505):
            return Refused(f"{self.url} cannot do this ({said})", status, complaint)
        if status in (408, 425, 429) or status >= 500:
            self._epoch += status >= 500  # a proxy keeps its connection while who stands behind it changes
            return _Fault(said, _retry_after(response), status in (408, 429, 503))
        if status in (401, 403) and not (optional or complaint.filtered):
            self.counts.outages += 1
            return Outage(f"{self.url} wants another key ({said}): {self._about_key()}")
        if status == 404 and self.guard is not None and path in self._answered and path != "models":
            self._epoch += 1
            return _NotFound(said, _retry_after(response))
        return Refused(f"{self.url} declined ({said})", status, complaint, complaint.mend(status, path))

    # ---- patience ----------------------------------------------------------------------------------------------------

    def _seconds_left(self, patience: Patience) -> float:
        return self.patience_s if patience.began is None else patience.began + self.patience_s - self.clock.now()

    def _next_wait(self, state: RetryCallState, patience: Patience) -> float:
        assert state.outcome is not None
        fault = state.outcome.exception()
        assert isinstance(fault, _Fault)
        if (how := ended.get(self.url, lambda: None)()) is not None:
            raise Outage(how)
        if fault.retry_after > self.patience_s:
            raise Outage(
                f"{self.url} asks not to be asked for {fault.retry_after:,.0f} s, and lm.patience_s is "
                f"{self.patience_s:,.0f}: {fault}"
            )
        now, left = self.clock.now(), max(0.0, self._seconds_left(patience))
        if now - self._said_at >= SAYS_EVERY_S:
            self._said_at = now
            hint = f". {self.hint}" if self.hint and self.guard is None else ""
            self.say(
                f"waiting for {self.url}: {fault}; {self.patience_s - left:,.0f} s of {self.patience_s:,.0f} s{hint}"
            )
        return min(max(fault.retry_after, self._jitter(state)), left)

    @contextmanager
    def _speaking_up(self, began: float) -> Iterator[None]:
        """While a question waits, `speak_up` is called again and again."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def again() -> None:
            self.speak_up(began)
            later()

        def later() -> None:
            nonlocal timer
            timer = loop.call_later(NEVER_HEARD_S, again)

        later()
        try:
            yield
        finally:
            timer.cancel()

    def speak_up(self, began: float) -> None:
        """Says that a question which was sent at `began` waits, where no other is answered either."""
        now = self.clock.now()
        since = began if self._heard_at is None else max(began, self._heard_at)
        silent = NEVER_HEARD_S if self._heard_at is None else SILENT_S
        if now - since >= silent and now - self._said_at >= SAYS_EVERY_S:
            self._said_at = now
            self.say(
                f"waiting for {self.url}: it has said nothing since {self.clock.format_time(since)}, for "
                f"{now - since:,.0f} s; this attempt ends at {self.clock.format_time(began + self.attempt_s)} "
                f"(lm.attempt_s), the last at {self.clock.format_time(began + self.patience_s)} (lm.patience_s)"
            )

    async def _wait(self, seconds: float) -> None:
        began = self.clock.now()
        try:
            await self.clock.sleep(seconds)
        finally:
            self.counts.waited += self.clock.now() - began

    def _outage(self, patience: Patience, fault: _Fault) -> Outage:
        tried = f"{self.patience_s - self._seconds_left(patience):,.0f} s of trying"
        if patience.bad == patience.faults:
            return Outage(f"{self.url} answered {patience.faults} times in {tried}, and never as asked: {fault}")
        hint = f". {self.hint}" if self.hint and self.guard is None else ""
        return Outage(f"{self.url} gave no answer in {tried}; at last: {fault}{hint}")

    def _quote(self, words: str) -> str:
        """The server's words, in brief and without the key, which some servers repeat."""
        if self._key:
            words = words.replace(self._key, f"${self.key_env}")
        return f": {words[:SHOWN]}" if words else ""

    def _about_key(self) -> str:
        if self.key_env is None:
            return "name the environment variable that holds it with lm.api_key_env=NAME"
        return f"put the right one into ${self.key_env}"


def _retry_after(response: httpx2.Response) -> float:
    """Seconds; a date is not read, and backoff does as well."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return 0.0
