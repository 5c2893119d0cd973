"""What a witness remembers: for each log the largest tree that it cosigned.

SQLite from the standard library, ``synchronous=FULL``: what ``advance`` returned from is on disk.
Whether a tree may take another's place is decided by the database, in the statement that writes,
so that of two requests which extend one tree only one wins, also between processes.

A witness must never be restored from a backup: it would cosign a second history of what it saw
since. One that has lost its state has lost its key's worth: make another, with another key.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.errors import MalformedError, TransportError
from bootlease.ledger.merkle import EMPTY_ROOT

MAX_LOGS: Final = 10_000
"""Origins remembered; only a key that the operator configured can add one."""
MAX_CONFLICTS: Final = 100
"""Checkpoints kept as evidence, for each origin; the first are the ones that matter."""

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE latest (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL CHECK (size >= 0),
    root BLOB NOT NULL CHECK (length(root) = 32),
    checkpoint BLOB NOT NULL,
    cosigned_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE conflicts (
    origin TEXT NOT NULL,
    digest BLOB NOT NULL,
    checkpoint BLOB NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (origin, digest)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_BUSY_MS: Final = 5000


@dataclass(frozen=True, slots=True)
class Seen:
    """The largest tree of a log that was cosigned.

    Attributes:
        origin: The log.
        size: Leaves; 0 where nothing was cosigned.
        root: Its root.
        checkpoint: The signed note as it came.
    """

    origin: str
    size: int
    root: bytes
    checkpoint: bytes


class WitnessState:
    """The database of a witness.

    Args:
        path: The file; made where there is none.
        make: There must be none yet; otherwise there must be one.

    Raises:
        MalformedError: It is not a witness's, or of another version.
    """

    def __init__(self, path: Path, *, make: bool = False) -> None:
        mode = "rwc" if make else "rw"
        try:
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as exc:
            raise MalformedError(f"{path}: {exc}") from exc
        self._lock = threading.Lock()
        try:
            self._prepare(path, make=make)
        except (sqlite3.Error, MalformedError) as exc:
            self._connection.close()
            raise MalformedError(f"{path} is not a witness's state: {exc}") from exc

    def _prepare(self, path: Path, *, make: bool) -> None:
        run = self._connection.execute
        run(f"PRAGMA busy_timeout = {_BUSY_MS}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        if make:
            self._connection.executescript(_SCHEMA)
        (version,) = run("PRAGMA user_version").fetchone()
        if version != _SCHEMA_VERSION:
            raise MalformedError(f"{path.name} has version {version}, not {_SCHEMA_VERSION}")

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._connection.close()

    def latest(self, origin: str) -> Seen:
        """Return the largest tree of a log that was cosigned, the empty one if none was.

        Raises:
            TransportError: The database does not answer.
        """
        with self._locked() as connection:
            row = connection.execute(
                "SELECT origin, size, root, checkpoint FROM latest WHERE origin = ?", (origin,)
            ).fetchone()
        return Seen(*row) if row else Seen(origin, 0, EMPTY_ROOT, b"")

    def all(self) -> list[Seen]:
        """Return the largest tree of every log.

        Raises:
            TransportError: The database does not answer.
        """
        with self._locked() as connection:
            rows = connection.execute(
                "SELECT origin, size, root, checkpoint FROM latest ORDER BY origin"
            ).fetchall()
        return [Seen(*row) for row in rows]

    def advance(self, old: Seen, new: Seen, *, now: int) -> bool:
        """Put one tree in another's place, durably; False where that one is not the latest.

        The caller has verified that the new tree contains the old one.

        Raises:
            TransportError: The database did not do it; the old tree is the latest still.
        """
        if new.origin != old.origin or new.size < old.size:
            raise ValueError("a witness never goes back")
        with self._locked() as connection:
            if not connection.execute(
                "SELECT 1 FROM latest WHERE origin = ?", (old.origin,)
            ).fetchone():
                (count,) = connection.execute("SELECT count(*) FROM latest").fetchone()
                if count >= MAX_LOGS:
                    raise TransportError(f"this witness remembers {MAX_LOGS} logs and no more")
                connection.execute(
                    "INSERT OR IGNORE INTO latest VALUES (?, 0, ?, X'', ?)",
                    (old.origin, EMPTY_ROOT, now),
                )
            # The condition is the lock: nobody else can have moved this log on in between.
            moved = connection.execute(
                "UPDATE latest SET size = ?, root = ?, checkpoint = ?, cosigned_at = ?"
                " WHERE origin = ? AND size = ? AND root = ?",
                (new.size, new.root, new.checkpoint, now, old.origin, old.size, old.root),
            )
            return moved.rowcount == 1

    def keep_conflict(self, origin: str, digest: bytes, checkpoint: bytes, *, now: int) -> None:
        """Keep a signed checkpoint that contradicts what was cosigned, as evidence.

        Raises:
            TransportError: The database did not do it.
        """
        with self._locked() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO conflicts SELECT ?, ?, ?, ? WHERE"
                " (SELECT count(*) FROM conflicts WHERE origin = ?) < ?",
                (origin, digest, checkpoint, now, origin, MAX_CONFLICTS),
            )

    def conflicts(self, origin: str) -> list[bytes]:
        """Return the checkpoints that were kept as evidence, the oldest first.

        Raises:
            TransportError: The database does not answer.
        """
        with self._locked() as connection:
            rows = connection.execute(
                "SELECT checkpoint FROM conflicts WHERE origin = ? ORDER BY seen_at, digest",
                (origin,),
            ).fetchall()
        return [row[0] for row in rows]

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as exc:
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                raise TransportError(f"the witness cannot reach its state: {exc}") from exc
