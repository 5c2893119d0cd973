"""Who gets in: counts connections, and keeps any user from taking the place of all others.

A process that no rule speaks of gets an answer that says so, and hardly any room to wait for it.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable

from bootlease.node.workloads.limits import FDS_APART, FDS_PER_CONNECTION, Limits
from bootlease.node.workloads.ratelimit import RateLimiter


class Admission:
    """Counts who is inside.

    Args:
        limits: Bounds.
        now: A clock that does not go back.
    """

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._inside: Counter[int] = Counter()
        self._strangers: Counter[int] = Counter()
        self._arrivals: RateLimiter[int] = RateLimiter(limits.rate, limits.burst, now)
        self.room = min(limits.connections, _descriptors())

    def __len__(self) -> int:
        return self._inside.total()

    def admits(self, uid: int) -> bool:
        """Tell whether one more connection of ``uid`` is let in, before anything is known of it."""
        if not self._arrivals.take(uid):
            return False
        if self._inside[uid] >= self._limits.per_uid or len(self) >= self.room:
            return False
        self._inside[uid] += 1
        return True

    def admits_stranger(self, uid: int) -> bool:
        """Tell whether one that is inside may stay although no rule speaks of it."""
        if self._strangers[uid] >= self._limits.strangers_per_uid:
            return False
        if self._strangers.total() >= self._limits.strangers:
            return False
        self._strangers[uid] += 1
        return True

    def left(self, uid: int, *, stranger: bool) -> None:
        """Take note that one has left."""
        for counter in (self._inside, self._strangers) if stranger else (self._inside,):
            counter[uid] -= 1
            if not counter[uid]:
                del counter[uid]


def _descriptors() -> int:
    """Return how many connections the process's file descriptors are enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FDS_APART + FDS_PER_CONNECTION * 2048
    if soft < min(hard, wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
        soft = min(hard, wanted)
    return max(FDS_PER_CONNECTION, (soft - FDS_APART) // FDS_PER_CONNECTION)
