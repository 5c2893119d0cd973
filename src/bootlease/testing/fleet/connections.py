"""Kept-alive HTTP/1.1 connections of many clients, at the price of two system calls a request.

Specification: RFC 9112 as far as a verifier uses it: one request at a time, answers with a
Content-Length. Each connection comes from a loopback address of its own where the verifier is on
loopback, because a verifier limits what one address may do, and a fleet has many.

Not handled, on purpose: TLS, redirects, chunked answers, pipelining.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.errors import TransportError

MEDIA_TYPE: Final = "application/vnd.bootlease.{}+cbor"
_MAX_HEAD: Final = 16 * 1024
_MAX_BODY: Final = 4 * 1024 * 1024
_ADDRESSES: Final = 250
_SWEEP: Final = 0.5
_KEPT: Final = 60.0
"""Seconds that an idle connection is kept: fewer than a verifier keeps it. One that is used while
the verifier closes it loses its request."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        status: HTTP status.
        body: Its body.
    """

    status: int
    body: bytes


Outcome = Response | TransportError
Finished = Callable[[Outcome], None]


def request(path: str, kind: str, body: bytes) -> bytes:
    """Return the bytes of a POST request.

    Args:
        path: Path of the resource.
        kind: Kind of message, as its media type names it; empty for an empty body.
        body: The message.
    """
    media = f"content-type: {MEDIA_TYPE.format(kind)}\r\n" if kind else ""
    head = f"POST {path} HTTP/1.1\r\nhost: verifier\r\n{media}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """One connection, with one request on its way at most."""

    __slots__ = ("_data", "_finished", "_needed", "_pool", "_transport", "idle_at", "sent_at")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._finished: Finished | None = None
        self._data = b""
        self._needed = 0
        self.idle_at = 0.0
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def send(self, data: bytes, finished: Finished) -> None:
        self._finished = finished
        self.sent_at = time.monotonic()
        if self._transport is not None:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data if self._data else data
        if len(data) < self._needed:
            return
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _MAX_HEAD:
                self._fail("the head of the answer does not end")
            return
        head = data[:end].lower()
        length = _length(head)
        if length is None or length > _MAX_BODY:
            self._fail("the answer has no Content-Length that can be used")
            return
        self._needed = end + 4 + length
        if len(data) < self._needed:
            return
        if self._finished is None or len(data) > self._needed:
            self._fail("more came than was asked for")
            return
        finished, self._finished = self._finished, None
        self._data, self._needed = b"", 0
        if b"\r\nconnection: close" in head:
            self.abort()
        else:
            self._pool.release(self)
        finished(Response(int(head[9:12]), data[end + 4 :]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(TransportError(f"connection lost: {exc or 'closed'}"))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """End a request that was not answered in time."""
        self._fail("timeout: no answer came in time")

    def _fail(self, reason: str) -> None:
        self._end(TransportError(reason))
        self.abort()

    def _end(self, error: TransportError) -> None:
        self._pool.forget(self)
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(error)

    @property
    def waiting(self) -> bool:
        return self._finished is not None

    @property
    def lost(self) -> bool:
        return self._transport is None


def _length(head: bytes) -> int | None:
    start = head.find(b"\r\ncontent-length:")
    if start < 0 or not head.startswith(b"http/1.1 ") or not head[9:12].isdigit():
        return None
    value = head[start + 17 :].split(b"\r\n", 1)[0].strip()
    return int(value) if value.isdigit() and len(value) < 10 else None  # noqa: PLR2004 - digits


class ConnectionPool:
    """Sends requests over at most so many connections, each from an address of its own.

    Args:
        host: Of the verifier.
        port: Of the verifier.
        at_most: Open connections.
        timeout: Seconds until a request counts as lost.
    """

    def __init__(self, host: str, port: int, *, at_most: int, timeout: float = 10.0) -> None:
        self._host = host
        self._port = port
        self._at_most = at_most
        self._timeout = timeout
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._queue: deque[tuple[bytes, Finished]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._loop = asyncio.get_running_loop()
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)
        self._closed = False

    @property
    def room(self) -> int:
        """How many requests need not wait for the answer to another."""
        return self._at_most - len(self._open) + len(self._idle) - len(self._queue)

    async def fill(self) -> None:
        """Open every connection.

        Raises:
            TransportError: The verifier does not take one.
        """
        while len(self._open) < self._at_most:
            await self._connect()

    async def send(self, data: bytes) -> Response:
        """Send a request and return its answer.

        Raises:
            TransportError: No answer came.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self.submit(data, lambda outcome: None if future.done() else future.set_result(outcome))
        outcome = await future
        if isinstance(outcome, TransportError):
            raise outcome
        return outcome

    def submit(self, data: bytes, finished: Finished) -> None:
        """Send a request on an idle connection, or when one is idle again.

        Args:
            data: The request.
            finished: Called once, with the answer or the reason why there is none.
        """
        # The last one was used last: where it is too old, all are.
        if self._idle and self._idle[-1].idle_at > time.monotonic() - _KEPT:
            self._idle.pop().send(data, finished)
            return
        self._end_old()
        self._queue.append((data, finished))
        self._open_another()

    def _open_another(self) -> None:
        wanted = min(len(self._queue), self._at_most - len(self._open))
        while len(self._opening) < wanted:
            task = self._loop.create_task(self._connect_for_queue())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect_for_queue(self) -> None:
        try:
            await self._connect()
        except TransportError as exc:
            # Whoever waits hears of it: an open-loop client must not wait for better times.
            if self._queue:
                self._queue.popleft()[1](exc)

    async def _connect(self) -> None:
        self._numbers += 1
        local = None
        if self._host.startswith("127."):
            number = self._numbers % self._at_most
            local = (f"127.77.{number // _ADDRESSES}.{1 + number % _ADDRESSES}", 0)
        connection = _Connection(self)
        try:
            await self._loop.create_connection(
                lambda: connection, self._host, self._port, local_addr=local
            )
        except OSError as exc:
            raise TransportError(f"cannot connect: {exc.strerror or exc}") from exc
        if connection.lost:
            raise TransportError("connection lost: closed at once")
        self._open.add(connection)
        self.release(connection)

    def release(self, connection: _Connection) -> None:
        """Use a connection for what waits, or keep it."""
        if self._queue:
            connection.send(*self._queue.popleft())
            return
        connection.idle_at = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """Use a connection no more."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._queue and not self._closed:
            self._open_another()

    def _sweep(self) -> None:
        late = time.monotonic() - self._timeout
        for connection in [each for each in self._open if each.waiting and each.sent_at < late]:
            connection.give_up()
        self._end_old()
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _end_old(self) -> None:
        old = time.monotonic() - _KEPT
        for connection in [each for each in self._idle if each.idle_at <= old]:
            connection.abort()

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        self._sweeper.cancel()
        waiting, self._queue = list(self._queue), deque()
        for task in self._opening:
            task.cancel()
        for connection in list(self._open):
            connection.abort()
        for _, finished in waiting:
            finished(TransportError("the pool is closed"))
        await asyncio.sleep(0)
