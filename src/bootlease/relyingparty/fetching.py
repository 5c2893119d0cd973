"""Fetches what a verifier publishes: bounded in time and length, from one configured URL.

RFC 8725 §3.10: the URL is configuration, never a token's ``jku`` or ``iss``.

Not handled on purpose: redirects, which would let whoever answers once choose another source.
"""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import urlsplit

import httpx2

from bootlease.errors import TransportError

TIMEOUT: Final = 5.0
"""Seconds for each step of a request, and for all of it."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def require_safe(url: str, what: str) -> str:
    """Return ``url`` if what comes from there comes from whoever holds its certificate.

    Args:
        url: Where to fetch.
        what: What is fetched, for the message.

    Raises:
        ValueError: It is not https, and not on this machine.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"{what} is fetched by https, or by http from this machine only: {url}")
    return url


def fetch(client: httpx2.Client, url: str, *, at_most: int) -> bytes:
    """Return the body of a GET.

    Raises:
        TransportError: There is none within ``TIMEOUT`` and ``at_most`` bytes.
    """
    deadline = time.monotonic() + TIMEOUT
    body = bytearray()
    try:
        with client.stream("GET", url, follow_redirects=False) as response:
            if response.status_code != httpx2.codes.OK:
                raise TransportError(f"{url} answered {response.status_code}")
            # Not in pieces of a size: those are given when they are full, which may be never.
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > at_most:
                    raise TransportError(f"{url} answered with too much")
                # A byte a second passes every timeout of a single read.
                if time.monotonic() > deadline:
                    raise TransportError(f"{url} answered too slowly")
    except httpx2.HTTPError as exc:
        raise TransportError(f"cannot fetch {url}: {exc}") from exc
    return bytes(body)
