"""An ASGI application on a port of this machine, in a thread, as long as a test needs it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import uvicorn


class _Server(uvicorn.Server):
    """uvicorn in a thread, which cannot have signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def served(
    app: Any,  # noqa: ANN401 - any ASGI application
    *,
    port: int = 0,
    lifespan: Literal["on", "off"] = "off",
) -> Iterator[str]:
    """Serve ``app`` and give its URL.

    Args:
        app: The application.
        port: Where; 0 picks a free port.
        lifespan: Whether the application is told of its start and end.
    """
    config = uvicorn.Config(app, lifespan=lifespan, log_config=None, timeout_graceful_shutdown=1)
    server = _Server(config)
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
