"""A small relying party: a tool server that answers only while the caller's lease lives.

Run it with ``python -m bootlease.testing.tool_server``; the demo does, and so may a test that
wants to see a real 401, or a real stream that is cut.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from bootlease.relyingparty import CheckedRequest, FetchedKeys, StreamedContinuity, TokenChecker
from bootlease.relyingparty.asgi import LeaseMiddleware

BEAT: Final = 0.02
"""Seconds between the lines of a stream."""


def tool_server(checker: TokenChecker, *, scope: str, base_url: str) -> FastAPI:
    """Return an application with two tools, ``GET /search`` and ``GET /stream``.

    Args:
        checker: Checks token and proof of possession of each request.
        scope: The scope name that a caller needs.
        base_url: What precedes the paths in the URLs that clients see.
    """
    app = FastAPI(title="tool server", openapi_url=None)

    @app.get("/search")
    def search(request: Request) -> dict[str, str]:
        checked: CheckedRequest = request.state.bootlease
        return {"result": "42 documents", "node": checked.token.claims.subject}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            while True:
                yield f"{time.time():.3f}\n"
                await asyncio.sleep(BEAT)

        return StreamingResponse(lines(), media_type="text/plain")

    app.add_middleware(
        LeaseMiddleware,
        checker=checker,
        base_url=base_url,
        rules={"GET /search": scope, "GET /stream": scope},
    )
    return app


def main() -> None:
    """Serve the tools until stopped; print the first one's URL on stdout once it listens."""
    parser = argparse.ArgumentParser(prog="bootlease.testing.tool_server", description=__doc__)
    parser.add_argument("--issuer", required=True, help="URL of the verifier")
    parser.add_argument("--audience", required=True, help="this server's own name")
    parser.add_argument("--scope", default="tool:search", help="scope name that a caller needs")
    parser.add_argument("--leeway", type=int, default=5, help="seconds that clocks may differ")
    parser.add_argument("--max-depth", type=int, default=0, help="grants that a chain may have")
    parser.add_argument("--verifier", help="where to reach the verifier; by default at its URL")
    parser.add_argument("--clock-offset", type=float, default=0.0, help="seconds it is fast by")
    parser.add_argument("--clock-step", type=float, default=0.0, help="seconds SIGUSR1 sets it by")
    options = parser.parse_args()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        issuer: str = options.issuer
        at: str = options.verifier or issuer
        keys = FetchedKeys(f"{at}/.well-known/jwks.json")
        offset: float = options.clock_offset

        def clock() -> float:
            return time.time() + offset

        def step(*_: object) -> None:
            nonlocal offset
            offset += options.clock_step

        signal.signal(signal.SIGUSR1, step)

        leeway: int = options.leeway
        with StreamedContinuity(
            f"{at}/v1/continuity", keys, issuer=issuer, clock=clock, leeway=leeway
        ) as continuity:
            checker = TokenChecker(
                keys,
                issuer=issuer,
                audience=options.audience,
                continuity=continuity,
                clock=clock,
                leeway=leeway,
                max_depth=options.max_depth,
            )
            app = tool_server(checker, scope=options.scope, base_url=base_url)
            server = uvicorn.Server(
                uvicorn.Config(
                    app, log_level="critical", access_log=False, timeout_graceful_shutdown=1
                )
            )
            sys.stdout.write(f"{base_url}/search\n")
            sys.stdout.flush()
            server.run(sockets=[listener])


if __name__ == "__main__":
    main()
