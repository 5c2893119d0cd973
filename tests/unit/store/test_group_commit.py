"""The writer: one transaction, one seal and one commit for all who wait."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import select

from bootlease.ledger import GovernanceRecord, Receipt, encode_leaf, verify_receipt
from bootlease.ports import (
    CommitOutcome,
    StoreBusyError,
    StoreUnavailableError,
)
from bootlease.store import SQLStore
from bootlease.store.appender import Appender
from bootlease.store.commits import Prepared
from bootlease.store.connection import Connection
from bootlease.store.tables import settings
from bootlease.store.writer import MAX_WAITING, REST
from bootlease.testing.store_scene import (
    AUTHOR,
    NOW,
    PREFIX,
    FaultySealer,
    StoreScene,
    bodies,
)


@asynccontextmanager
async def held(store: SQLStore) -> AsyncIterator[None]:
    """Occupy the writer for as long as the block lasts; what it submits shares a group."""
    begun, over = threading.Event(), threading.Event()

    def wait(_db: Connection) -> None:
        begun.set()
        over.wait(20)

    job = asyncio.create_task(store._writer.submit(wait))
    await asyncio.to_thread(begun.wait, 20)
    try:
        yield
        await asyncio.sleep(0)
    finally:
        over.set()
        await job


async def hold(store: SQLStore, seconds: float = 0.05) -> None:
    """Occupy the writer, so that what is submitted meanwhile shares a group."""
    await store._writer.submit(lambda _db: time.sleep(seconds))


def test_a_group_shares_one_seal_and_every_answer_has_its_own_receipts(scene: StoreScene) -> None:
    """Receipts of one group verify against one tree, each for its own leaves, in order."""
    received: dict[bytes, Sequence[Receipt]] = {}

    async def story() -> None:
        nodes = [await scene.node(str(number)) for number in range(20)]
        made = [
            node.decide(scene.question(node), leases=1 + number % 3, granted=number % 5 != 4)
            for number, node in enumerate(nodes)
        ]

        def keeping(digest: bytes, receipts: Sequence[Receipt]) -> bytes:
            received[digest] = receipts
            return bodies(receipts)

        watched = [replace(each, finish=partial(keeping, each.digest)) for each in made]
        seals = len(scene.sealer.sealed)
        await asyncio.gather(hold(scene.store), *map(scene.store.commit_decision, watched))
        assert len(scene.sealer.sealed) == seals + 1
        for each in made:
            leaves = [encode_leaf(each.digest, claims) for claims in each.claims or (None,)]
            assert [receipt.leaf for receipt in received[each.digest]] == leaves
            for leaf, receipt in zip(leaves, received[each.digest], strict=True):
                proven = verify_receipt(receipt.cose(), leaf, scene.sealer.key)
                assert proven.root == scene.sealer.sealed[-1].root
                assert proven.index == receipt.index
            place = await scene.store.ledger.position(each.digest)
            assert place == (1, received[each.digest][0].index, len(leaves))

    asyncio.run(story())


def test_a_lone_decision_does_not_wait_for_company(scene: StoreScene) -> None:
    """Under light load nobody waits for a group to fill."""

    async def story() -> list[float]:
        node = await scene.node()
        took = []
        for now in range(NOW + 1, NOW + 9):
            commit = node.decide(scene.question(node), now=now)
            start = time.perf_counter()
            await scene.commit(node, commit)
            took.append(time.perf_counter() - start)
        return took

    assert min(asyncio.run(story())) < 0.05


def test_the_writer_rests_after_a_group_of_several_only(
    scene: StoreScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd gains from a larger next group; who comes alone is never kept waiting."""
    rests: list[float] = []
    monkeypatch.setattr(scene.store._writer, "_rest", rests.append)

    async def one() -> None:
        await scene.store._writer.submit(lambda _db: None)

    async def story() -> None:
        for _ in range(4):
            await one()
        assert rests == []
        await asyncio.gather(hold(scene.store), one(), one(), one())
        # Whatever followed that group has been done when the next one is.
        await one()
        assert rests == [REST]

    asyncio.run(story())


def test_an_answer_that_cannot_be_made_fails_its_decision_alone(scene: StoreScene) -> None:
    """Its leaf was in the sealed tree: that tree is forgotten, and no trace of it is left."""

    def broken(_receipts: Sequence[Receipt]) -> NoReturn:
        raise ValueError("no answer")

    async def story() -> None:
        nodes = [await scene.node(name) for name in "abc"]
        made = [node.decide(scene.question(node)) for node in nodes]
        made[1] = replace(made[1], finish=broken)
        (before,) = await scene.store.ledger.shards()
        results = await asyncio.gather(
            hold(scene.store),
            *map(scene.store.commit_decision, made),
            scene.store.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=()),
            return_exceptions=True,
        )
        assert [getattr(each, "outcome", type(each)) for each in results] == [
            type(None),
            CommitOutcome.COMMITTED,
            ValueError,
            CommitOutcome.COMMITTED,
            type(None),
        ]
        assert await scene.store.decision(made[1].digest) is None
        unspent = await scene.store.challenge(made[1].nonce)
        assert unspent is not None
        assert unspent.spent_at is None
        (after,) = await scene.store.ledger.shards()
        assert after.size == before.size + 3

    asyncio.run(story())


def test_a_ledger_that_cannot_be_signed_answers_nobody(scene: StoreScene) -> None:
    """Without a seal nothing of the group is stored; with the key back, all goes on."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        commit = node.decide(scene.question(node))
        scene.sealer.fault = RuntimeError("the key is gone")
        results = await asyncio.gather(
            hold(store),
            store.commit_decision(commit),
            store.record_event("admin.login", {}, now=NOW, author=AUTHOR),
            return_exceptions=True,
        )
        assert [type(each) for each in results[1:]] == [StoreUnavailableError] * 2
        assert await store.decision(commit.digest) is None
        scene.sealer.fault = None
        await scene.commit(node, commit)

    asyncio.run(story())


def test_a_job_that_fails_takes_nothing_of_its_neighbours_with_it(store: SQLStore) -> None:
    """Jobs that share a commit are apart: one refused, its leaf forgotten, the others durable."""

    async def story() -> None:
        results = await asyncio.gather(
            hold(store),
            store.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=()),
            store.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=()),
            store.add_credential(b"2" * 32, label="b", now=NOW, author=AUTHOR, roles=()),
            return_exceptions=True,
        )
        assert [type(result) for result in results[1:]] == [
            type(None),
            sqlite3.IntegrityError,
            type(None),
        ]
        kept = [(b"1" * 32, "a"), (b"2" * 32, "b")]
        assert [(each.digest, each.label) for each in await store.credentials()] == kept
        (shard,) = await store.ledger.shards()
        assert shard.size == 3

    asyncio.run(story())


@pytest.mark.parametrize(
    "defect",
    [TypeError("a defect"), OverflowError("2**64"), sqlite3.InterfaceError("no such type")],
    ids=lambda defect: type(defect).__name__,
)
def test_a_defect_in_one_job_fails_that_job_alone(store: SQLStore, defect: Exception) -> None:
    """What nobody foresaw rolls its own job back; its neighbours and the writer live on."""

    def broken(db: Connection) -> None:
        db.command("INSERT INTO settings (name, value) VALUES ('half', 'done')")
        raise defect

    async def story() -> None:
        results = await asyncio.gather(
            store._writer.submit(broken),
            store.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=()),
            return_exceptions=True,
        )
        assert list(results) == [defect, None]
        await store.add_credential(b"2" * 32, label="a", now=NOW, author=AUTHOR, roles=())
        await store.check()

    asyncio.run(story())
    assert store._reader.rows(select(settings.c.name)) == []


def test_a_defect_in_a_decision_fails_that_decision_alone(scene: StoreScene) -> None:
    """A decision that no row can hold is found in the bulk, and its neighbours commit."""

    async def story() -> None:
        nodes = [await scene.node(name) for name in "abcd"]
        made = [node.decide(scene.question(node)) for node in nodes]
        made[2] = replace(made[2], answer_expires_at=1 << 70)
        results = await asyncio.gather(
            hold(scene.store),
            *map(scene.store.commit_decision, made),
            return_exceptions=True,
        )
        assert [getattr(each, "outcome", type(each)) for each in results[1:]] == [
            CommitOutcome.COMMITTED,
            CommitOutcome.COMMITTED,
            OverflowError,
            CommitOutcome.COMMITTED,
        ]

    asyncio.run(story())


def test_a_database_that_refuses_is_heard_by_all_who_wait(store: SQLStore) -> None:
    """A full disk is not one job's fault: nothing of the group is stored, the next one may be."""

    def full(_db: Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def story() -> None:
        # The neighbour comes first, so that both wait for one commit.
        results = await asyncio.gather(
            hold(store),
            store.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=()),
            store._writer.submit(full),
            return_exceptions=True,
        )
        assert [type(result) for result in results[1:]] == [StoreUnavailableError] * 2
        assert await store.credentials() == ()
        await store.add_credential(b"2" * 32, label="a", now=NOW, author=AUTHOR, roles=())

    asyncio.run(story())


def test_the_end_of_the_writer_is_heard_by_all_who_wait(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead writer answers with an error instead of silence, and what ended it is reported."""
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    class EndOfThreadError(BaseException):
        """Not an Exception: nothing that a job may raise."""

    def broken(_db: Connection) -> None:
        raise EndOfThreadError

    async def story() -> None:
        results = await asyncio.gather(
            store._writer.submit(broken),
            store.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=()),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [StoreUnavailableError] * 2
        with pytest.raises(StoreUnavailableError):
            await store.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=())

    asyncio.run(story())
    store.close()
    assert [args.exc_type for args in reported] == [EndOfThreadError]


def test_a_closed_or_unreachable_store_says_so(path: Path, tmp_path: Path) -> None:
    """Neither hangs nor loses silently."""
    opened = SQLStore.open(path, FaultySealer(), PREFIX)
    opened.close()
    opened.close()
    with pytest.raises(StoreUnavailableError):
        asyncio.run(opened.add_credential(b"1" * 32, label="a", now=NOW, author=AUTHOR, roles=()))
    with pytest.raises(StoreUnavailableError):
        SQLStore.open(tmp_path / "absent" / "verifier.db", FaultySealer(), PREFIX)
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailableError):
        SQLStore.open(garbage, FaultySealer(), PREFIX)


def test_a_job_that_fails_after_it_recorded_leaves_no_leaf(scene: StoreScene) -> None:
    """Its neighbours' records follow each other, and every entry of the ledger has its record."""
    store = scene.store

    def broken(_db: Connection, ledger: Appender) -> NoReturn:
        ledger.record("admin.login", {"of": "nobody"}, author=AUTHOR, now=NOW)
        raise ValueError("too late")

    async def story() -> None:
        await store.record_event("admin.login", {}, now=NOW, author=AUTHOR)
        async with held(store):
            jobs = [
                asyncio.create_task(store.record_event("admin.login", {}, now=NOW, author=name))
                for name in "ab"
            ]
            jobs.insert(1, asyncio.create_task(store._writer.submit_recorded(NOW, broken)))
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(each) for each in results] == [type(None), ValueError, type(None)]

    asyncio.run(story())
    rows = scene.rows("SELECT record, position FROM governance ORDER BY number")
    records = [GovernanceRecord.parse(record) for record, _ in rows]
    assert [each.author for each in records[-2:]] == ["a", "b"]
    assert [each.previous for each in records] == [None, *(each.digest for each in records[:-1])]
    leaves = scene.rows("SELECT leaf FROM entries ORDER BY position")
    assert [leaf for (leaf,) in leaves] == [encode_leaf(each.digest) for each in records]
    assert [position for _, position in rows] == list(range(len(rows)))


def test_a_twin_in_the_same_group_is_told_of_the_answer(scene: StoreScene) -> None:
    """Two requests with the same evidence share a commit: one decision, one answer for both."""

    async def story() -> None:
        node = await scene.node()
        question = scene.question(node)
        one, other = node.decide(question), node.decide(question)
        async with held(scene.store):
            jobs = [
                asyncio.create_task(scene.store._writer.decide(Prepared(each, {})))
                for each in (one, other, one)
            ]
        assert [each.outcome for each in await asyncio.gather(*jobs)] == [
            CommitOutcome.COMMITTED,
            CommitOutcome.SPENT,
            CommitOutcome.ANSWERED,
        ]
        assert len(await scene.store.decisions_of(node.id, at_most=9)) == 1

    asyncio.run(story())


def test_no_more_jobs_wait_than_may(store: SQLStore) -> None:
    """Who comes on top is told at once, and all who waited are served."""

    async def story() -> None:
        async with held(store):
            jobs = [
                asyncio.create_task(store._writer.submit(lambda _db: None))
                for _ in range(MAX_WAITING)
            ]
            await asyncio.sleep(0)
            with pytest.raises(StoreBusyError):
                await store._writer.submit(lambda _db: None)
        assert await asyncio.gather(*jobs) == [None] * MAX_WAITING
        await store._writer.submit(lambda _db: None)

    asyncio.run(story())
