"""A disk that is full or fails: no answer, a clear error, and recovery without hand work.

Not simulated here: a power cut in the middle of a write, which SQLite's own tests cover.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootlease.ports import CommitOutcome, StoreUnavailableError
from bootlease.store import Database, SQLStore, ledgerreads
from bootlease.store.connection import Connection
from bootlease.store.tail import load_tail
from bootlease.testing.store_scene import AUTHOR, NOW, PREFIX, FaultySealer, StoreScene, reading


class FaultyCursor:
    """A cursor of the driver whose statements can be made to fail.

    Attributes:
        fault: Called with each statement before it runs.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.fault: Callable[[str], None] = lambda _: None

    def execute(self, text: str, *parameters: Any) -> FaultyCursor:
        """Run a statement, unless it is to fail."""
        self.fault(text)
        self._cursor.execute(text, *parameters)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@pytest.fixture
def faulty(path: Path, sealer: FaultySealer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """A store whose writing connection can be made to fail."""
    connect = Database.connect
    cursors: list[FaultyCursor] = []

    def watched(self: Database, *, read_only: bool) -> Connection:
        connection = connect(self, read_only=read_only)
        if not read_only:
            cursors.append(FaultyCursor(connection._cursor))
            connection._cursor = cursors[-1]  # type: ignore[assignment]  # a stand-in for the driver's
        return connection

    monkeypatch.setattr(Database, "connect", watched)
    store = SQLStore.open(path, sealer, PREFIX)
    yield Faulty(StoreScene(path, sealer, store), cursors)
    store.close()


class Faulty:
    """A scene whose disk fails on demand."""

    def __init__(self, scene: StoreScene, cursors: list[FaultyCursor]) -> None:
        self.scene = scene
        self._cursors = cursors

    def fail(self, beginning: str, message: str) -> None:
        """Let the next statement with this beginning fail, as SQLite says it."""

        def fault(text: str) -> None:
            if text.startswith(beginning):
                for cursor in self._cursors:
                    cursor.fault = lambda _: None
                raise sqlite3.OperationalError(message)

        for cursor in self._cursors:
            cursor.fault = fault


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("COMMIT", "disk I/O error"),
        ("BEGIN", "disk I/O error"),
        ("INSERT INTO entries", "database or disk is full"),
        ("INSERT INTO checkpoints", "database or disk is full"),
        ("INSERT INTO decisions", "database or disk is full"),
        ("INSERT INTO answers", "disk I/O error"),
        ("UPDATE challenges", "disk I/O error"),
        ("UPDATE nodes", "database or disk is full"),
        ("SAVEPOINT", "disk I/O error"),
        ("PRAGMA data_version", "disk I/O error"),
    ],
)
def test_no_answer_leaves_when_the_disk_fails(faulty: Faulty, statement: str, message: str) -> None:
    """Whatever fails before COMMIT has returned: nothing is stored, and the next try succeeds."""
    scene = faulty.scene

    async def story() -> None:
        node, other = await scene.node("a"), await scene.node("b")
        one, two = node.decide(scene.question(node)), other.decide(scene.question(other))
        (before,) = await scene.store.ledger.shards()
        faulty.fail(statement, message)
        results = await asyncio.gather(
            scene.store.commit_decision(one),
            scene.store.commit_decision(two),
            return_exceptions=True,
        )
        failed = [each for each in results if isinstance(each, StoreUnavailableError)]
        assert failed
        assert message in str(failed[0])
        if len(failed) == 2:
            assert await scene.store.ledger.shards() == (before,)
        for commit in (one, two):
            again = await scene.store.commit_decision(commit)
            assert again.outcome in {CommitOutcome.COMMITTED, CommitOutcome.ANSWERED}
        (after,) = await scene.store.ledger.shards()
        assert after.size == before.size + 2
        await scene.store.check()

    asyncio.run(story())
    tail = load_tail(scene.store._reader)
    assert tail.frontier.root() == scene.sealer.sealed[-1].root


def test_a_full_disk_refuses_and_recovers(scene: StoreScene) -> None:
    """SQLite's own limit of pages stands for the disk: really full, in the middle of a group."""
    store = scene.store

    def limit(db: Connection) -> None:
        (pages,) = db.rows_of("PRAGMA page_count")[0]
        db.command(f"PRAGMA max_page_count = {pages + 1}")

    async def story() -> None:
        node = await scene.node()
        await store._writer.submit(limit)
        commit = node.decide(scene.question(node), leases=600)
        with pytest.raises(StoreUnavailableError, match="full"):
            await store.commit_decision(commit)
        assert await store.decision(commit.digest) is None
        unspent = await store.challenge(commit.nonce)
        assert unspent is not None
        assert unspent.spent_at is None
        # The connection was given up with its limit: there is room on the disk again.
        await scene.commit(node, commit)

    asyncio.run(story())


def test_what_is_durable_is_not_called_lost(faulty: Faulty) -> None:
    """Where a group is done one by one and the disk fails in between, each hears what is true."""
    scene = faulty.scene
    store = scene.store

    def disk_fails(_receipts: object) -> bytes:
        # The second of three, on its second try: the first is durable by then.
        if not first_try:
            faulty.fail("INSERT INTO answers", "disk I/O error")
            return b"answer"
        first_try.clear()
        raise ValueError("do them one by one")

    first_try = [True]

    async def story() -> None:
        nodes = [await scene.node(name) for name in "abc"]
        made = [node.decide(scene.question(node)) for node in nodes]
        made[1] = replace(made[1], finish=disk_fails)
        results = await asyncio.gather(
            store._writer.submit(lambda _db: time.sleep(0.05)),
            *map(store.commit_decision, made),
            return_exceptions=True,
        )
        assert [getattr(each, "outcome", type(each)) for each in results[1:]] == [
            CommitOutcome.COMMITTED,
            StoreUnavailableError,
            StoreUnavailableError,
        ]
        found = [await store.decision(each.digest) is not None for each in made]
        assert found == [True, False, False]

    asyncio.run(story())


def test_a_failed_group_leaves_a_sound_file(faulty: Faulty) -> None:
    """After failures of every kind the file passes SQLite's check and the ledger's."""
    scene = faulty.scene

    async def story() -> None:
        node = await scene.node()
        for now, statement in enumerate(("COMMIT", "INSERT INTO entries", "COMMIT"), NOW + 1):
            faulty.fail(statement, "disk I/O error")
            commit = node.decide(scene.question(node), now=now)
            with pytest.raises(StoreUnavailableError):
                await scene.store.commit_decision(commit)
            await scene.commit(node, commit)

    asyncio.run(story())
    assert scene.rows("PRAGMA integrity_check") == [("ok",)]
    with reading(scene.path) as db:
        (shard,) = ledgerreads.all_shards(db)
        assert shard.size == 2 + 3


def test_a_commit_that_reports_failure_and_is_durable_all_the_same_is_looked_up(
    faulty: Faulty,
) -> None:
    """An fsync may fail after the log was written: the writer reads what there is, and goes on."""
    scene = faulty.scene

    async def story() -> None:
        node = await scene.node()
        commit = node.decide(scene.question(node))

        connection = scene.store._writer._connection
        assert connection is not None

        class Lying(FaultyCursor):
            def execute(self, text: str, *parameters: Any) -> FaultyCursor:
                super().execute(text, *parameters)
                if text == "COMMIT":
                    raise sqlite3.OperationalError("disk I/O error")
                return self

        connection._cursor = Lying(connection._cursor)  # type: ignore[assignment]  # a stand-in for the driver's
        with pytest.raises(StoreUnavailableError):
            await scene.store.commit_decision(commit)
        again = await scene.store.commit_decision(commit)
        assert again.outcome is CommitOutcome.ANSWERED
        answer = await scene.store.answer(node.id, commit.request, now=NOW)
        assert answer is not None
        await scene.store.record_event("admin.login", {}, now=NOW, author=AUTHOR)
        (shard,) = await scene.store.ledger.shards()
        assert shard.size == 4

    asyncio.run(story())


def test_a_reader_that_fails_is_an_unavailable_store(scene: StoreScene) -> None:
    """Reads on any connection say what the matter is."""

    async def story() -> None:
        await scene.node()
        scene.store._reader.close()
        with pytest.raises(StoreUnavailableError):
            await scene.store.node(b"n" * 32)
        with pytest.raises(StoreUnavailableError):
            await scene.store.check()
        for aside in (scene.store._aside, scene.store._published):
            aside._connection.close()
        with pytest.raises(StoreUnavailableError):
            await scene.store.evidence(b"e" * 32)
        with pytest.raises(StoreUnavailableError):
            await scene.store.ledger.shards()

    asyncio.run(story())
