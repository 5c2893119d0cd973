"""When a lease ends, on two clocks, and the kernel's timers for it.

A lease ends at its CLOCK_BOOTTIME deadline or at its wall-clock ``exp``, whichever comes first:
the one counts while the machine sleeps and nobody sets it, the other is what relying parties go
by. Setting the wall clock back therefore prolongs nothing.
"""

from __future__ import annotations

import enum
import signal
import time
from dataclasses import dataclass
from typing import Final, Protocol

from bootlease.leash.kernel import CLOCK_BOOTTIME, CLOCK_REALTIME, SignalTimer, TimerFD

NS: Final = 1_000_000_000
BACKSTOP_NS: Final = 20_000_000
"""How long after the end the kernel kills a guard that has not acted: it cannot act any more."""
_LOOKING_NS: Final = 10 * NS
"""How long a guard that has killed may look whether all are gone, before the kernel ends it."""


class Clocks(Protocol):
    """The machine's clocks, in nanoseconds."""

    def boot(self) -> int:
        """Return CLOCK_BOOTTIME."""

    def wall(self) -> int:
        """Return CLOCK_REALTIME."""


class SystemClocks:
    """Those of the running machine."""

    def boot(self) -> int:
        """Return CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall(self) -> int:
        """Return CLOCK_REALTIME."""
        return time.time_ns()


class Due(enum.Enum):
    """What the time demands."""

    NOTHING = "nothing"
    GRACE = "grace"
    """The workload is to be told that its lease is about to end."""
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Term:
    """When a lease ends.

    Attributes:
        boot: CLOCK_BOOTTIME in ns.
        wall: CLOCK_REALTIME in ns.
        grace: ns before either at which the workload is told.
    """

    boot: int
    wall: int
    grace: int = 0

    @classmethod
    def of_grant(
        cls, deadline: float, expires_at: int, life: float, clocks: Clocks, grace: float = 0.0
    ) -> Term:
        """Read it from what the agent granted.

        No lease lives longer from here than it was granted for: an agent that reads another
        CLOCK_BOOTTIME, as one in another time namespace does, prolongs nothing. ``exp`` is counted
        on the boot clock too: the leash has no other, and no wall clock that is set back afterwards
        prolongs anything.
        """
        now, wall = clocks.boot(), expires_at * NS
        boot = min(int(deadline * NS), now + int(life * NS), now + wall - clocks.wall())
        return cls(boot, wall, int(grace * NS))

    def due(self, clocks: Clocks) -> Due:
        """Say what the time demands now."""
        left = -self.past(clocks)
        if left <= 0:
            return Due.OVER
        return Due.GRACE if left <= self.grace else Due.NOTHING

    def past(self, clocks: Clocks) -> int:
        """Return how many ns ago it ended, negative where it has not."""
        return max(clocks.boot() - self.boot, clocks.wall() - self.wall)


class Alarms:
    """Timers of the kernel for a term: two each that wake the guard, let it go on, and kill it.

    A guard that somebody has stopped goes on at the end, and so ends what it holds itself; one
    that is stopped again, or otherwise kept from it, is killed.

    Attributes:
        wakers: Descriptors that become readable when there may be something due.
    """

    def __init__(self) -> None:
        self.wakers: Final = (TimerFD(CLOCK_BOOTTIME), TimerFD(CLOCK_REALTIME))
        self._goings_on, self._deaths = (
            tuple(SignalTimer(clock, number) for clock in (CLOCK_BOOTTIME, CLOCK_REALTIME))
            for number in (signal.SIGCONT, signal.SIGKILL)
        )

    def set(self, term: Term, clocks: Clocks) -> None:
        """Set all for ``term``; what was set before is replaced, at no moment is nothing set."""
        early = term.grace if term.due(clocks) is Due.NOTHING else 0
        for waker, at in zip(self.wakers, (term.boot, term.wall), strict=True):
            waker.set(at - early)
        for going_on, at in zip(self._goings_on, (term.boot, term.wall), strict=True):
            going_on.set(at)
        for death, at in zip(self._deaths, (term.boot, term.wall), strict=True):
            death.set(at + BACKSTOP_NS)

    def told(self, term: Term) -> None:
        """Wake the guard at the end next, the workload having been told of it."""
        for waker, at in zip(self.wakers, (term.boot, term.wall), strict=True):
            waker.set(at)

    def clear(self) -> bool:
        """Take note of a waking; True where somebody set the wall clock."""
        boot, wall = self.wakers
        boot.clear()
        return wall.clear()

    def allow_looking(self, clocks: Clocks) -> None:
        """Let a guard that has killed all live long enough to see it."""
        for death, now in zip(self._deaths, (clocks.boot(), clocks.wall()), strict=True):
            death.set(now + _LOOKING_NS)


class TimeNamespaceError(Exception):
    """This process has a CLOCK_BOOTTIME of its own: it cannot tell when a lease ends."""


def refuse_time_namespace(offsets: str) -> None:
    """Refuse a shifted CLOCK_BOOTTIME; time_namespaces(7).

    Whoever starts the guard where the clock is behind would have its workload run longer.

    Args:
        offsets: What /proc/self/timens_offsets holds; empty where the kernel has no such thing.

    Raises:
        TimeNamespaceError: It is shifted.
    """
    for line in offsets.splitlines():
        name, *numbers = line.split()
        if name in ("boottime", "7") and any(int(number) for number in numbers):
            raise TimeNamespaceError("CLOCK_BOOTTIME is shifted by a time namespace")
