"""A clock that tests set by hand; implements ``bootlease.ports.Clock``."""

from __future__ import annotations


class SetClock:
    """Both clocks of a machine, moved only when told to.

    Attributes:
        wall: Seconds since the epoch.
        boot: Seconds since boot, CLOCK_BOOTTIME.
    """

    def __init__(self, wall: float = 1_800_000_000.0, boot: float = 1000.0) -> None:
        """Set both clocks."""
        self.wall = wall
        self.boot = boot

    def now(self) -> int:
        """Return whole seconds since the epoch."""
        return int(self.wall)

    def boottime(self) -> float:
        """Return seconds since boot."""
        return self.boot

    def pass_time(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        if seconds < 0:
            raise ValueError("time does not go back; set the wall clock to move it")
        self.wall += seconds
        self.boot += seconds
