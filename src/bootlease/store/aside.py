"""A reading connection for questions whose answers may be large, asked from other threads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from bootlease.ports import StoreUnavailableError
from bootlease.store.connection import Connection

T = TypeVar("T")
P = ParamSpec("P")
Job = Callable[Concatenate[Connection, P], T]


class Aside:
    """Lends a reading connection to one thread at a time.

    Args:
        connection: Nobody else uses it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    async def read(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``job`` on another thread and return its result.

        Raises:
            StoreUnavailableError: The database refused.
        """

        def run() -> T:
            with self._lock:
                return job(self._connection, *args, **kwargs)

        try:
            return await asyncio.to_thread(run)
        except sqlite3.Error as exc:
            raise StoreUnavailableError(f"the database refused: {exc}") from exc

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
