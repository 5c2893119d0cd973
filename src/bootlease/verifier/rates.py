"""Counting what clients do, in bounded memory.

Fixed windows: a counter for each key, all of them forgotten when the window turns. A flood of keys
cannot grow the table: once it is full, keys that are not in it share one counter.
"""

from __future__ import annotations

from typing import Final

from bootlease.verifier.limits import Rate

_OTHERS: Final = ("",)


class RateCounter:
    """Counts events by key and tells when there are too many.

    Args:
        rate: How many are allowed.
        keys: How many keys are told apart.
    """

    __slots__ = ("_counts", "_keys", "_rate", "_window")

    def __init__(self, rate: Rate, keys: int) -> None:
        self._rate = rate
        self._keys = keys
        self._window = 0
        self._counts: dict[tuple[str, ...], int] = {}

    def wait(self, key: tuple[str, ...], now: int) -> int:
        """Return 0 where one more event is allowed, else the seconds to wait."""
        window = now // self._rate.window
        if window != self._window:
            self._window = window
            self._counts = {}
        if self._counts.get(self._slot(key), 0) < self._rate.count:
            return 0
        return (window + 1) * self._rate.window - now

    def count(self, key: tuple[str, ...], now: int) -> int:
        """Count one event; return what ``wait`` said before it."""
        wait = self.wait(key, now)
        slot = self._slot(key)
        self._counts[slot] = self._counts.get(slot, 0) + 1
        return wait

    def _slot(self, key: tuple[str, ...]) -> tuple[str, ...]:
        if key in self._counts or len(self._counts) < self._keys:
            return key
        return _OTHERS
