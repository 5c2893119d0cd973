"""Running the witness: its address, TLS, an orderly end.

Requests and answers are signed and public, but an answer of conflict is not signed: off loopback
the witness speaks TLS or does not start, so that nobody in between can tell a log that it went
back.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from bootlease.errors import TransportError
from bootlease.witness.connections import BoundedProtocol

_KEEP_ALIVE: Final = 75
_GRACE: Final = 5
_MAX_HEADERS: Final = 16 * 1024
_BACKLOG: Final = 256


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to serve.

    Attributes:
        host: IP address or name.
        port: TCP port, 0 for any free one.
        tls_cert: PEM certificate chain, or None for plain HTTP.
        tls_key: Its PEM private key.
    """

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


def serve_app(app: FastAPI, bind: Bind) -> None:
    """Serve until SIGTERM or SIGINT; says where on standard error.

    Raises:
        TransportError: The address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
        listening = socket.create_server((bind.host, bind.port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise TransportError(
            f"cannot listen on {bind.host}:{bind.port}: {exc.strerror or exc}"
        ) from exc
    with listening:
        # asyncio does this only for sockets that say they are TCP; without it every answer waits
        # for the client's delayed acknowledgement, 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=bind.tls_cert,
            ssl_keyfile=bind.tls_key,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
            h11_max_incomplete_event_size=_MAX_HEADERS,
        )
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if bind.tls_cert is None else "https"
        sys.stderr.write(f"bootlease witness: listening on {scheme}://{shown}:{port}\n")
        sys.stderr.flush()
        _Server(config).run(sockets=[listening])
