"""The network between nodes and their verifier, which a test can cut, or which lies.

An HTTP/1.1 proxy that takes one request a connection: enough for agents. What it does to a
request depends on the node that its path names, so that nodes of one verifier break apart.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_NODE: Final = re.compile(r"/v1/nodes/([0-9a-f]{64})/")
_PATIENCE: Final = 10.0
_MAX_BODY: Final = 1 << 26

Change = Callable[[bytes], bytes]
"""Makes another body of a request's."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing: agents and verifiers that are killed leave connections behind."""


class Network:
    """A proxy in front of a verifier.

    Args:
        port: Where it listens; the verifier's issuer names it.
        target: Port of the verifier.
    """

    def __init__(self, port: int, target: int) -> None:
        self.cut: set[str] = set()
        """Nodes whose connections are closed before anything is answered."""
        self.failing: set[str] = set()
        """Nodes that get errors for an answer."""
        self.changes: dict[str, Change] = {}
        """What becomes of the lease requests of a node."""
        network = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                network._pass_on(self, target)

            do_POST = do_GET  # noqa: N815 - the name that the base class looks for

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _pass_on(self, request: BaseHTTPRequestHandler, target: int) -> None:
        length = int(request.headers.get("content-length", "0"))
        body = request.rfile.read(min(length, _MAX_BODY))
        found = _NODE.match(request.path)
        node = found[1] if found else ""
        if node in self.cut:
            request.close_connection = True
            request.connection.close()
            return
        if node in self.failing:
            request.send_error(500)
            return
        if node in self.changes and request.path.endswith("/leases"):
            body = self.changes[node](body)
        try:
            status, headers, answer = _ask(target, request, body)
        except OSError:
            request.send_error(502)
            return
        request.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                request.send_header(name, value)
        request.send_header("content-length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)


def _ask(
    target: int, request: BaseHTTPRequestHandler, body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", target, timeout=_PATIENCE)
    try:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"connection", "content-length"}
        }
        connection.request(request.command, request.path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()
