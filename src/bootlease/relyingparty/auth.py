"""The client's side: an httpx authentication that presents a lease with every request.

Specification: RFC 9449 §4 and §7.1. Each request gets the token that counts now and a proof of
possession of its own, made with the confirmation key for this method and URL.

It is a ``httpx2.Auth``, and a callable, which ``httpx`` takes as well (without the second try).

Not handled: nonces of a server (§8), which no bootlease relying party asks for.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx2

from bootlease.relyingparty.tokensource import Presentable, TokenSource
from bootlease.token import make_proof

_JTI_BYTES: Final = 16
_PORTS: Final = {"http": 80, "https": 443}

Request = TypeVar("Request", bound=httpx2.Request)


class LeaseAuth(httpx2.Auth):
    """Presents the lease to one relying party, and to nobody else."""

    def __init__(
        self, source: TokenSource, *, origin: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Prepare to present.

        Args:
            source: Gives the token and its key.
            origin: The relying party's scheme, host and port, such as ``https://tools.example``;
                requests to others pass without a token, also where a redirect leads there.
            clock: Seconds since the epoch.

        Raises:
            ValueError: ``origin`` is none.
        """
        parts = urlsplit(origin)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{origin!r:.80} is not an origin such as https://tools.example")
        self._source = source
        self._origin = _origin(origin)
        self._clock = clock

    def __call__(self, request: Request) -> Request:
        """Attach token and proof.

        Raises:
            TransportError: There is no token that has not expired.
        """
        if self._concerns(request):
            self._attach(request, self._source.current())
        return request

    def sync_auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send with token and proof; once more where a newer token has come meanwhile."""
        if not self._concerns(request):
            yield request
            return
        first = self._source.current()
        response = yield self._attach(request, first)
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            second = self._source.current()
            if second.token != first.token:
                yield self._attach(request, second)

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Do the same; a source that reads files or asks somebody does so in a thread."""
        if not self._concerns(request):
            yield request
            return
        first = await asyncio.to_thread(self._source.current)
        response = yield self._attach(request, first)
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            second = await asyncio.to_thread(self._source.current)
            if second.token != first.token:
                yield self._attach(request, second)

    def _concerns(self, request: httpx2.Request) -> bool:
        return _origin(str(request.url)) == self._origin

    def _attach(self, request: Request, found: Presentable) -> Request:
        request.headers["Authorization"] = f"DPoP {found.token}"
        request.headers["DPoP"] = make_proof(
            found.signer,
            htm=request.method,
            htu=str(request.url),
            iat=int(self._clock()),
            jti=secrets.token_urlsafe(_JTI_BYTES),
            access_token=found.token,
        )
        return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
