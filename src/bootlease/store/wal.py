"""Moving what was committed from the write-ahead log into the database, beside the writer.

SQLite does this inside whichever commit fills the log up: every few hundred decisions one of them
would wait for a thousand pages to be written and synchronised (measured: 50 ms, against 4 ms
without). Here a thread does it on a connection of its own. It can never catch up entirely with a
writer that does not pause, and the log is only begun anew once nothing of it is left to move; so
where the log has grown long, the writer itself moves the little that is left between two commits.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bootlease.ports import StoreUnavailableError

if TYPE_CHECKING:
    from bootlease.store.connection import Connection

PAUSE: Final = 0.5
"""Seconds between two rounds: pages that are written again and again are moved once a round."""
LONG: Final = 16_384
"""Pages, of 4 KiB: 64 MB."""
_MOVE: Final = "PRAGMA wal_checkpoint(PASSIVE)"


class WALKeeper:
    """Keeps the write-ahead log short.

    Args:
        connect: Opens a connection; called on the keeper's thread.
        pause: Seconds between two rounds.
        long: Pages from which on the writer helps.
    """

    def __init__(
        self, connect: Callable[[], Connection], *, pause: float = PAUSE, long: int = LONG
    ) -> None:
        self._connect = connect
        self._pause = pause
        self._long = long
        self._written = threading.Event()
        self._closing = threading.Event()
        self._help = False
        self._thread = threading.Thread(target=self._run, name="bootlease-store-wal", daemon=True)
        self._thread.start()

    def after_commit(self, writing: Connection) -> None:
        """Take note of a commit; called on the writer's thread with its connection."""
        self._written.set()
        if self._help:
            self._help = False
            writing.rows_of(_MOVE)

    def close(self) -> None:
        """Stop; the last connection that closes moves what is left."""
        self._closing.set()
        self._written.set()
        self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        while self._written.wait() and not self._closing.wait(self._pause):
            self._written.clear()
            try:
                connection = connection or self._connect()
                _, pages, _ = connection.rows_of(_MOVE)[0]
            except (sqlite3.Error, StoreUnavailableError):
                # The log keeps what could not be moved; a disk in trouble shows at the next commit.
                continue
            self._help = pages > self._long
        if connection is not None:
            connection.close()
