"""A reading connection for questions whose answers may be large, asked from a thread of its own.

One thread for each connection: questions that wait for each other hold no thread that something
else needs, and one thread beside the event loop is what the loop has to share the interpreter with,
however many ask.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from bootlease.ports import StoreUnavailableError
from bootlease.store.connection import Connection

T = TypeVar("T")
P = ParamSpec("P")
Job = Callable[Concatenate[Connection, P], T]


class Aside:
    """Asks over a reading connection, one question after the other.

    Args:
        connection: Nobody else uses it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, "bootlease-store-reader")
        self._closed = False

    async def read(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``job`` on the thread, on one state of the database; return its result.

        Raises:
            StoreUnavailableError: The database refused, or was closed.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")

        def work() -> T:
            with self._connection.snapshot():
                return job(self._connection, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as exc:
            raise StoreUnavailableError(f"the database refused: {exc}") from exc

    def close(self) -> None:
        """Finish the question that is being answered, and close the connection."""
        self._closed = True
        self._thread.shutdown(cancel_futures=True)
        self._connection.close()
