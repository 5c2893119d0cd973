"""Where a receiver of security events has its verifier's event keys from.

Specification: OpenID Shared Signals Framework 1.0 §7 (transmitter configuration): the issuer's URL
leads to the configuration, and that to the keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx2

from bootlease.errors import MalformedError, TransportError
from bootlease.relyingparty.fetching import TIMEOUT, fetch, require_safe
from bootlease.relyingparty.keycache import DEFAULT_MAX_AGE, KeyCache
from bootlease.token import strictjson
from bootlease.token.eventkeys import EventKeySet
from bootlease.token.keys import MAX_KEY_SET_BYTES

WELL_KNOWN: Final = "/.well-known/ssf-configuration"
MAX_CONFIGURATION: Final = 16 * 1024


class EventKeySource(Protocol):
    """Gives the keys to check events with."""

    def key_set(self) -> EventKeySet:
        """Return the keys that count now.

        Raises:
            TransportError: They cannot be had.
        """

    def refresh(self) -> EventKeySet:
        """Return the keys after an event named one that is not in the set.

        Raises:
            TransportError: They cannot be had.
        """


class StaticEventKeys:
    """Keys that never change."""

    def __init__(self, keys: EventKeySet) -> None:
        """Hold ``keys``."""
        self._keys = keys

    def key_set(self) -> EventKeySet:
        """Return the keys."""
        return self._keys

    def refresh(self) -> EventKeySet:
        """Return the keys."""
        return self._keys


class FetchedEventKeys:
    """Keys that a verifier publishes, found through its configuration, in a ``KeyCache``."""

    def __init__(
        self,
        issuer: str,
        *,
        url: str | None = None,
        client: httpx2.Client | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        max_age: float = DEFAULT_MAX_AGE,
    ) -> None:
        """Prepare to fetch; nothing is fetched yet.

        Args:
            issuer: The verifier's URL, exact; https unless on this machine.
            url: Where its configuration is, if not where the specification says.
            client: Lends its TLS trust and timeouts.
            monotonic: Seconds of a clock that never goes back.
            max_age: Seconds after which fetched keys are fetched again.

        Raises:
            ValueError: The configuration is not at an https URL.
        """
        self._issuer = issuer
        self._url = require_safe(url or configuration_url(issuer), "a transmitter's configuration")
        self._client = client
        self._cache = KeyCache(self._fetch, self._url, monotonic=monotonic, max_age=max_age)

    def key_set(self) -> EventKeySet:
        """Return the keys, fetched anew when they are old.

        Raises:
            TransportError: The verifier cannot be reached or answers with something else.
        """
        return self._cache.key_set()

    def refresh(self) -> EventKeySet:
        """Fetch the keys anew, unless that was tried a moment ago.

        Raises:
            TransportError: The verifier cannot be reached or answers with something else.
        """
        return self._cache.refresh()

    def _fetch(self) -> EventKeySet:
        if self._client is not None:
            return self._fetch_by(self._client)
        # So seldom that no connection is worth keeping.
        with httpx2.Client(timeout=TIMEOUT) as client:
            return self._fetch_by(client)

    def _fetch_by(self, client: httpx2.Client) -> EventKeySet:
        try:
            url = self._keys_url(fetch(client, self._url, at_most=MAX_CONFIGURATION))
            return EventKeySet.from_jwks(fetch(client, url, at_most=MAX_KEY_SET_BYTES))
        except (MalformedError, ValueError) as exc:
            raise TransportError(f"{self._url} leads to no event keys: {exc}") from exc

    def _keys_url(self, body: bytes) -> str:
        members = strictjson.parse_object(body)
        if members.get("issuer") != self._issuer:
            # SSF §7.2.4: else one transmitter could speak for another.
            raise MalformedError("the configuration is another issuer's")
        url = members.get("jwks_uri")
        if type(url) is not str:
            raise MalformedError("the configuration names no jwks_uri")
        return require_safe(url, "a key set")


def configuration_url(issuer: str) -> str:
    """Return where an issuer's configuration is: before the path that the issuer has (SSF §7.2)."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path}"
