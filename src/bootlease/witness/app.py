"""The witness over HTTP.

Specification: C2SP tlog-witness v1, with one prefix for submission and monitoring.

Beyond it: ``GET /logs`` lists the largest tree of each log that was cosigned. A log that was put
back from a backup finds there what it has forgotten, also a whole shard; a monitor compares it
with what it was shown.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Final

from fastapi import FastAPI, Request, Response

from bootlease import __version__
from bootlease.errors import TransportError
from bootlease.ledger.addcheckpoint import MAX_REQUEST
from bootlease.witness.cosigning import TEXT, Answer, Witness

_BODY_TIME: Final = 10.0
_TOO_SLOW, _TOO_LARGE, _UNAVAILABLE = 408, 413, 503
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def _wall_clock() -> int:
    return int(time.time())


def build_app(witness: Witness, *, now: Callable[[], int] = _wall_clock) -> FastAPI:
    """Return the ASGI application of a witness.

    Args:
        witness: Decides and signs.
        now: Tells the time in seconds since the epoch.
    """
    app = FastAPI(
        title="bootlease witness",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        # Nothing of a request leaves this process because a variable of its environment says so.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )

    @app.post("/add-checkpoint", response_class=Response)
    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(_BODY_TIME):
                body = await _read(request)
        except TimeoutError:
            return _response(Answer(_TOO_SLOW, b"the request took too long\n"), closes=True)
        if body is None:
            return _response(Answer(_TOO_LARGE, b"the request is too large\n"), closes=True)
        return await _decide(lambda: witness.add_checkpoint(body, now=now()))

    @app.get("/logs", response_class=Response)
    async def logs() -> Response:
        return await _decide(lambda: _listed(witness))

    return app


async def _read(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST:
            return None
    return bytes(body)


async def _decide(decide: Callable[[], Answer]) -> Response:
    # The disk is waited for in a thread: other requests need not wait with it.
    try:
        return _response(await asyncio.to_thread(decide))
    except TransportError:
        return _response(Answer(_UNAVAILABLE, b"the witness cannot reach its state\n"))


def _listed(witness: Witness) -> Answer:
    logs = [
        {"origin": seen.origin, "size": seen.size, "root": seen.root.hex()}
        for seen in witness.seen()
    ]
    return Answer(200, json.dumps({"logs": logs}).encode(), "application/json")


def _response(answer: Answer, *, closes: bool = False) -> Response:
    headers = {**_HEADERS, "connection": "close"} if closes else _HEADERS
    return Response(
        answer.body, answer.status, headers={**headers, "content-type": answer.media_type or TEXT}
    )
