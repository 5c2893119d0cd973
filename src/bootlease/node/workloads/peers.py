"""Who is at the other end of a connection, as the kernel tells.

SO_PEERCRED, SO_PEERGROUPS and SO_PEERPIDFD (Linux 6.5) say who connected; what /proc says of that
process counts only if the process still lives after it was read, so that a process id that was
given to another meanwhile tells nothing. Before Linux 6.5 a pid file descriptor is opened by
number: then a process that ends within the same moment may be taken for its successor in the
number, if that one has the same user.

What is not looked at: what the program does, which libraries it loaded, who else may trace it. A
process that may trace another is that other.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.model import legible
from bootlease.node.workloads.statx import FileIdentity, identify

_SO_PEERGROUPS: Final = 59
_SO_PEERPIDFD: Final = 77
_UCRED: Final = struct.Struct("=iII")
_GROUP: Final = struct.Struct("=I")
_MAX_GROUPS: Final = 256
"""Groups of a process that are read: what Python's getsockopt has room for."""
_MAX_CGROUPS: Final = 64 * 1024
_SHOWN: Final = 128
"""Characters of a path that are shown."""
_OVERFLOW_UID: Final = Path("/proc/sys/kernel/overflowuid")
_UNIFIED: Final = ""
_SYSTEMD: Final = "name=systemd"


@functools.cache
def overflow_uid() -> int:
    """Return what the kernel says for every user that has no number in this user namespace."""
    try:
        return int(_OVERFLOW_UID.read_text())
    except (OSError, ValueError):
        return 65534


class PeerGoneError(Exception):
    """The process has ended, or is not to be seen from the agent's pid namespace."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """SO_PEERCRED: who connected.

    Attributes:
        pid: Its process id, in the agent's pid namespace.
        uid: Its effective user.
        gid: Its effective group.
    """

    pid: int
    uid: int
    gid: int

    @property
    def mapped(self) -> bool:
        """The user has a number in the agent's user namespace."""
        return self.uid != overflow_uid()


@dataclass(frozen=True, slots=True)
class Peer:
    """A process as it was when it connected.

    Attributes:
        credentials: Who it is.
        groups: All its groups.
        program: The file that it executes; None where the agent may not see it.
        cgroups: Its path in the unified hierarchy and in systemd's own.
        exe: The path of its program as the kernel tells it. For people: nothing is decided by it,
            since a process can put any program at any path.
    """

    credentials: Credentials
    groups: frozenset[int]
    program: FileIdentity | None
    cgroups: tuple[str, ...]
    exe: str | None = None

    def __str__(self) -> str:
        """Return in one line what of it is compared with rules."""
        who = self.credentials
        user = f"user {who.uid}{'' if who.mapped else ' (nobody, or without a number here)'}"
        exe = "that the agent may not see" if self.exe is None else self.exe
        places = " and ".join(legible(place, at_most=_SHOWN) for place in self.cgroups)
        return f"{user}, group {who.gid}, program {exe}, cgroup {places or 'unknown'}"


class Lifeline:
    """A pid file descriptor: readable once the process has ended.

    Attributes:
        fd: The descriptor; -1 once closed.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @property
    def ended(self) -> bool:
        """The process has ended."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Let go of it; closing again is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def read_credentials(connection: socket.socket) -> Credentials:
    """Return who connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Credentials(*_UCRED.unpack(raw))


def read_peer(
    connection: socket.socket, credentials: Credentials, proc: Path = Path("/proc")
) -> tuple[Peer, Lifeline]:
    """Return what the kernel says of the process that connected, and a hold on its life.

    Raises:
        PeerGoneError: It has ended, or cannot be seen.
    """
    if credentials.pid <= 0:
        raise PeerGoneError("the process is in no pid namespace that is seen from here")
    with contextlib.ExitStack() as stack:
        lifeline = Lifeline(_pidfd(connection, credentials.pid))
        stack.callback(lifeline.close)
        about = proc / str(credentials.pid)
        peer = Peer(
            credentials,
            groups=frozenset((credentials.gid, *_groups(connection))),
            program=identify(f"{about}/exe"),
            cgroups=_cgroups(about / "cgroup"),
            exe=_exe(about / "exe"),
        )
        # Last: what was read is this process's only if it lived until here.
        if lifeline.ended:
            raise PeerGoneError("the process has ended")
        stack.pop_all()
        return peer, lifeline


def _pidfd(connection: socket.socket, pid: int) -> int:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as exc:
        if exc.errno != errno.ENOPROTOOPT:
            raise PeerGoneError("the process has ended") from exc
        return _pidfd_by_number(connection, pid)


def _pidfd_by_number(connection: socket.socket, pid: int) -> int:
    try:
        fd = os.pidfd_open(pid)
        owner = Path(f"/proc/{pid}").stat().st_uid
    except OSError as exc:
        raise PeerGoneError("the process has ended") from exc
    # A number that went to another user's process is noticed. Root owns what cannot be dumped.
    if owner not in {0, read_credentials(connection).uid}:
        os.close(fd)
        raise PeerGoneError("the process has ended")
    return fd


def _groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS * _GROUP.size)
    except OSError:
        # More than are read here: then only its first group counts, which permits less.
        return ()
    return tuple(group for (group,) in _GROUP.iter_unpack(raw))


def _exe(path: Path) -> str | None:
    try:
        # The kernel's own words: no file system is asked.
        return legible(str(path.readlink()), at_most=_SHOWN)
    except OSError:
        return None


def _cgroups(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb", buffering=0) as file:
            text = os.fsdecode(file.read(_MAX_CGROUPS))
    except OSError as exc:
        raise PeerGoneError("the process has ended") from exc
    found = []
    # Not splitlines: a cgroup's name may hold what else Python takes for the end of a line.
    for line in text.split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        # A controller's hierarchy of version 1 says where a limit applies, not whose process it is.
        if line and controllers in {_UNIFIED, _SYSTEMD} and place not in found:
            found.append(place)
    return tuple(found)
