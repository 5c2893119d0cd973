"""The workload's first process: what happens to it between fork and exec.

It gets a process group of its own (a session where its caller has no terminal), the terminal if its
caller had that, the descriptors 0 to 2 and no other, its caller's scheduling, and no privilege with
which it could undo its leash.
"""

from __future__ import annotations

import enum
import errno
import os
import signal
import struct

from bootlease.leash import barred, kernel, priority

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

_CAP_SETPCAP: Final = 8
_STDERR: Final = 2
_ERROR: Final = struct.Struct("<ii")
_UNDOING: Final = frozenset(
    {
        *(16, 17, 19, 21, 22),  # SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, SYS_BOOT
        *(23, 24, 25, 27),  # SYS_NICE, SYS_RESOURCE, SYS_TIME, MKNOD
        *(32, 33, 38, 39, 40),  # MAC_OVERRIDE, MAC_ADMIN, PERFMON, BPF, CHECKPOINT_RESTORE
    }
)
"""Capabilities that reach the kernel itself, the processes outside, or the leash."""
_ALL: Final = frozenset(range(64))


class Privileges(enum.IntEnum):
    """Which capabilities the workload is left."""

    NONE = 0
    """None: it has a user namespace, whose capabilities its caller did not have."""
    HARMLESS = 1
    """The caller's, but for those with which it could undo its leash."""
    UNSAFE_ALL = 2
    """The caller's."""


class StartError(Exception):
    """The workload was not started.

    Attributes:
        number: errno.
        executing: The command could not be executed; all before it was well.
    """

    def __init__(self, number: int, *, executing: bool) -> None:
        super().__init__(os.strerror(number))
        self.number = number
        self.executing = executing


class Start:
    """How to start the workload.

    Attributes:
        command: Program and arguments.
        terminal: Descriptor of the terminal to take, or -1.
        keeps_session: It stays in its caller's session, whose terminal it may want.
        privileges: What it is left.
        caller: How it is scheduled.
    """

    __slots__ = ("caller", "command", "keeps_session", "privileges", "terminal")

    def __init__(
        self,
        command: list[str],
        terminal: int,
        privileges: Privileges,
        caller: priority.Priority,
        *,
        keeps_session: bool,
    ) -> None:
        self.command = command
        self.keeps_session = keeps_session
        self.terminal = terminal
        self.privileges = privileges
        self.caller = caller


def start(how: Start) -> int:
    """Start the workload and return its pid once it is executing the command.

    Raises:
        StartError: It is not.
        OSError: There was no process or descriptor to be had.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(how, tell)
    os.close(tell)
    try:
        failure = os.read(told, _ERROR.size)
    finally:
        os.close(told)
    if failure:
        os.waitpid(pid, 0)
        number, executing = _ERROR.unpack(failure)
        raise StartError(number, executing=bool(executing))
    return pid


def _become(how: Start, tell: int) -> NoReturn:
    executing = False
    try:
        if how.keeps_session:
            os.setpgid(0, 0)
        else:
            # The scheduler shares time out by session: a hundred busy processes in one of their
            # own take from the guard what one would.
            os.setsid()
        if how.terminal >= 0:
            _take(how.terminal)
        tell = _leave_open(tell)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # Who may not be traced owns none of its files in /proc, and root's are not an ordinary
        # user's to write.
        kernel.allow_tracing()
        priority.become_ordinary_victim()
        kernel.forbid_tracing()
        how.caller.restore()
        # For a leash that is no namespace's first process, whose end would end all.
        kernel.die_with_parent(signal.SIGKILL)
        _give_up(how.privileges)
        executing = True
        os.execvp(how.command[0], how.command)  # noqa: S606 - the very purpose
    except OSError as exc:
        os.write(tell, _ERROR.pack(exc.errno or errno.EINVAL, executing))
    finally:
        os._exit(127)


def _leave_open(tell: int) -> int:
    os.dup2(tell, _STDERR + 1, inheritable=False)
    return _STDERR + 1


def _take(terminal: int) -> None:
    # A background process that takes the terminal is stopped, unless it holds this back.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    os.tcsetpgrp(terminal, os.getpid())


def _give_up(privileges: Privileges) -> None:
    kernel.forbid_new_privileges()
    kernel.close_from(_STDERR + 2)
    if privileges is Privileges.NONE:
        kernel.drop_capabilities(())
    elif privileges is Privileges.HARMLESS and kernel.capable(_CAP_SETPCAP):
        kernel.drop_capabilities(_ALL - _UNDOING)
    if privileges is not Privileges.UNSAFE_ALL:
        kernel.filter_system_calls(barred.program())
