"""Counting what clients do, in bounded memory.

Fixed windows: a counter for each key, all of them forgotten when the window turns. A flood of keys
cannot grow the table. Once it is full, keys that are not in it share one counter where asking is
counted, so that the flood slows itself; where failures are, they are not counted, so that nobody
pays for the failures of others.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Final

from bootlease.verifier.limits import Rate

_OTHERS: Final = ("",)
_CUSTOMER_PREFIX: Final = 64


@functools.lru_cache(maxsize=16_384)
def client_at(host: str) -> str:
    """Return the client that an address belongs to."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _CUSTOMER_PREFIX), strict=False))


class RateCounter:
    """Counts events by key and tells when there are too many.

    Args:
        rate: How many are allowed.
        keys: How many keys are told apart.
        shared: Whether further keys share one counter; else they are not counted.

    Attributes:
        rate: How many are allowed by now; another window begins anew.
    """

    __slots__ = ("_counts", "_keys", "_shared", "_window", "rate")

    def __init__(self, rate: Rate, keys: int, *, shared: bool = True) -> None:
        self.rate = rate
        self._shared = shared
        self._keys = keys
        self._window = (0, 0)
        self._counts: dict[tuple[str, ...], int] = {}

    def wait(self, key: tuple[str, ...], now: int) -> int:
        """Return 0 where one more event is allowed, else the seconds to wait."""
        seconds = self.rate.window
        window = (seconds, now // seconds)
        if window != self._window:
            self._window = window
            self._counts = {}
        if self._counts.get(self._slot(key), 0) < self.rate.count:
            return 0
        return seconds - now % seconds

    def count(self, key: tuple[str, ...], now: int) -> int:
        """Count one event; return what ``wait`` said before it."""
        wait = self.wait(key, now)
        slot = self._slot(key)
        if slot is not _OTHERS or self._shared:
            self._counts[slot] = self._counts.get(slot, 0) + 1
        return wait

    def give_back(self, key: tuple[str, ...]) -> None:
        """Undo one count."""
        if self._counts.get(key, 0):
            self._counts[key] -= 1

    def _slot(self, key: tuple[str, ...]) -> tuple[str, ...]:
        if key in self._counts or len(self._counts) < self._keys:
            return key
        return _OTHERS
