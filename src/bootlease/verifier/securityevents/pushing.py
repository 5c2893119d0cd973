"""Keeps events going: from the ledger into the streams, and from pushed streams to receivers.

Specification: RFC 8935 §2 (push). One event in each request, in order; the next waits until the
receiver has taken the one before. What becomes of a request:

| answer | then |
|---|---|
| 202, or another success | the event is done |
| 400 with an ``err`` that is about the event | it is logged and done: no repetition mends it |
| anything else, a redirect among it, or none | again, later and later |

Not handled on purpose: redirects, proxies from the environment.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import httpx2

from bootlease.errors import MalformedError, TransportError
from bootlease.ports import DeliveryMethod, EventStream, StoreBusyError, StoreUnavailableError
from bootlease.token import strictjson
from bootlease.token.secevent import SECEVENT
from bootlease.verifier.loglines import log_event
from bootlease.verifier.securityevents.streams import Outgoing, Streams

LOOK: Final = 0.5
"""Seconds between two looks at the ledger where nothing woke the source."""
TIMEOUT: Final = 5.0
"""Seconds for each step of a push, and for all of it."""
MAX_ANSWER: Final = 16 * 1024
FIRST_PAUSE: Final = 0.5
MAX_PAUSE: Final = 60.0
BATCH: Final = 16
"""Events pushed before they are settled together. After a crash in between, they come again."""
IDLE: Final = 30.0
"""Seconds after which a stream is looked at though nothing arrived."""

_SOURCE: Final = ""
"""Among the tasks, the name of what makes events; the others have the names of streams."""
_OK: Final = range(200, 300)
_BAD_REQUEST: Final = 400
_OF_THE_EVENT: Final = frozenset(
    {"invalid_request", "invalid_key", "invalid_issuer", "invalid_audience"}
)
"""Error codes of RFC 8935 §2.4 that say that this event will never be taken."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver does not want an event.

    Attributes:
        code: Its error code.
    """

    code: str


class Pusher:
    """Pushes the events of one stream.

    Args:
        streams: Has the events.
        stream: The stream.
        transport: Carries requests in place of the network, for tests.
    """

    def __init__(
        self,
        streams: Streams,
        stream: EventStream,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._streams = streams
        self._stream = stream
        headers = {"accept": "application/json", "user-agent": "bootlease-verifier"}
        if stream.authorization is not None:
            headers["authorization"] = stream.authorization
        self._client = httpx2.AsyncClient(
            verify=_tls_context() if transport is None else True,
            timeout=TIMEOUT,
            trust_env=False,
            follow_redirects=False,
            headers=headers,
            transport=transport,
        )
        self._reached = True

    async def run(self) -> None:
        """Push until cancelled."""
        pause = FIRST_PAUSE
        try:
            while True:
                arrived = self._streams.arrivals(self._stream)
                try:
                    pushed = await self._batch()
                except (StoreBusyError, StoreUnavailableError) as exc:
                    log_event("events-delayed", reason=str(exc))
                    await asyncio.sleep(LOOK)
                    continue
                except TransportError as exc:
                    self._lost(str(exc))
                    # Not in step with other streams of a receiver that was down.
                    await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                    pause = min(2 * pause, MAX_PAUSE)
                    continue
                pause = FIRST_PAUSE
                if not pushed:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(IDLE):
                            await arrived.wait()
        finally:
            await self._client.aclose()

    async def _batch(self) -> int:
        """Push some events and settle them; return how many."""
        events = await self._streams.outgoing(self._stream, at_most=BATCH)
        done: list[str] = []
        try:
            for event in events:
                refused = await self._push(event)
                done.append(event.jti)
                self._found()
                if refused is not None:
                    self._streams.trouble[self._stream.id] = f"an event was refused: {refused.code}"
                    log_event(
                        "event-refused",
                        stream=self._stream.id,
                        jti=event.jti,
                        reason=refused.code,
                    )
        finally:
            await self._streams.settle(self._stream, done)
        return len(done)

    async def _push(self, event: Outgoing) -> Refused | None:
        """Push one event.

        Raises:
            TransportError: The receiver did not take it, and may another time.
        """
        body = bytearray()
        headers = {"content-type": SECEVENT}
        url = self._stream.endpoint or ""
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._client.stream(
                    "POST", url, content=event.token.encode("ascii"), headers=headers
                ) as response,
            ):
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise TransportError(f"{url} answered with too much")
        except TimeoutError as exc:
            raise TransportError(f"{url} did not answer within {TIMEOUT:g} s") from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            why = " ".join(str(exc).split())[:200] or type(exc).__name__
            raise TransportError(f"cannot reach {url}: {why}") from exc
        status = response.status_code
        if status in _OK:
            return None
        code = _error_code(bytes(body)) if status == _BAD_REQUEST else ""
        if code in _OF_THE_EVENT:
            return Refused(code)
        raise TransportError(f"{url} answered {status} {code}".rstrip())

    def _lost(self, reason: str) -> None:
        if self._reached:
            log_event("receiver-unreachable", stream=self._stream.id, reason=reason)
        self._reached = False
        self._streams.trouble[self._stream.id] = reason

    def _found(self) -> None:
        self._streams.trouble.pop(self._stream.id, None)
        if not self._reached:
            log_event("receiver-reached", stream=self._stream.id)
        self._reached = True


class Pushing:
    """Runs a ``Pusher`` for each stream that is pushed, and the source of all events.

    Args:
        streams: The streams.
        transport: Carries requests in place of the network, for tests.
    """

    def __init__(
        self, streams: Streams, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._streams = streams
        self._transport = transport
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                seen = self._streams.version
                await self._match()
                await self._streams.changed(seen, IDLE)
        finally:
            await _end(*self._tasks.values())
            self._tasks = {}

    async def _source(self) -> None:
        while True:
            try:
                while await self._streams.step():
                    pass
            except (StoreBusyError, StoreUnavailableError) as exc:
                log_event("events-delayed", reason=str(exc))
            await self._streams.woken(LOOK)

    async def _match(self) -> None:
        """Let the source run, and a pusher for each stream that is pushed, and no other."""
        for name, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[name]
        if _SOURCE not in self._tasks:
            self._tasks[_SOURCE] = _begun(_SOURCE, self._source())
        wanted = {
            stream.id: stream
            for stream in self._streams.all()
            if stream.method is DeliveryMethod.PUSH
        }
        surplus = self._tasks.keys() - wanted.keys() - {_SOURCE}
        gone = [self._tasks.pop(name) for name in surplus]
        await _end(*gone)
        for name, stream in wanted.items():
            if name not in self._tasks:
                pusher = Pusher(self._streams, stream, transport=self._transport)
                self._tasks[name] = _begun(name, pusher.run())


@asynccontextmanager
async def flowing(streams: Streams) -> AsyncIterator[None]:
    """Keep events going for as long as this is open."""
    task = asyncio.create_task(Pushing(streams).run())
    try:
        yield
    finally:
        await _end(task)


def _begun(stream: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Begin a task that is told of where it ends by a defect; it begins anew after ``IDLE``."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (defect := task.exception()) is not None:
            log_event("events-failed", stream=stream, reason=repr(defect))

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _error_code(body: bytes) -> str:
    try:
        code = strictjson.parse_object(body).get("err")
    except MalformedError:
        return ""
    return code if isinstance(code, str) else ""


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
