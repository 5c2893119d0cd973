"""What the guard tells the leash when it makes it."""

from __future__ import annotations

import enum
import os
import signal

from bootlease.leash import priority
from bootlease.leash.start import Privileges, Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

FORWARDED: Final = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT),
)
"""Signals that whoever runs the guard means for the workload; SIGTSTP comes to them."""
_STDERR: Final = 2
_NUMBERS: Final = 9


class Hold(enum.IntEnum):
    """What holds the workload's processes together."""

    NAMESPACE = 0
    """A pid namespace whose first process the leash is."""
    CONTAINER = 1
    """The same, but somebody else made it: the leash is the container's first process."""
    SWEEP = 2
    """Nothing but parentage."""


class Plan:
    """A leash to be, as arguments of its command line.

    Attributes:
        hold: What holds the workload.
        socket: Descriptor to the guard.
        guard: Pid of the guard, where it is a child of the leash; else 0.
        terminal: Descriptor of the caller's terminal, or -1.
        host_root: The workload has the host's root as its user.
        start: How the workload is started.
    """

    __slots__ = ("guard", "hold", "host_root", "socket", "start", "terminal")

    def __init__(
        self,
        hold: Hold,
        socket: int,
        guard: int,
        terminal: int,
        start: Start,
        *,
        host_root: bool,
    ) -> None:
        self.hold = hold
        self.socket = socket
        self.guard = guard
        self.terminal = terminal
        self.start = start
        self.host_root = host_root

    def arguments(self) -> list[str]:
        """Return it as arguments."""
        caller = self.start.caller
        numbers = (
            *(self.hold, self.socket, self.guard, self.terminal, self.host_root),
            *(self.start.terminal, self.start.privileges, caller.policy, caller.nice),
        )
        return [*(str(int(number)) for number in numbers), *self.start.command]

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Plan:
        """Read what ``arguments`` wrote."""
        hold, socket, guard, terminal, root, *rest = map(int, arguments[:_NUMBERS])
        takes, privileges, policy, nice = rest
        caller = priority.Priority(policy, nice)
        command = list(arguments[_NUMBERS:])
        stays = terminal >= 0
        how = Start(command, takes, Privileges(privileges), caller, keeps_session=stays)
        return cls(Hold(hold), socket, guard, terminal, how, host_root=bool(root))


def occupy_standard_descriptors() -> None:
    """Let nothing that is opened get the number of a standard descriptor that the caller closed.

    The workload finds it closed as the caller left it.
    """
    fd = 0
    while fd <= _STDERR:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.close(fd)
