"""What a ledger publishes, fetched over HTTP: unverified.

Specifications: C2SP tlog-tiles §APIs; docs/ledger.md for the list of shards and the record that
opens one.

Whose fault an answer is decides its type. A resource that the log says it does not have is
``NotPublishedError``: of something that a signed checkpoint covers, the monitor takes it for a
gap. Everything else that hinders is ``TransportError``: no answer, another status, too many bytes.

Not handled on purpose: redirects, proxies from the environment, several prefixes of one log.
"""

from __future__ import annotations

import ssl
import time
from typing import Final
from urllib.parse import urlsplit

import httpx2

from bootlease.errors import MalformedError, TransportError
from bootlease.ledger.governance import MAX_GOVERNANCE
from bootlease.ledger.note import MAX_NOTE
from bootlease.ledger.shardlist import MAX_LIST, ListedShard, parse_shard_list
from bootlease.ledger.tiles import (
    TILE_WIDTH,
    entries_path,
    parse_entries,
    parse_tile,
    tile_path,
)

TIMEOUT: Final = 10.0
"""Seconds for one resource, from connecting to its last byte."""
MAX_BUNDLE: Final = TILE_WIDTH * (2 + 1024)
"""Bytes of an entry bundle: our leaves are some seventy bytes long."""

_OK: Final = 200
_ABSENT: Final = frozenset({404, 410})
_TOO_OFTEN: Final = 429
_TRIES: Final = 4
_MAX_WAIT: Final = 5
"""Seconds to wait before a resource is asked for again, where the log says that this helps."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class NotPublishedError(TransportError):
    """The log answered that it does not have a resource, or gave less of it than there must be."""


class LogSource:
    """A ledger behind HTTP.

    Args:
        url: The verifier's URL; https unless on this machine.
        tls_root: PEM certificates that its TLS certificate must end in, instead of the machine's.
        transport: Carries requests in place of the network, for tests.
        timeout: Seconds for one resource.

    Raises:
        MalformedError: ``url`` is not one, or ``tls_root`` holds no certificate.
    """

    def __init__(
        self,
        url: str,
        *,
        tls_root: str | None = None,
        transport: httpx2.BaseTransport | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as exc:
            raise MalformedError(f"{url!r:.80} is not a URL") from exc
        plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
        if not parts.hostname or (parts.scheme != "https" and not plain):
            raise MalformedError(
                f"{url!r:.80} must be an https URL, or http on this machine: what is published is"
                " signed, but nobody in between may choose what a monitor sees"
            )
        self._prefix = f"{url.rstrip('/')}/ledger"
        self._timeout = timeout
        self._client = httpx2.Client(
            verify=_tls_context(tls_root) if transport is None else True,
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            headers={
                "accept-encoding": "identity",
                "cache-control": "no-cache",
                "user-agent": "bootlease-monitor",
            },
            transport=transport,
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def shards(self) -> tuple[ListedShard, ...]:
        """Return the list of shards.

        Raises:
            TransportError: It cannot be had.
        """
        data = self._get("shards", MAX_LIST)
        try:
            return parse_shard_list(data)
        except MalformedError as exc:
            raise TransportError(f"{self._prefix}/shards is no list of shards: {exc}") from exc

    def checkpoint(self, shard: str) -> bytes:
        """Return the latest checkpoint of a shard.

        Raises:
            TransportError: It cannot be had.
        """
        return self._get(f"{shard}/checkpoint", MAX_NOTE)

    def opening(self, shard: str) -> bytes:
        """Return the governance record that opens a shard.

        Raises:
            TransportError: It cannot be had.
        """
        return self._get(f"{shard}/opening", MAX_GOVERNANCE)

    def tile(self, shard: str, level: int, number: int, width: int) -> tuple[bytes, ...]:
        """Return the first ``width`` hashes of a tile.

        Raises:
            TransportError: It cannot be had.
        """
        data = self._partial(
            shard, tile_path(level, number, width), tile_path(level, number, TILE_WIDTH), width
        )
        try:
            hashes = parse_tile(data)
        except MalformedError as exc:
            raise NotPublishedError(f"tile {level}/{number} of {shard} is damaged: {exc}") from exc
        if len(hashes) < width:
            raise NotPublishedError(
                f"tile {level}/{number} of {shard} has {len(hashes)} hashes of {width}"
            )
        return hashes[:width]

    def entries(self, shard: str, number: int, width: int) -> tuple[bytes, ...]:
        """Return the first ``width`` leaves of an entry bundle.

        Raises:
            TransportError: They cannot be had.
        """
        data = self._partial(
            shard, entries_path(number, width), entries_path(number, TILE_WIDTH), width
        )
        try:
            leaves = parse_entries(data)
        except MalformedError as exc:
            raise NotPublishedError(f"entry bundle {number} of {shard} is damaged: {exc}") from exc
        if len(leaves) < width:
            raise NotPublishedError(
                f"entry bundle {number} of {shard} has {len(leaves)} leaves of {width}"
            )
        return leaves[:width]

    def _partial(self, shard: str, path: str, full: str, width: int) -> bytes:
        # tlog-tiles §Partial Tiles: a log may drop a partial tile once there is the full one.
        try:
            return self._get(f"{shard}/{path}", MAX_BUNDLE)
        except NotPublishedError:
            if width == TILE_WIDTH:
                raise
            return self._get(f"{shard}/{full}", MAX_BUNDLE)

    def _get(self, path: str, at_most: int) -> bytes:
        # A log may slow down whoever catches up with it: then it says how long to wait.
        for _ in range(_TRIES):
            answer = self._ask(path, at_most)
            if isinstance(answer, bytes):
                return answer
            time.sleep(answer)
        raise TransportError(f"{self._prefix}/{path} is asked for too often")

    def _ask(self, path: str, at_most: int) -> bytes | int:
        url = f"{self._prefix}/{path}"
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code in _ABSENT:
                    raise NotPublishedError(f"{url} is not published ({response.status_code})")
                if wait := _pause(response):
                    return wait
                if response.status_code != _OK:
                    raise TransportError(f"{url} answered {response.status_code}")
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > at_most:
                        raise TransportError(f"{url} answered with more than {at_most} bytes")
                    if time.monotonic() > deadline:
                        raise TransportError(f"{url} did not arrive within {self._timeout:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            why = " ".join(str(exc).split())[:200] or type(exc).__name__
            raise TransportError(f"cannot reach {url}: {why}") from exc
        return bytes(body)


def _pause(response: httpx2.Response) -> int:
    text = response.headers.get("retry-after", "")
    if response.status_code != _TOO_OFTEN or not (text.isascii() and text.isdigit()):
        return 0
    # Nobody has signed this: it keeps no monitor waiting for long.
    return min(int(text[:4]), _MAX_WAIT)


def _tls_context(root: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=root)
    except ssl.SSLError as exc:
        raise MalformedError(f"the TLS root cannot be used: {exc.reason}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
