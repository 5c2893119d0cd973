"""Ending what is in the leash's own pid namespace, ahead of whatever else wants the processor.

The kernel would end it with the leash, as it does where the leash is killed. But what the kernel
ends so waits, each for its turn, to die; under load that was a tenth of a second and more.

Carried by the leash: nothing is imported that it would not need (see ``kernel``).
"""

from __future__ import annotations

import os
import signal

from bootlease.leash import priority

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_FIRST: Final = 1
_HASTENING: Final = 0.004
"""Seconds that raising priorities may take: the leash's own end is not to wait for it."""


class Namespace:
    """The pid namespace whose first process this is.

    Args:
        shown: /proc shows it, and nothing else.
    """

    def __init__(self, *, shown: bool) -> None:
        # Held open: what is mounted there later, a file system of somebody who answers late say,
        # is not what the end reads.
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if shown else -1

    def end(self) -> None:
        """Kill all that is in it but this process, at once; what forks meanwhile dies too."""
        if os.getpid() != _FIRST:
            # Elsewhere that would be every process of the machine.
            return
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        if self._proc >= 0:
            priority.hasten(self._dying(), self._proc, within=_HASTENING)

    def _dying(self) -> Iterator[int]:
        with os.scandir(self._proc) as entries:
            for entry in entries:
                if entry.name.isdigit() and int(entry.name) != _FIRST:
                    yield int(entry.name)
