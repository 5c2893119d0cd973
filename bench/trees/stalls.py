"""Moments in which the machine itself stood still, so that nothing on it could be in time.

On each processor a process of real-time priority, above everything that is measured, does nothing
but look at the clock every two milliseconds. Where it is late, the processor was not there: a
virtual machine's was with somebody else, or waited for memory of its host.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LATE: Final = 0.02
"""Seconds by which a look at the clock is late that is noted."""

_EVERY: Final = 0.002
_PRIORITY: Final = 50
_GOODBYE: Final = 10.0


@dataclass
class Stalls:
    """When processors stood still, as CLOCK_BOOTTIME, once all is over.

    Attributes:
        each: Begin and end.
        possible: Whether such a priority was to be had.
    """

    each: list[tuple[float, float]] = field(default_factory=list)
    possible: bool = True

    def between(self, begin: float, end: float) -> float:
        """Return for how long some processor stood still between two times, at most."""
        common = [min(end, b) - max(begin, a) for a, b in self.each]
        return max([0.0, *common])

    def text(self) -> str:
        """Return what was noted, in words."""
        if not self.possible:
            return "Whether processors stood still was not to be seen without root."
        longest = max((end - begin for begin, end in self.each), default=0.0)
        return (
            f"Processors stood still for more than {LATE * 1000:.0f} ms, as a process of high"
            f" real-time priority on each\nsaw it: {len(self.each)} times"
            + (f", at most {longest * 1000:.0f} ms." if self.each else ".")
        )


@contextlib.contextmanager
def noted_stalls() -> Iterator[Stalls]:
    """Note stalls for the length of a block; they can be read after it."""
    noted = Stalls()
    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    processes = [
        subprocess.Popen(  # noqa: S603 - our own program
            [*command, str(processor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for processor in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield noted
    finally:
        for process in processes:
            said, _ = process.communicate(timeout=_GOODBYE)
            for line in said.splitlines():
                begin, end = map(float, line.split())
                noted.each.append((begin, end))
            noted.possible = noted.possible and process.returncode == 0


def _watch(processor: int) -> int:
    os.sched_setaffinity(0, {processor})
    os.set_blocking(0, False)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        return 1
    last = time.clock_gettime(time.CLOCK_BOOTTIME)
    stalls = []
    while True:
        with contextlib.suppress(BlockingIOError):
            os.read(0, 1)
            break
        time.sleep(_EVERY)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        if now - last > _EVERY + LATE:
            stalls.append((last, now))
        last = now
    for begin, end in stalls:
        sys.stdout.write(f"{begin} {end}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_watch(int(sys.argv[1])))
