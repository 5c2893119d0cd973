"""One connection of a workload: one request, and its answer or a stream of events.

HTTP/1.1 through h11. A connection carries one request, and says so (``Connection: close``): what
there is to agree on between two requests of one connection cannot be got wrong. Requests with a
body say its length; no transfer coding is accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import h11

from bootlease.localapi import wire
from bootlease.model import Finding
from bootlease.node.workloads.limits import Limits
from bootlease.node.workloads.problems import ProblemError, ProblemKind, malformed

_SLACK: Final = 1024
_GUARD: Final = wire.GUARD_HEADER.lower().encode()
_OK: Final = 200
_SINGLE: Final = frozenset(
    {_GUARD, wire.LEASE_HEADER.lower().encode(), b"content-length", b"content-type", b"host"}
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is complete.

    Attributes:
        method: Its method.
        target: Its path, with whatever query it has.
        headers: Its header fields by lower-case name.
        body: Its body.
    """

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    body: bytes


Serve = Callable[["HTTPConnection", Request], Awaitable[None]]


class HTTPConnection(asyncio.Protocol):
    """Reads a request, hands it over, writes what it is answered.

    Args:
        serve: Serves the request; raises ``ProblemError``.
        limits: Bounds.
        on_closed: Told once when the connection is gone.
    """

    def __init__(
        self, serve: Serve, limits: Limits, on_closed: Callable[[HTTPConnection], None]
    ) -> None:
        self._serve = serve
        self._limits = limits
        self._on_closed = on_closed
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=wire.MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._streams = False
        self._finished = False

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream socket has a transport to write to")
        self._transport = transport
        self._wait(self._limits.request_seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._task is not None:
            # Whoever goes on talking behind its request would have the agent keep it.
            self.abort()
            return
        self._received += len(data)
        try:
            if self._received > wire.MAX_HEAD + wire.MAX_BODY + _SLACK:
                raise _too_large()
            self._http.receive_data(data)
            self._read()
        except ProblemError as exc:
            self._refuse(exc)
        except h11.RemoteProtocolError as exc:
            self._refuse(malformed(f"not HTTP/1.1 as this API speaks it ({exc})"))

    def eof_received(self) -> bool:
        """Take the end of what is sent for the end, but for an answer that is on its way."""
        return self._task is not None and not self._streams

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._stop_clock()
        self._finished = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._on_closed(self)

    # -- what answers

    def answer(self, body: bytes, media: str = wire.JSON) -> None:
        """Answer with ``body``, and close."""
        self._whole(_OK, media, body)

    def begin_stream(self) -> None:
        """Answer with a stream."""
        self._streams = True
        self._write(_head(_OK, wire.NDJSON))

    def send(self, line: bytes) -> None:
        """Send an event; who does not read is cut off."""
        if self._finished or self._transport is None:
            return
        self._write(h11.Data(data=line))
        if self._transport.get_write_buffer_size() > self._limits.unread:
            self.abort()

    def finish(self) -> None:
        """Close the connection behind what was written."""
        if self._finished or self._transport is None:
            return
        if self._streams and self._http.our_state is h11.SEND_BODY:
            self._write(h11.EndOfMessage())
        self._finished = True
        self._transport.close()
        # Closing waits for what is unread; that it does not wait for ever is for this clock.
        self._wait(self._limits.answer_seconds, self.abort)

    def abort(self) -> None:
        """Close the connection at once."""
        self._finished = True
        if self._transport is not None:
            self._transport.abort()

    # -- inside

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Request):
                self._request = event
                _judge(event)
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > wire.MAX_BODY:
                    raise _too_large()
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._complete(self._request)
                return
            else:
                self.abort()
                return

    def _complete(self, request: h11.Request) -> None:
        self._stop_clock()
        complete = Request(
            method=request.method.decode("ascii"),
            target=request.target.decode("ascii"),
            headers=dict(request.headers),
            body=bytes(self._body),
        )
        self._task = asyncio.get_running_loop().create_task(self._run(complete))
        self._task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            self.abort()
            raise exc

    async def _run(self, request: Request) -> None:
        try:
            await self._serve(self, request)
        except ProblemError as exc:
            self._refuse(exc)

    def _refuse(self, problem: ProblemError) -> None:
        self._stop_clock()
        if self._finished:
            return
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.abort()
            return
        extra = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
        self._whole(problem.kind.status, wire.PROBLEM, problem.encode(), extra)

    def _whole(
        self, status: int, media: str, body: bytes, extra: Mapping[str, str] | None = None
    ) -> None:
        length = {"Content-Length": str(len(body)), **(extra or {})}
        # RFC 9110 §9.3.2: what answers HEAD has no body.
        has_body = self._request is None or self._request.method != b"HEAD"
        # At once: a client that is woken for the head would wait for the body again.
        self._write(
            _head(status, media, length),
            h11.Data(data=body if has_body else b""),
            h11.EndOfMessage(),
        )
        self.finish()

    def _write(self, *events: h11.Event) -> None:
        if self._finished or self._transport is None:
            return
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))

    def _too_slow(self) -> None:
        self._refuse(
            ProblemError(
                ProblemKind.TIMEOUT,
                Finding("workload.request.too-slow", "The request took too long to arrive."),
            )
        )

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_clock()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _head(status: int, media: str, extra: Mapping[str, str] | None = None) -> h11.Response:
    headers = {"Content-Type": media, "Cache-Control": "no-store", "Connection": "close"}
    return h11.Response(status_code=status, headers=list((headers | dict(extra or {})).items()))


def _judge(request: h11.Request) -> None:
    """Refuse a request by its head, before its body is read."""
    names = [name for name, _ in request.headers]
    if sum(len(name) + len(value) + 4 for name, value in request.headers) > wire.MAX_HEAD:
        raise _too_large()
    if any(names.count(name) > 1 for name in _SINGLE):
        raise malformed("a header is repeated")
    headers = dict(request.headers)
    if headers.get(_GUARD) != b"true":
        raise ProblemError(
            ProblemKind.MALFORMED,
            Finding(
                "workload.header.missing",
                f"A request has the header {wire.GUARD_HEADER}: true.",
            ),
        )
    if b"transfer-encoding" in headers:
        raise ProblemError(
            ProblemKind.LENGTH_WANTED,
            Finding("workload.request.malformed", "A body has a Content-Length, and no coding."),
        )
    if int(headers.get(b"content-length", b"0")) > wire.MAX_BODY:
        raise _too_large()


def _too_large() -> ProblemError:
    return ProblemError(
        ProblemKind.TOO_LARGE,
        Finding(
            "workload.request.too-large",
            f"A request has at most {wire.MAX_HEAD} bytes of head and {wire.MAX_BODY} of body.",
        ),
    )
