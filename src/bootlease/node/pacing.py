"""When an agent tries again.

Specification: design of the node: renewal at a third of the life with jitter, backoff with
jitter; RFC 9110 §10.2.3 (Retry-After).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

RENEW_FRACTION: Final = 3
"""A lease is renewed after one third of its life: two more tries fit before it lapses."""
_SPREAD: Final = 0.1
_DOUBLINGS: Final = 16

Jitter = Callable[[], float]
"""Gives numbers evenly spread from 0 (included) to 1 (excluded)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting times that double with each failure in a row.

    Attributes:
        first: Seconds after the first failure, at most.
        longest: Seconds after any failure, at most.
    """

    first: float
    longest: float

    def delay(self, failures: int, jitter: Jitter) -> float:
        """Return the seconds to wait after ``failures`` failures in a row, at least one.

        Between half of the doubled time and the whole: a fleet that lost its verifier together
        does not come back together.
        """
        full = min(self.longest, self.first * float(1 << min(failures - 1, _DOUBLINGS)))
        return full * (0.5 + 0.5 * jitter())


UNREACHABLE: Final = Backoff(first=1.0, longest=30.0)
REFUSED: Final = Backoff(first=15.0, longest=300.0)
DENIED: Final = Backoff(first=30.0, longest=900.0)
"""Of one wish that is denied while others are granted: policy changes seldom."""


def renewal_delay(life: float, left: float, jitter: Jitter) -> float:
    """Return the seconds from a grant to its renewal: a third of the life, or a little less.

    Args:
        life: Seconds that leases live, counted from their challenge.
        left: Seconds that this one has left; one granted on an older challenge has fewer.
        jitter: Source of jitter.
    """
    return min(life / RENEW_FRACTION, left / 2) * (1.0 - _SPREAD * jitter())
