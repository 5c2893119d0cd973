"""When the garbage collector walks all that the verifier holds.

What is remembered of each node is some 25 objects. The collector decides by their growth when to
walk all of them again: with 10,000 nodes every four seconds, and no answer is given for 180 ms each
time. Nearly everything is freed without it, by its last reference; what it is for, cycles that
lived long enough to be old, makes the process grow, and only growth calls for a walk.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

GROWTH: Final = 64 * 1024 * 1024
"""Bytes beyond a quarter more than after the last walk."""
_QUARTER: Final = 4
_NEVER: Final = 2**31 - 1
_STATM: Final = Path("/proc/self/statm")


def resident() -> int:
    """Return the bytes of memory that this process occupies."""
    return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()


class Collector:
    """Walks everything once the process has grown; young objects are left to the interpreter.

    Args:
        resident: Bytes that the process occupies.
    """

    def __init__(self, resident: Callable[[], int] = resident) -> None:
        self._resident = resident
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)
        self._walk()

    def look(self) -> bool:
        """Walk everything if the process has grown since the last time, and tell whether."""
        if self._resident() <= self._settled + self._settled // _QUARTER + GROWTH:
            return False
        gc.unfreeze()
        self._walk()
        return True

    def _walk(self) -> None:
        gc.collect()
        # What is left stays for long: it need not be walked with what comes after it.
        gc.freeze()
        self._settled = self._resident()
