"""The agent's state directory: one agent at a time, what it remembers, what it reports.

``lock`` is held for as long as an agent runs; ``agent.json`` is its memory, ``sent.cbor`` the
renewal that it sent last; ``status.json`` is for people and monitoring; ``claimed.json`` names the
files that leases are handed out in. Directory 0700, files 0600, replaced as a whole. No token and
no private key is kept here.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bootlease.errors import MalformedError, TransportError
from bootlease.node.files import read_bounded, reason, remove, replace_private
from bootlease.node.memory import MAX_MEMORY, MAX_SENT, Memory, Sent, parse_memory
from bootlease.node.status import MAX_STATUS, Status, parse_status

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAX_BOOT_ID: Final = 64
_MAX_CLAIMS: Final = 1 << 20
_LOCK_TRIES: Final = 5
_LOCK_PAUSE: Final = 0.02
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def boot_id() -> str:
    """Return the running boot's random id.

    Raises:
        TransportError: The kernel does not tell.
    """
    text = read_bounded(_BOOT_ID, "boot id", at_most=_MAX_BOOT_ID)
    return text.decode("ascii", "replace").strip()


class StateDirectory:
    """An agent's directory, locked against other agents while it is open."""

    def __init__(self, path: Path) -> None:
        """Make the directory if it is missing, and lock it.

        Raises:
            TransportError: It cannot be made or used, is open to other users, or another agent
                holds it.
        """
        self.path = path
        _make_private(path)
        self._lock = _lock(path / "lock")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another agent have it."""
        os.close(self._lock)

    def load(self) -> Memory:
        """Return what is remembered and still true in this boot.

        Raises:
            MalformedError: The memory is damaged.
            TransportError: It cannot be read.
        """
        return read_memory(self.path)

    def save(self, memory: Memory) -> None:
        """Remember ``memory``.

        Raises:
            TransportError: It cannot be written.
        """
        replace_private(self.path / "agent.json", memory.encode(), "agent state")

    def load_sent(self) -> Sent | None:
        """Return the evidence that was on its way when the agent ended, in this boot.

        Raises:
            TransportError: It cannot be read.
        """
        file = self.path / "sent.cbor"
        if not file.exists():
            return None
        try:
            sent = Sent.parse(read_bounded(file, "evidence on its way", at_most=2 * MAX_SENT))
        except MalformedError:
            # Not durable: after a loss of power it may be empty, and belongs to another boot.
            return None
        return sent if sent.boot_id == boot_id() else None

    def save_sent(self, sent: Sent) -> None:
        """Remember what is about to be sent, until this boot ends.

        Raises:
            TransportError: It cannot be written.
        """
        file = self.path / "sent.cbor"
        replace_private(file, sent.encode(), "evidence on its way", durable=False)

    def claim(self, *paths: Path) -> None:
        """Take files for the lease's own, before anything is written to them or removed.

        What an agent that was killed left there must not pass for a lease of the next one, so it
        is removed; a file that no agent of this directory claimed is somebody else's.

        Raises:
            MalformedError: A file is there that was never claimed, or the record of claims is
                damaged.
            TransportError: The record cannot be read or written, or a leftover not removed.
        """
        record = self.path / "claimed.json"
        known = _claimed(record)
        wanted = [path.absolute() for path in paths]
        for path in wanted:
            if path.exists() and str(path) not in known:
                raise MalformedError(
                    f"{path} is there already, and not from an agent with the state directory"
                    f" {self.path}; remove it or name another file"
                )
        claims = sorted(known | {str(path) for path in wanted})
        replace_private(record, json.dumps(claims).encode(), "record of files")
        for path in wanted:
            remove(path, "file of an earlier lease")

    def report(self, status: Status) -> None:
        """Publish ``status``.

        Raises:
            TransportError: It cannot be written.
        """
        file = self.path / "status.json"
        replace_private(file, status.encode(), "status", durable=False)


def _claimed(record: Path) -> set[str]:
    if not record.exists():
        return set()
    try:
        claims = json.loads(read_bounded(record, "record of files", at_most=_MAX_CLAIMS))
    except (ValueError, RecursionError) as exc:
        raise MalformedError(f"{record} is damaged; remove it to start over") from exc
    if type(claims) is not list or any(type(claim) is not str for claim in claims):
        raise MalformedError(f"{record} is damaged; remove it to start over")
    return set(claims)


def read_memory(path: Path) -> Memory:
    """Return what the agent of state directory ``path`` remembers, true in this boot.

    Raises:
        MalformedError: The memory is damaged.
        TransportError: It cannot be read.
    """
    file, boot = path / "agent.json", boot_id()
    try:
        if not file.exists():
            return Memory(boot)
    except OSError as exc:
        raise TransportError(f"cannot read {file}: {reason(exc)}") from exc
    try:
        memory = parse_memory(read_bounded(file, "agent state", at_most=MAX_MEMORY))
    except MalformedError as exc:
        raise MalformedError(f"{file}: {exc}; remove it to start over") from exc
    return memory.in_boot(boot)


def read_status(path: Path) -> tuple[Status, bool]:
    """Return the status in state directory ``path``, and whether its agent is running.

    Raises:
        MalformedError: The status is damaged.
        TransportError: There is none, or it cannot be read.
    """
    file = path / "status.json"
    try:
        known = file.exists()
    except OSError as exc:
        raise TransportError(f"cannot read {file}: {reason(exc)}") from exc
    if not known:
        raise TransportError(
            f"no agent has run with the state directory {path} (bootlease node run --state)"
        )
    status = parse_status(read_bounded(file, "status", at_most=MAX_STATUS))
    return status, _is_locked(path / "lock")


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as exc:
        raise TransportError(f"cannot use state directory {path}: {reason(exc)}") from exc
    if found.st_uid != os.geteuid():
        raise TransportError(f"state directory {path} belongs to another user")
    # Who can write here can make the agent forget its lineage; who can read learns its node.
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        raise TransportError(f"state directory {path} is open to other users: chmod 700 {path}")


def _lock(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise TransportError(f"cannot use {path}: {reason(exc)}") from exc
    try:
        _lock_exclusively(descriptor)
    except BlockingIOError as exc:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise TransportError(
            f"another agent (process {holder}) uses the state directory {path.parent}"
        ) from exc
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _lock_exclusively(descriptor: int) -> None:
    # ``read_status`` holds the lock for an instant to see whether somebody does.
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
