"""The machine's clocks, behind ``ports.Clock``."""

from __future__ import annotations

import time


class SystemClock:
    """Wall clock and CLOCK_BOOTTIME of the running machine."""

    def now(self) -> int:
        """Return whole seconds since the epoch."""
        return int(time.time())

    def boottime(self) -> float:
        """Return seconds since boot.

        CLOCK_MONOTONIC stands still while the machine sleeps; a lease does not.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)
