"""Answers Envoy whether a request may pass: the service that examples/envoy.yaml asks.

    python examples/ext_authz.py --issuer https://verifier.example \
        --audience https://tools.example --origin https://tools.example

Whoever reaches it can ask in anybody's name: it listens where Envoy alone reaches it.
"""

from __future__ import annotations

import argparse

import uvicorn

from bootlease.relyingparty import FetchedKeys, StreamedContinuity, TokenChecker
from bootlease.relyingparty.extauthz import ExtAuthz, Site

RULES = {"GET /search": "tool:search", "* /repo/acme/*": "repo:acme/*"}


def application(issuer: str, audience: str, origin: str) -> ExtAuthz:
    """Return the service for one verifier and one origin."""
    keys = FetchedKeys(f"{issuer}/.well-known/jwks.json")
    continuity = StreamedContinuity(f"{issuer}/v1/continuity", keys, issuer=issuer)
    checker = TokenChecker(keys, issuer=issuer, audience=audience, continuity=continuity)
    return ExtAuthz([Site(origin, checker, RULES)])


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--issuer", required=True, help="URL of the verifier")
    parser.add_argument("--audience", required=True, help="what tokens call this site")
    parser.add_argument("--origin", required=True, help="where clients reach Envoy")
    parser.add_argument("--port", type=int, default=9001)
    options = parser.parse_args()
    app = application(options.issuer, options.audience, options.origin)
    uvicorn.run(app, host="127.0.0.1", port=options.port, lifespan="off", access_log=False)


if __name__ == "__main__":
    main()
