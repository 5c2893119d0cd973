"""A published key set, fetched when it is old and when an unknown key is named, but seldom.

Everything that decides when keys are fetched, and how long they count, lives in this file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from bootlease.errors import TransportError

DEFAULT_MAX_AGE: Final = 300.0
"""Seconds after which a fetched set is fetched again."""

MIN_INTERVAL: Final = 10.0
"""Seconds between fetches, however many tokens name unknown keys: strangers cannot cause more."""


class _Keys(Protocol):
    @property
    def keys(self) -> Sequence[object]:
        """The keys."""


Keys = TypeVar("Keys", bound=_Keys)


class KeyCache(Generic[Keys]):
    """Keys as they were fetched last.

    A set older than ``max_age`` that cannot be fetched anew is not used: a key may have been
    withdrawn because it was stolen.

    Args:
        fetch: Fetches them, or raises ``TransportError``.
        url: From where, for messages.
        monotonic: Seconds of a clock that never goes back.
        max_age: Seconds after which a fetched set is fetched again.
    """

    def __init__(
        self,
        fetch: Callable[[], Keys],
        url: str,
        *,
        monotonic: Callable[[], float],
        max_age: float,
    ) -> None:
        self._fetch = fetch
        self._url = url
        self._monotonic = monotonic
        self._max_age = max_age
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._fetched = self._tried = float("-inf")

    def key_set(self) -> Keys:
        """Return the keys, fetched anew when they are old.

        Raises:
            TransportError: They cannot be had.
        """
        keys = self._keys
        if keys is not None and self._monotonic() - self._fetched < self._max_age:
            return keys
        return self.refresh()

    def refresh(self) -> Keys:
        """Fetch the keys anew, unless that was tried a moment ago.

        Raises:
            TransportError: They cannot be had.
        """
        with self._lock:
            now = self._monotonic()
            if now - self._tried < MIN_INTERVAL:
                if self._keys is not None and now - self._fetched < self._max_age:
                    return self._keys
                raise TransportError(f"keys could not be fetched from {self._url} a moment ago")
            self._tried = now
            fetched = self._fetch()
            # The same keys stay the same object, so that what was cached under them still counts.
            if self._keys is None or fetched.keys != self._keys.keys:
                self._keys = fetched
            self._fetched = now
            return self._keys
