"""The caller's terminal, handed to the workload and taken back, as a shell does with its jobs.

The workload has a process group of its own, so that no signal to a group reaches its guard. It
gets the terminal at once where it looks interactive (input and output are the terminal, and the
guard's group has it), else when it asks, by being stopped for reading in the background. Taken
from a pipeline that is still running, it would stop the others in it.

Specifications: POSIX.1-2017 XBD 11.1.4 (job control), tcsetpgrp(3).
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

_LOWEST: Final = 10


class Terminal:
    """The controlling terminal, if standard input, output or error is one.

    Attributes:
        fd: A descriptor of it, or -1.
        ours: The guard's process group had it when this was made, and the workload looks
            interactive.
    """

    def __init__(self) -> None:
        self.fd = -1
        self.ours = False
        self._given = False
        for fd in range(3):
            with contextlib.suppress(OSError):
                foreground = os.tcgetpgrp(fd)
                self.fd = _copy(fd)
                self.ours = foreground == os.getpgrp() and os.isatty(0) and os.isatty(1)
                self._given = self.ours
                return

    def give_if_ours(self) -> bool:
        """Tell whether the workload may have the terminal now: its caller's group has it."""
        if self.fd < 0:
            return False
        with contextlib.suppress(OSError):
            self._given = os.tcgetpgrp(self.fd) == os.getpgrp()
            return self._given
        return False

    def take_back(self) -> None:
        """Make the guard's group the foreground again, if the workload had been."""
        if not self._given:
            return
        self._given = False
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        with contextlib.suppress(OSError):
            os.tcsetpgrp(self.fd, os.getpgrp())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop_job(self) -> bool:
        """Stop the guard as Ctrl-Z does; tell, once it goes on, whether the terminal is its own.

        The lease runs on meanwhile, and ends: a guard that is stopped renews nothing.
        """
        self.take_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        return self.give_if_ours()


def _copy(fd: int) -> int:
    import fcntl  # noqa: PLC0415 - only where there is a terminal

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
