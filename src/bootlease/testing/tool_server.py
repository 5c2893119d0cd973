"""A small relying party: a tool server that answers only while the caller's lease lives.

Run it with ``python -m bootlease.testing.tool_server``; the demo does, and so may a test that
wants to see a real 401.
"""

from __future__ import annotations

import argparse
import socket
import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.relyingparty import FetchedKeys, TokenChecker, refusal_for


def tool_server(checker: TokenChecker, *, scope: str, url: str) -> FastAPI:
    """Return an application with one tool, ``GET /search``, behind ``checker``.

    Args:
        checker: Checks token and proof of possession of each request.
        scope: The scope name that a caller needs.
        url: The tool's URL as clients see it, which their proofs must name.
    """
    app = FastAPI(title="tool server", openapi_url=None)

    @app.get("/search")
    def search(request: Request) -> JSONResponse:
        headers = request.headers
        try:
            checked = checker.check_request(
                authorization=headers.get("authorization"),
                dpop=headers.get("dpop"),
                method=request.method,
                url=url,
                scope=scope,
            )
        except (MalformedError, VerificationError) as exc:
            refusal = refusal_for(exc)
            return JSONResponse(
                {"error": str(exc)},
                status_code=refusal.status,
                headers={"WWW-Authenticate": refusal.www_authenticate},
            )
        except TransportError as exc:
            # Without keys nothing can be checked, so nothing is answered.
            return JSONResponse({"error": str(exc)}, status_code=503)
        claims = checked.token.claims
        return JSONResponse({"result": "42 documents", "node": claims.subject})

    return app


def main() -> None:
    """Serve the tool until stopped; print its URL on stdout once it listens."""
    parser = argparse.ArgumentParser(prog="bootlease.testing.tool_server", description=__doc__)
    parser.add_argument("--issuer", required=True, help="URL of the verifier")
    parser.add_argument("--audience", required=True, help="this server's own name")
    parser.add_argument("--scope", default="tool:search", help="scope name that a caller needs")
    options = parser.parse_args()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/search"
        keys = FetchedKeys(f"{options.issuer}/.well-known/jwks.json")
        checker = TokenChecker(keys, issuer=options.issuer, audience=options.audience)
        app = tool_server(checker, scope=options.scope, url=url)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
