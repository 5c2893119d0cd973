"""A FastAPI application that serves whoever holds a lease that counts, for as long as it does.

    python examples/relying_party.py --issuer https://verifier.example \
        --audience https://tools.example --base-url https://tools.example

docs/relying-party.md explains it line by line.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from bootlease.relyingparty import CheckedRequest, FetchedKeys, StreamedContinuity, TokenChecker
from bootlease.relyingparty.asgi import LeaseMiddleware
from bootlease.relyingparty.dependency import require
from bootlease.relyingparty.rules import BY_HANDLER, PUBLIC

Searcher = Annotated[CheckedRequest, Depends(require("tool:search"))]


def application(issuer: str, audience: str, base_url: str) -> FastAPI:
    """Return the application for one verifier."""
    keys = FetchedKeys(f"{issuer}/.well-known/jwks.json")
    continuity = StreamedContinuity(f"{issuer}/v1/continuity", keys, issuer=issuer)
    checker = TokenChecker(keys, issuer=issuer, audience=audience, continuity=continuity)
    rules = {"GET /healthz": PUBLIC, "* /*": BY_HANDLER}

    app = FastAPI(openapi_url=None)
    app.add_middleware(LeaseMiddleware, checker=checker, base_url=base_url, rules=rules)

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/search")
    def search(caller: Searcher, q: str) -> dict[str, str]:
        return {"result": f"42 documents about {q}", "node": caller.token.claims.subject}

    @app.get("/watch")
    async def watch(caller: Searcher) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            while True:  # until the client leaves, or its lease ends
                yield f"nothing new for {caller.token.claims.subject}\n"
                await asyncio.sleep(1)

        return StreamingResponse(lines(), media_type="text/plain")

    return app


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--issuer", required=True, help="URL of the verifier")
    parser.add_argument("--audience", required=True, help="what tokens call this server")
    parser.add_argument("--base-url", required=True, help="this server as its clients see it")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    app = application(options.issuer, options.audience, options.base_url)
    # "on": an application that cannot be built, for its base URL is none, does not start.
    uvicorn.run(app, host="127.0.0.1", port=options.port, lifespan="on", access_log=False)


if __name__ == "__main__":
    main()
