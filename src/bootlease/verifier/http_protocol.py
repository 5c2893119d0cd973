"""uvicorn's HTTP/1.1 connection with what it lacks: deadlines, limits, and problem documents.

A client that opens a connection and sends nothing, or its headers byte by byte, would hold it for
ever. Bodies have a deadline of their own, in ``bodies``.

Chunked bodies are not accepted (RFC 9112 §6.1 leaves that to the server, RFC 9110 §15.5.12 has the
answer): every chunk of one byte costs the parser as much as a long one, and no client of ours
sends them. Nor are pipelined requests answered but the first.

What ``usual_request`` recognises does not pass through the parser, which then knows nothing of it
and waits for its next request; everything else does.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Iterable
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bootlease.verifier.limits import DEFAULT_LIMITS, Limits
from bootlease.verifier.problems import (
    MEDIA_TYPE,
    ProblemError,
    ProblemKind,
    encode_problem,
    problem_members,
)
from bootlease.verifier.rates import client_at
from bootlease.verifier.usual import usual_request
from bootlease.verifier.usual_cycle import UsualCycle

MAX_HEADERS: Final = 16 * 1024
"""Longest request line with headers; ours are below 1 kB."""

ABORT: Final = "bootlease.abort"
"""Name of what ends a request's connection at once, in the state of its scope."""
_NOT_HTTP: Final = ProblemError(ProblemKind.MALFORMED, "The request is not HTTP/1.1.")
_NO_LENGTH: Final = ProblemError(
    ProblemKind.LENGTH_WANTED, "Send Content-Length; no transfer coding is accepted."
)
_LONG_HEADERS: Final = ProblemError(
    ProblemKind.MALFORMED, f"Request line and headers have at most {MAX_HEADERS} bytes."
)
_CROWDED: Final = ProblemError(
    ProblemKind.BUSY, "Too many connections are open; try again.", retry_after=2
)
_AT_REST: Final = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}


class _Parser(h11.Connection):
    """h11's parser, which also judges headers before it looks at a body.

    Attributes:
        refusal: Why the request was refused.
        bodiless: The answer must have no body.
        more: Something came behind a request that is not answered yet.
    """

    refusal: ProblemError = _NOT_HTTP
    bodiless = False
    more = False

    def next_event(self) -> Any:  # noqa: ANN401 - as h11's own
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.bodiless = event.method == b"HEAD"
            self._judge(event)
        elif event is h11.PAUSED:
            self.more = True
        return event

    def _judge(self, request: h11.Request) -> None:
        headers = request.headers
        if sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADERS:
            self.refusal = _LONG_HEADERS
        elif any(name == b"transfer-encoding" for name, _ in headers):
            self.refusal = _NO_LENGTH
        else:
            return
        raise h11.RemoteProtocolError(self.refusal.detail)


class DeadlineH11Protocol(H11Protocol):
    """Closes connections whose headers do not arrive in time, and those that are too many.

    Attributes:
        limits: Bounds.
        peers: Open connections by client, the oldest first.
    """

    limits: ClassVar[Limits] = DEFAULT_LIMITS
    peers: ClassVar[dict[str, dict[DeadlineH11Protocol, None]]] = {}
    _deadline: asyncio.TimerHandle | None = None
    _peer: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start the clock, where there is room."""
        super().connection_made(transport)
        self.conn: _Parser = _Parser(h11.SERVER, MAX_HEADERS)
        if not self._has_room():
            self._refuse(_CROWDED)
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Start the clock with a request's first byte; stop it with its last header."""
        cycle = self.cycle
        if self._idle():
            if self._is_usual(data):
                return
            self._await_headers()
        elif isinstance(cycle, UsualCycle):
            cycle.feed(data)
            return
        # The parser's limit counts for what is incomplete: it must not see too much at once.
        while self._idle() and len(data) > MAX_HEADERS and not self.transport.is_closing():
            super().data_received(data[:MAX_HEADERS])
            data = data[MAX_HEADERS:]
        if not self.transport.is_closing():
            super().data_received(data)
        if not self._idle():
            self._forget_deadline()

    def _is_usual(self, data: bytes) -> bool:
        """Begin a usual request, if that is what ``data`` begins with."""
        if self.conn.states != _AT_REST or self.conn.trailing_data[0]:
            return False
        request = usual_request(data, self.limits.small)
        if request is None or self.transport.is_closing():
            return False
        self._forget_deadline()
        self._unset_keepalive_if_required()
        cycle = UsualCycle(self, request, data[request.head :])
        self.cycle = cycle
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        return True

    def handle_events(self) -> None:
        """Answer one request at a time."""
        super().handle_events()
        if self.scope is not None:
            self.scope["state"][ABORT] = self.transport.abort
        if self.conn.more and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Wait for the next request, less long where many wait."""
        limits = self.limits
        crowded = len(self.connections) > limits.connections // 2
        self.timeout_keep_alive = limits.keep_alive_crowded if crowded else limits.keep_alive
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._forget_deadline()
        if self._peer is not None:
            siblings = self.peers[self._peer]
            siblings.pop(self, None)
            if not siblings:
                del self.peers[self._peer]
            self._peer = None
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words say less
        """Answer what is not HTTP, or not HTTP as wanted here, with a problem document."""
        self._refuse(self.conn.refusal)

    def end_if_idle(self) -> bool:
        """End this connection if no request of it is in progress; tell whether."""
        if not self._idle() or self.transport.is_closing():
            return False
        self.transport.close()
        return True

    def _refuse(self, error: ProblemError) -> None:
        body = encode_problem(problem_members(error))
        status = error.kind.status
        reason = http.HTTPStatus(status).phrase.encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._write(h11.Response(status_code=status, headers=headers, reason=reason))
            if not self.conn.bodiless:
                self._write(h11.Data(data=body))
            self._write(h11.EndOfMessage())
        self.transport.close()

    def _write(self, event: h11.Event) -> None:
        self.transport.write(self.conn.send(event) or b"")

    def _has_room(self) -> bool:
        """Count this connection; make room for it at the cost of one that waits for a request."""
        if self.client is not None:
            self._peer = client_at(self.client[0])
            siblings = self.peers.setdefault(self._peer, {})
            siblings[self] = None
            if len(siblings) > self.limits.connections_per_client:
                return _end_one(siblings, self)
        if len(self.connections) <= self.limits.connections:
            return True
        return _end_one(self.connections, self)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.header_time, self._too_late)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self.transport.close()


def _end_one(connections: Iterable[object], but: DeadlineH11Protocol) -> bool:
    """End an idle connection among ``connections``, which may then be used for another."""
    for each in connections:
        if each is not but and isinstance(each, DeadlineH11Protocol) and each.end_if_idle():
            return True
    return False


def protocol_within(limits: Limits) -> type[DeadlineH11Protocol]:
    """Return the protocol of one server, with bounds and a count of clients of its own."""

    class Bounded(DeadlineH11Protocol):
        pass

    Bounded.limits = limits
    Bounded.peers = {}
    return Bounded
