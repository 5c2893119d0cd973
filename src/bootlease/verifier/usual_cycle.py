"""One usual request and its answer: what uvicorn's cycle is for all others.

Specification: RFC 9112 §4 (status line), §6.3 (an answer with Content-Length), §9.6 (close). Head
and body of an answer are written at once. Not handled, because no usual request needs it: HEAD,
interim answers, answers of unknown length, trailers.
"""

from __future__ import annotations

import asyncio
import http
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from bootlease.verifier.bodies import ALL_HERE
from bootlease.verifier.usual import UsualRequest

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent, HTTPScope

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}
_CLOSE: Final = (b"connection", b"close")


class UsualCycle(RequestResponseCycle):
    """Runs the application for a usual request.

    Args:
        protocol: The connection that it came on.
        request: Its head.
        data: What came behind the head.
    """

    def __init__(self, protocol: H11Protocol, request: UsualRequest, data: bytes) -> None:
        super().__init__(
            scope=_scope_of(protocol, request, all_here=len(data) >= request.length),
            conn=protocol.conn,
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=False,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=protocol.on_response_complete,
        )
        self._missing = request.length
        self._head = b""
        self._parts: list[bytes] = []
        self.feed(data)

    def feed(self, data: bytes) -> None:
        """Take more of the body."""
        if len(data) > self._missing:
            # A request behind this one gets no answer, and need not be held either.
            data = data[: self._missing]
            self.keep_alive = False
            self.flow.pause_reading()
        self.body += data
        self._missing -= len(data)
        self.more_body = self._missing > 0
        self.message_event.set()

    async def send(self, message: ASGISendEvent) -> None:
        """Take one ASGI message of the application."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        event: dict[str, Any] = dict(message)
        if event["type"] == "http.response.start" and not self.response_started:
            self.response_started = True
            self._begin(event["status"], list(event.get("headers", ())))
        elif event["type"] == "http.response.body" and self._head and not self.response_complete:
            self._parts.append(event.get("body", b""))
            if not event.get("more_body", False):
                self._finish(b"".join(self._parts))
        else:
            raise RuntimeError(f"unexpected ASGI message {event['type']}")

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        fields = [(name, value) for name, value in headers if name != b"content-length"]
        if _CLOSE in fields:
            self.keep_alive = False
        lines = [b"%b: %b\r\n" % field for field in [*self.default_headers, *fields]]
        self._head = _STATUS_LINES[status] + b"".join(lines)
        if self._head.count(b"\n") != len(lines) + 1 or self._head.count(b"\r") != len(lines) + 1:
            raise RuntimeError("a header of an answer holds a line break")

    def _finish(self, body: bytes) -> None:
        self.response_complete = True
        self.message_event.set()
        head = self._head
        if self.more_body:
            # What is still to come of a request that was answered would pass for the next one.
            self.keep_alive = False
        if not self.keep_alive and b"\r\nconnection: close\r\n" not in head:
            head += b"connection: close\r\n"
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _scope_of(protocol: H11Protocol, request: UsualRequest, *, all_here: bool) -> HTTPScope:
    return {
        "type": "http",
        "asgi": {"version": protocol.asgi_version, "spec_version": "2.3"},
        "http_version": "1.1",
        "server": protocol.server,
        "client": protocol.client,
        "scheme": "https" if protocol.scheme == "https" else "http",
        "method": "POST",
        "root_path": "",
        "path": request.path,
        "raw_path": request.path.encode("ascii"),
        "query_string": b"",
        "headers": request.headers,
        "state": {**protocol.app_state, ALL_HERE: all_here},
        "extensions": {},
    }
