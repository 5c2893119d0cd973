"""Reading bounded files and replacing private ones.

What is written here is a token, a key or the agent's memory: other users see none of it, and
a process that is killed leaves the old content or the new, never half of either.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from bootlease.errors import TransportError

_READ_CHUNK = 1 << 20


def reason(exc: OSError) -> str:
    """Return what the operating system said, without the path it repeats."""
    return exc.strerror or str(exc)


def read_bounded(path: Path, what: str, *, at_most: int, start: int = 0) -> bytes:
    """Read a file to its end, which must not be more than ``at_most`` bytes away.

    Files of securityfs and procfs say that they are empty, so size is not asked for.

    Args:
        path: The file.
        what: Its name in errors, for example ``"event log"``.
        at_most: Bytes that are read at most.
        start: Where to begin.

    Raises:
        TransportError: It cannot be read, or is longer.
    """
    data = bytearray()
    try:
        with path.open("rb", buffering=0) as file:
            if start:
                file.seek(start)
            while chunk := file.read(min(_READ_CHUNK, at_most + 1 - len(data))):
                data += chunk
                if len(data) > at_most:
                    raise TransportError(f"{what} {path} is longer than {at_most} bytes")
    except OSError as exc:
        raise TransportError(f"cannot read {what} {path}: {reason(exc)}") from exc
    return bytes(data)


def replace_private(path: Path, data: bytes, what: str, *, durable: bool = True) -> None:
    """Put ``data`` in place of ``path``, at once, readable by its owner only.

    Args:
        path: The file; its folder must exist.
        data: The new content.
        what: Its name in errors.
        durable: It must outlive a loss of power; otherwise it outlives this process only.

    Raises:
        TransportError: It cannot be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as exc:
        raise TransportError(f"cannot write {what} {path}: {reason(exc)}") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as exc:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise TransportError(f"cannot write {what} {path}: {reason(exc)}") from exc


def remove(path: Path, what: str) -> None:
    """Remove ``path`` if it is there.

    Raises:
        TransportError: It is there and cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise TransportError(f"cannot remove {what} {path}: {reason(exc)}") from exc


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
