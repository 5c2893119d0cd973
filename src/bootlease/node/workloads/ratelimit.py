"""How often somebody may do something: a token bucket for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_REMEMBERED: Final = 1024

Who = TypeVar("Who", bound=Hashable)


@dataclass(slots=True)
class _Bucket:
    left: float
    filled_at: float


class RateLimiter(Generic[Who]):
    """A token bucket for each of those who were seen last.

    Args:
        rate: What flows in, each second.
        size: What a bucket holds.
        now: A clock that does not go back.
    """

    def __init__(self, rate: float, size: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._size = size
        self._now = now
        self._buckets: dict[Who, _Bucket] = {}

    def take(self, who: Who) -> bool:
        """Take one out; False where the bucket is empty."""
        now = self._now()
        bucket = self._buckets.pop(who, None) or _Bucket(self._size, now)
        # The one that was away longest is forgotten first, and full by now as a new one is.
        if len(self._buckets) >= _REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[who] = bucket
        filled = bucket.left + (now - bucket.filled_at) * self._rate
        bucket.left, bucket.filled_at = min(self._size, filled), now
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True
