"""Remembers which proofs were used, in bounded memory (RFC 9449 §11.1)."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from bootlease.errors import VerificationError
from bootlease.model import Finding

DEFAULT_CAPACITY: Final = 100_000
"""About 20 MB: 1,500 requests a second for the 70 seconds a proof may pass."""


class ReplayCache:
    """Takes each key once within its time; full means refuse, never forget.

    Forgetting the oldest under load would let an attacker flush a proof out and use it again.
    """

    def __init__(self, *, keep: float, capacity: int = DEFAULT_CAPACITY) -> None:
        """Remember every key for ``keep`` seconds, at most ``capacity`` of them at once."""
        if keep <= 0 or capacity <= 0:
            raise ValueError("a replay cache keeps something for some time")
        self._keep = keep
        self._capacity = capacity
        self._seen: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()
        self._lock = threading.Lock()

    @property
    def keep(self) -> float:
        """Seconds for which a key is remembered."""
        return self._keep

    def take(self, key: bytes, *, now: float) -> None:
        """Use ``key``, for the first and only time.

        Args:
            key: Names a proof; of bounded length.
            now: Seconds on the clock that also judged the proof's age.

        Raises:
            VerificationError: It was used before, or there is no room to remember it.
        """
        with self._lock:
            while self._order and self._order[0][0] <= now:
                self._seen.discard(self._order.popleft()[1])
            if key in self._seen:
                raise VerificationError(
                    Finding("pop.replayed", "The proof of possession was used before.")
                )
            if len(self._seen) >= self._capacity:
                raise VerificationError(
                    Finding(
                        "pop.replay.full",
                        "Too many proofs are remembered to tell whether this one is new.",
                    )
                )
            self._seen.add(key)
            self._order.append((now + self._keep, key))
