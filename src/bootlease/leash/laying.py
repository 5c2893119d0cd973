"""Making a leash: the guard's side of its beginning.

The strongest hold that the system allows is tried first. A step that fails leaves nothing behind,
and the next weaker one is tried; which one was had is the level.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from bootlease.leash import kernel, messages
from bootlease.leash.cgroup import CgroupError, WorkloadGroup
from bootlease.leash.levels import Level
from bootlease.leash.messages import Message, Report
from bootlease.leash.plan import Hold, Plan
from bootlease.leash.priority import Priority
from bootlease.leash.start import Privileges, Start
from bootlease.leash.sweep import descendants

_ROOT: Final = Path(__file__).resolve().parents[2]
_PROGRAM: Final = (
    f"import sys; sys.path.append({str(_ROOT)!r}); from bootlease.leash.init import main;"
    " main(sys.argv[1:])"
)
_READY_WITHIN: Final = 10.0
_NAMESPACES: Final = kernel.CLONE_NEWPID | kernel.CLONE_NEWNS


class LeashError(Exception):
    """The leash cannot be laid, or broke."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to hold, and how.

    Attributes:
        command: Program and arguments.
        environment: The workload's.
        terminal: Descriptor of the caller's terminal, or -1.
        foreground: The workload gets it at once.
        at_most: Highest level to try.
        keep_capabilities: Leave the workload every capability of the caller.
    """

    command: list[str]
    environment: Mapping[str, str]
    terminal: int
    foreground: bool
    at_most: int
    keep_capabilities: bool


@dataclass(frozen=True, slots=True)
class LaidLeash:
    """A leash that stands; its workload has not started.

    Attributes:
        hold: What holds the workload.
        pid: The leash's pid.
        pidfd: The same as a descriptor; readable once it is gone.
        socket: Descriptor to it.
        group: The workload's cgroup, at level 2.
        lacking: What could not be had, for the log.
    """

    hold: Hold
    pid: int
    pidfd: int
    socket: int
    group: WorkloadGroup | None
    lacking: tuple[str, ...]

    def tell(self, kind: int, first: int = 0) -> None:
        """Send the leash an order; one that is gone is noticed elsewhere."""
        with contextlib.suppress(OSError):
            messages.send(self.socket, kind, first)

    def reports(self) -> Iterator[Message | None]:
        """Yield what it has reported, without waiting; last None where it is gone."""
        message: Message | None
        with contextlib.suppress(BlockingIOError):
            while (message := messages.receive(self.socket)) is not None:
                yield message
            yield None


@dataclass(frozen=True, slots=True)
class _Made:
    """A leash that has been made, and has not yet answered."""

    hold: Hold
    pid: int
    pidfd: int
    socket: int
    group: WorkloadGroup | None = None


def lay(wanted: Wanted, meanwhile: Callable[[], None]) -> LaidLeash:
    """Lay the strongest leash that this system allows.

    The caller has one thread.

    Args:
        wanted: What to hold.
        meanwhile: Done while the leash comes up.

    Raises:
        LeashError: None can be laid.
    """
    lacking: list[str] = []
    for group in _groups(wanted.at_most, lacking):
        try:
            made = _in_namespace(wanted, group)
            meanwhile()
            return _ready(made, lacking)
        except LeashError as exc:
            lacking.append(str(exc))
            if group is not None:
                group.remove()
    made = _in_container(wanted) if os.getpid() == 1 else _alone(wanted)
    meanwhile()
    return _ready(made, lacking)


def _groups(at_most: int, lacking: list[str]) -> Iterator[WorkloadGroup | None]:
    """Yield what to put a namespace's processes into: a group of their own, or none."""
    if at_most >= Level.CGROUP:
        try:
            yield WorkloadGroup.make()
        except CgroupError as exc:
            lacking.append(str(exc))
    if at_most >= Level.NAMESPACE:
        yield None


def _in_namespace(wanted: Wanted, group: WorkloadGroup | None) -> _Made:
    # Seen from inside the new user namespace they are unmapped, until its map is written.
    user = None if kernel.capable(kernel.CAP_SYS_ADMIN) else (os.geteuid(), os.getegid())
    flags = _NAMESPACES | (0 if user is None else kernel.CLONE_NEWUSER)
    ours, theirs = _sockets()
    try:
        pid, pidfd = _clone(flags, group)
    except OSError as exc:
        os.close(ours)
        os.close(theirs)
        raise LeashError(f"no pid namespace: {exc.strerror}") from exc
    if pid == 0:
        _be_leash(wanted, Hold.NAMESPACE, theirs, user)
    os.close(theirs)
    return _Made(Hold.NAMESPACE, pid, pidfd, ours, group)


def _clone(flags: int, group: WorkloadGroup | None) -> tuple[int, int]:
    inside = None if group is None else group.fileno()
    try:
        return kernel.clone(flags, exit_signal=signal.SIGCHLD, cgroup=inside)
    except kernel.KernelError as exc:
        if group is None or exc.errno != errno.ENOSYS:
            raise
    pid, pidfd = kernel.clone(flags, exit_signal=signal.SIGCHLD)
    if pid:
        try:
            (group.folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            _discard(pid, pidfd)
            raise
    return pid, pidfd


def _alone(wanted: Wanted) -> _Made:
    # As of `sh -c 'other & exec bootlease run'`: a sweep knows a guard's descendants by no more
    # than that they are.
    if descendants(os.getpid()):
        raise LeashError(
            "level 0 ends every child of its guard, and this process has children already: start"
            " `bootlease run` in a process of its own"
        )
    return _forked(wanted)


def _forked(wanted: Wanted) -> _Made:
    kernel.adopt_orphans()
    ours, theirs = _sockets()
    pid, pidfd = kernel.clone(0, exit_signal=signal.SIGCHLD)
    if pid == 0:
        _be_leash(wanted, Hold.SWEEP, theirs)
    os.close(theirs)
    return _Made(Hold.SWEEP, pid, pidfd, ours)


def _in_container(wanted: Wanted) -> _Made:
    ours, theirs = _sockets()
    guard = os.fork()
    if guard:
        _be_leash(wanted, Hold.CONTAINER, theirs, guard=guard)
    os.close(theirs)
    kernel.die_with_parent(signal.SIGKILL)
    return _Made(Hold.CONTAINER, 1, os.pidfd_open(1), ours)


def _sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)  # noqa: FBT003 - a parameter of socket
    return ours.detach(), theirs.detach()


def _be_leash(
    wanted: Wanted, hold: Hold, fd: int, user: tuple[int, int] | None = None, *, guard: int = 0
) -> NoReturn:
    try:
        host_root = os.geteuid() == 0 and user is None
        if user is not None:
            # Until its exec: who may not be traced does not own its files in /proc.
            kernel.allow_tracing()
            _map(*user)
        if hold is Hold.NAMESPACE:
            kernel.keep_capabilities()
        left = Privileges.HARMLESS if user is None else Privileges.NONE
        if wanted.keep_capabilities:
            left = Privileges.UNSAFE_ALL
        takes = wanted.terminal if wanted.foreground else -1
        stays = wanted.terminal >= 0
        how = Start(wanted.command, takes, left, Priority.own(), keeps_session=stays)
        plan = Plan(hold, fd, guard, wanted.terminal, how, host_root=host_root)
        for kept in (fd, wanted.terminal):
            if kept >= 0:
                os.set_inheritable(kept, True)  # noqa: FBT003 - a parameter of os
        program = [sys.executable, "-I", "-S", "-c", _PROGRAM, *plan.arguments()]
        os.execve(sys.executable, program, wanted.environment)  # noqa: S606 - the interpreter of this very process
    except OSError as exc:
        words = f"{exc.filename or 'exec'}: {exc.strerror}"
        messages.send(fd, Report.FAILED, exc.errno or 0, 0, words)
    finally:
        os._exit(125)


def _map(uid: int, gid: int) -> None:
    # user_namespaces(7): who writes a map of its own group gives up setgroups(2) first.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        Path(f"/proc/self/{name}").write_text(text)


def _ready(made: _Made, lacking: list[str]) -> LaidLeash:
    poll = select.poll()
    poll.register(made.socket, select.POLLIN)
    message = None
    if poll.poll(_READY_WITHIN * 1000):
        message = messages.receive(made.socket)
    if message is not None and message.kind == Report.READY:
        notes = (*lacking, *filter(None, [message.text]))
        return LaidLeash(made.hold, made.pid, made.pidfd, made.socket, made.group, notes)
    if made.hold is not Hold.CONTAINER:
        _discard(made.pid, made.pidfd)
    os.close(made.socket)
    raise LeashError(message.text if message is not None else "the leash did not answer")


def _discard(pid: int, pidfd: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pidfd)
