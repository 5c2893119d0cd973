"""Serves metrics: ``GET /metrics`` on a Unix socket, or on a TCP port of this machine alone.

A connection is for one request of at most 8 kB, which has two seconds to arrive, and its answer as
many to be read. Four are served beside one another; who comes fifth waits in the kernel, where that
costs nothing, until one of them is over. Specification: RFC 9112 (h11).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import h11

from bootlease.errors import TransportError
from bootlease.node.files import reason
from bootlease.node.service.openmetrics import CONTENT_TYPE
from bootlease.node.workloads import binding

_PATIENCE: Final = 2.0
"""Seconds that a request has to arrive, and its answer to be read."""
_AT_ONCE: Final = 4
"""Connections served beside one another."""
_MAX_REQUEST: Final = 8192
_MODE: Final = 0o660
_OK, _NOT_FOUND, _NOT_ALLOWED, _BAD_REQUEST = 200, 404, 405, 400
_PLAIN: Final = "text/plain; charset=utf-8"


class MetricsServer:
    """A few threads that answer scrapes, each one connection after the other.

    Args:
        address: A socket's path, or host and port.
        exposition: Returns what is served.
    """

    def __init__(self, address: Path | tuple[str, int], exposition: Callable[[], bytes]) -> None:
        self._address = address
        self._exposition = exposition
        self._listener: binding.Listener | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Listen, and answer from now on.

        Raises:
            TransportError: The address cannot be listened on.
        """
        self._listener = _listen(self._address)
        listener = self._listener.socket
        listener.setblocking(True)  # noqa: FBT003 - the socket module's own signature
        for number in range(1, _AT_ONCE + 1):
            name = f"metrics-{number}"
            threading.Thread(target=self._serve, args=(listener,), name=name, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._stopping.set()
        if self._listener is not None:
            # Ends the accept that each thread waits in.
            with contextlib.suppress(OSError):
                self._listener.socket.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                # Out of descriptors for a moment, or stopped.
                self._stopping.wait(0.1)
                continue
            with connection, contextlib.suppress(OSError, h11.ProtocolError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST)
        request = _request(connection, protocol)
        if request is None:
            return
        status, kind, content = self._content(request)
        headers = [
            ("content-type", kind),
            ("content-length", str(len(content))),
            ("connection", "close"),
        ]
        head = protocol.send(h11.Response(status_code=status, headers=headers))
        body = b"" if request.method == b"HEAD" else protocol.send(h11.Data(data=content))
        connection.sendall((head or b"") + (body or b""))
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    def _content(self, request: h11.Request) -> tuple[int, str, bytes]:
        if request.target.partition(b"?")[0] != b"/metrics":
            return _NOT_FOUND, _PLAIN, b"metrics are at /metrics\n"
        if request.method not in {b"GET", b"HEAD"}:
            return _NOT_ALLOWED, _PLAIN, b"only GET\n"
        return _OK, CONTENT_TYPE, self._exposition()


def _listen(address: Path | tuple[str, int]) -> binding.Listener:
    if isinstance(address, Path):
        return binding.listen(address, mode=_MODE)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        made = socket.create_server(address, family=family)
    except OSError as exc:
        raise TransportError(f"cannot serve metrics on port {address[1]}: {reason(exc)}") from exc
    return binding.Listener(made, made.close)


def _request(connection: socket.socket, protocol: h11.Connection) -> h11.Request | None:
    """Read one request's head; None from one who says nothing, too much, or too slowly."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        event = protocol.next_event()
        if isinstance(event, h11.Request):
            connection.settimeout(_PATIENCE)
            return event
        if event is not h11.NEED_DATA or (left := deadline - time.monotonic()) <= 0:
            return None
        connection.settimeout(left)
        data = connection.recv(_MAX_REQUEST)
        if not data:
            return None
        protocol.receive_data(data)
