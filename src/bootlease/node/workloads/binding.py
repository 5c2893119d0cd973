"""The socket that the agent listens on: made, taken over, or handed in.

Clients find the agent by a path, so nobody else may be able to put something else there: every
folder on the way belongs to root or to the agent's user, and others may write there only where the
sticky bit keeps them from what is not theirs. A socket that nobody listens on is left over from an
agent that was killed, and is replaced. Anything else at the path is left alone, and an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.errors import TransportError

BACKLOG: Final = 128
MAX_PATH: Final = 107
"""Bytes of sun_path (unix(7)), without its end."""
_PRIVATE: Final = 0o177
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens.

    Attributes:
        socket: It.
        close: Stops listening, and removes what was made for it.
    """

    socket: socket.socket
    close: Callable[[], None]


def listen(path: Path, *, mode: int, gid: int | None = None) -> Listener:
    """Listen at ``path``.

    Args:
        path: Where.
        mode: Who may connect; rules decide what they may have.
        gid: The socket's group.

    Raises:
        TransportError: Something else is there, an agent listens there already, or the folder is
            not safe.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise TransportError(f"{path}: the path of a socket has at most {MAX_PATH} bytes")
    _make_folder(path.parent)
    check_folder(path.parent, os.geteuid())
    try:
        _remove_stale(path)
        made = _bind(path, mode, gid)
        there = path.lstat()
    except OSError as exc:
        raise TransportError(f"cannot listen at {path}: {exc.strerror or exc}") from exc
    return Listener(made, lambda: _close(made, path, (there.st_dev, there.st_ino)))


def adopt(given: socket.socket) -> Listener:
    """Take over a socket that listens already (systemd's socket activation).

    Raises:
        TransportError: It is none.
    """
    listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if given.family != socket.AF_UNIX or given.type != socket.SOCK_STREAM or not listens:
        raise TransportError("the socket that was handed in is no Unix stream socket that listens")
    given.setblocking(False)  # noqa: FBT003 - the standard library's way
    return Listener(given, given.close)


def check_folder(folder: Path, uid: int) -> None:
    """See that nobody but root and ``uid`` can put something else at a path in ``folder``.

    Raises:
        TransportError: Somebody can, or it cannot be seen.
    """
    try:
        # Links are followed to where they lead, and every folder on that way is looked at.
        real = folder.resolve(strict=True)
        for part in (real, *real.parents):
            found = part.stat()
            shared = found.st_mode & _OTHERS and not (part != real and found.st_mode & stat.S_ISVTX)
            if found.st_uid not in {0, uid} or shared:
                raise TransportError(
                    f"cannot listen in {folder}: others may put something else at {part}"
                )
    except OSError as exc:
        raise TransportError(f"cannot listen in {folder}: {exc.strerror or exc}") from exc


def _make_folder(folder: Path) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o755)
    except OSError as exc:
        raise TransportError(f"cannot listen in {folder}: {exc.strerror or exc}") from exc


def _remove_stale(path: Path) -> None:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise TransportError(f"cannot listen at {path}: it is no socket, and is left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        found = probe.connect_ex(str(path))
    if found != errno.ECONNREFUSED:
        raise TransportError(f"cannot listen at {path}: another agent listens there")
    path.unlink()


def _bind(path: Path, mode: int, gid: int | None) -> socket.socket:
    with contextlib.ExitStack() as stack:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        stack.callback(made.close)
        # Nobody connects before group and mode are what they are to be.
        before = os.umask(_PRIVATE)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        if gid is not None:
            os.chown(path, -1, gid, follow_symlinks=False)
        path.chmod(mode)
        made.listen(BACKLOG)
        stack.pop_all()
        return made


def _close(made: socket.socket, path: Path, identity: tuple[int, int]) -> None:
    made.close()
    with contextlib.suppress(OSError):
        there = path.lstat()
        # What is there now may be the next agent's.
        if (there.st_dev, there.st_ino) == identity:
            path.unlink()
