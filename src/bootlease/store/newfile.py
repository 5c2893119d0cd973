"""Writing a file that appears whole and durable, or not at all."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootlease.ports import StoreUnavailableError


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Lend a file beside ``target``, of mode 0600, that becomes it whole or leaves no trace.

    Raises:
        StoreUnavailableError: It exists or cannot be written.
    """
    try:
        if target.exists():
            raise StoreUnavailableError(f"{target} exists; it is left as it is")
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            yield partial
            _sync(partial)
            # Unlike a rename, a link replaces nobody's file.
            os.link(partial, target)
            _sync(target.parent)
        finally:
            for leftover in (partial, *(Path(f"{partial}{end}") for end in ("-wal", "-shm"))):
                leftover.unlink(missing_ok=True)
    except sqlite3.Error as exc:
        raise StoreUnavailableError(f"{target}: {exc}") from exc
    except OSError as exc:
        raise StoreUnavailableError(f"{target}: {exc.strerror}") from exc


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
