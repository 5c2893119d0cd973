"""uvicorn's HTTP/1.1 connection with what it lacks: a deadline for headers, and problem documents.

A client that opens a connection and sends nothing, or its headers byte by byte, would hold it for
ever. Bodies have a deadline of their own, in ``bodies``.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bootlease.verifier.limits import DEFAULT_LIMITS
from bootlease.verifier.problems import (
    MEDIA_TYPE,
    ProblemError,
    ProblemKind,
    encode_problem,
    problem_members,
)

MAX_HEADERS: Final = 16 * 1024
"""Longest request line with headers; ours are below 1 kB."""


class DeadlineH11Protocol(H11Protocol):
    """Closes connections whose headers do not arrive in time.

    Attributes:
        header_time: Seconds from a connection's or request's first moment to its last header.
    """

    header_time: ClassVar[float] = DEFAULT_LIMITS.header_time
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start the clock."""
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Start the clock with a request's first byte; stop it with its last header."""
        if self._idle():
            self._await_headers()
        super().data_received(data)
        if not self._idle():
            self._forget_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._forget_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem document."""
        error = ProblemError(ProblemKind.MALFORMED, msg)
        body = encode_problem(problem_members(error))
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.header_time, self._too_late)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self.transport.close()
