"""Where a relying party's keys come from: memory, a file, or the verifier's published set.

Specifications: RFC 7517 §5, RFC 9052 §7.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx2

from bootlease.errors import MalformedError, TransportError
from bootlease.relyingparty.fetching import TIMEOUT, fetch, require_safe
from bootlease.relyingparty.keycache import DEFAULT_MAX_AGE, KeyCache
from bootlease.token.keys import MAX_KEY_SET_BYTES, KeySet


class KeySource(Protocol):
    """Gives the keys to check with."""

    def key_set(self) -> KeySet:
        """Return the keys that count now.

        Raises:
            TransportError: They cannot be had.
        """

    def refresh(self) -> KeySet:
        """Return the keys after a token named one that is not in the set.

        Raises:
            TransportError: They cannot be had.
        """


class StaticKeys:
    """Keys that never change."""

    def __init__(self, keys: KeySet) -> None:
        """Hold ``keys``."""
        self._keys = keys

    def key_set(self) -> KeySet:
        """Return the keys."""
        return self._keys

    def refresh(self) -> KeySet:
        """Return the keys."""
        return self._keys


class FileKeys:
    """Keys in a file: JWK Set, COSE_KeySet or PEM; read again when an unknown key appears."""

    def __init__(self, path: Path) -> None:
        """Read ``path`` once, so that a wrong file is found at the start.

        Raises:
            TransportError: It cannot be read.
            MalformedError: It holds no keys.
        """
        self._path = path
        self._lock = threading.Lock()
        # Before reading: a change in between is then found by the next refresh, not missed.
        self._stamp = self._modified()
        self._keys = self._read()

    def key_set(self) -> KeySet:
        """Return the keys as last read."""
        return self._keys

    def refresh(self) -> KeySet:
        """Read the file again if it was changed."""
        with self._lock:
            stamp = self._modified()
            if stamp != self._stamp:
                self._keys = self._read()
                self._stamp = stamp
        return self._keys

    def _modified(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError as exc:
            raise TransportError(f"cannot read keys from {self._path}: {exc.strerror}") from exc
        return status.st_mtime_ns, status.st_size

    def _read(self) -> KeySet:
        try:
            with self._path.open("rb") as file:
                return KeySet.parse(file.read(MAX_KEY_SET_BYTES + 1))
        except OSError as exc:
            raise TransportError(f"cannot read keys from {self._path}: {exc.strerror}") from exc


class FetchedKeys:
    """Keys that a verifier publishes at a URL, in a ``KeyCache``."""

    def __init__(
        self,
        url: str,
        *,
        client: httpx2.Client | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        max_age: float = DEFAULT_MAX_AGE,
    ) -> None:
        """Prepare to fetch from ``url``; nothing is fetched yet.

        Args:
            url: The verifier's JWK Set or COSE_KeySet; https unless on this machine.
            client: Lends its TLS trust and timeouts.
            monotonic: Seconds of a clock that never goes back.
            max_age: Seconds after which a fetched set is fetched again.

        Raises:
            ValueError: ``url`` is not https.
        """
        self._url = require_safe(url, "a key set")
        self._own_client = client is None
        self._client = client or httpx2.Client(timeout=TIMEOUT)
        self._cache = KeyCache(self._fetch, self._url, monotonic=monotonic, max_age=max_age)

    def key_set(self) -> KeySet:
        """Return the keys, fetched anew when they are old.

        Raises:
            TransportError: The verifier cannot be reached or answers with something else.
        """
        return self._cache.key_set()

    def refresh(self) -> KeySet:
        """Fetch the keys anew, unless that was tried a moment ago.

        Raises:
            TransportError: The verifier cannot be reached or answers with something else.
        """
        return self._cache.refresh()

    def close(self) -> None:
        """Close the connections that are this object's own."""
        if self._own_client:
            self._client.close()

    def _fetch(self) -> KeySet:
        body = fetch(self._client, self._url, at_most=MAX_KEY_SET_BYTES)
        try:
            return KeySet.parse(body)
        except MalformedError as exc:
            raise TransportError(f"{self._url} does not answer with a key set: {exc}") from exc
