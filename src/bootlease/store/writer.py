"""The one writer: a thread that owns the writing connection and commits in groups.

Jobs that wait together share one transaction and one fsync, each inside a savepoint of its own, so
that one that fails takes nothing of its neighbours with it. Nobody learns the result of a job
before the commit that makes it durable has returned.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from bootlease.ports import StoreBusyError, StoreUnavailableError
from bootlease.store.connection import Connection

T = TypeVar("T")

MAX_WAITING: Final = 1024
"""Jobs that may wait; more is back-pressure, which the HTTP shell answers with 503."""
MAX_GROUP: Final = 128


@dataclass(slots=True)
class _Job:
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs jobs on the writing connection, in order.

    Args:
        connect: Opens the connection; called on the writer's thread.
        max_waiting: Jobs that may wait before ``submit`` refuses.
    """

    def __init__(
        self, connect: Callable[[], Connection], *, max_waiting: int = MAX_WAITING
    ) -> None:
        self._connect = connect
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._max_waiting = max_waiting
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name="bootlease-store-writer", daemon=True
        )
        self._thread.start()

    async def submit(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is durable.

        Raises:
            StoreBusyError: Too many jobs wait.
            StoreUnavailableError: The database refused; nothing of this job was stored.
        """
        self.check()
        if self._jobs.qsize() >= self._max_waiting:
            raise StoreBusyError("too many writes wait for the store")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, future, loop))
        return await future

    def check(self) -> None:
        """Tell whether jobs are taken.

        Raises:
            StoreUnavailableError: The store is closed, or a defect has stopped its writer.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")

    def close(self) -> None:
        """Finish the jobs that wait, then close the connection."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        group: list[_Job] = []
        open_ = True
        try:
            while open_:
                group, open_ = self._next_group()
                try:
                    connection = connection or self._connect()
                    _commit_group(connection, group)
                except (sqlite3.Error, StoreUnavailableError) as exc:
                    _abandon(connection)
                    connection = None
                    _fail(group, exc)
                _resolve(group)
                group = []
        finally:
            # Should this thread end all the same, whoever waits must hear of it, not wait on.
            self._closed = True
            _abandon(connection)
            group += self._drain()
            _fail(group, RuntimeError("the store's writer has stopped"))
            _resolve(group)

    def _drain(self) -> list[_Job]:
        left: list[_Job] = []
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return left
            if job is not None:
                left.append(job)

    def _next_group(self) -> tuple[list[_Job], bool]:
        group: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            group.append(job)
            if len(group) >= MAX_GROUP:
                return group, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, True
        return group, False


def _commit_group(connection: Connection, group: list[_Job]) -> None:
    if not group:
        return
    connection.command("BEGIN IMMEDIATE")
    for job in group:
        _attempt(connection, job)
    connection.command("COMMIT")


_OF_THE_JOB: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
"""What SQLite says of a statement; the rest (full disk, corrupt file) it says of the database."""


def _attempt(connection: Connection, job: _Job) -> None:
    connection.command("SAVEPOINT job")
    try:
        job.result = job.work(connection)
    except Exception as exc:  # whatever is wrong with one job is no reason to stop for all
        if isinstance(exc, sqlite3.Error) and not isinstance(exc, _OF_THE_JOB):
            raise
        connection.command("ROLLBACK TO job")
        job.error = exc
    connection.command("RELEASE job")


def _abandon(connection: Connection | None) -> None:
    # After a failed write (full disk, I/O error) the state of the connection is not worth
    # guessing at: SQLite rolls back what was not committed, and a fresh connection starts clean.
    if connection is not None:
        connection.close()


def _fail(group: list[_Job], cause: Exception) -> None:
    for job in group:
        job.error = StoreUnavailableError(f"the database refused: {cause}")
        job.error.__cause__ = cause


def _resolve(group: list[_Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, jobs)


def _deliver(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
