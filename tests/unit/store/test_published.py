"""Reading what the ledger publishes, however many ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootlease.ports import Shard, StoreUnavailableError
from bootlease.store import SQLStore, ledgerreads, sqlledger
from bootlease.store.connection import Connection
from bootlease.testing.keys import fresh_keys

ISSUER = "https://v.example"
NOW = 1_790_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLStore]:
    """A store with one record in its ledger."""
    keys = fresh_keys(ISSUER)
    made = SQLStore.open(tmp_path / "verifier.db", keys.ledger, keys.ledger.key.name)
    asyncio.run(grow(made))
    yield made
    made.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Threads on which the list of shards was read."""
    threads: list[str] = []
    read = ledgerreads.all_shards

    def note(db: Connection) -> tuple[Shard, ...]:
        threads.append(threading.current_thread().name)
        return read(db)

    monkeypatch.setattr(ledgerreads, "all_shards", note)
    return threads


async def grow(store: SQLStore) -> None:
    """Record something."""
    await store.record_event("x.y", {}, now=NOW, author="verifier")


async def size(store: SQLStore) -> int:
    """Size of the first shard, as listed."""
    return (await store.ledger.shards())[0].size


def test_the_list_is_read_once_between_commits(store: SQLStore, reads: list[str]) -> None:
    """By whoever asks first, however many ask with it, and never on the loop's thread."""

    async def story() -> None:
        assert set(await asyncio.gather(*(size(store) for _ in range(50)))) == {2}
        assert len(reads) == 1
        for expected in (3, 4):
            await grow(store)
            assert set(await asyncio.gather(*(size(store) for _ in range(50)))) == {expected}
        assert len(reads) == 3

    asyncio.run(story())
    assert threading.current_thread().name not in reads


def test_the_list_is_read_again_after_a_while(
    store: SQLStore, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process has written is seen too."""
    monkeypatch.setattr(sqlledger, "_LASTS", 0.05)

    async def story() -> None:
        await size(store)
        await asyncio.sleep(0.1)
        await size(store)

    asyncio.run(story())
    assert len(reads) == 2


def test_one_thread_reads_for_all(store: SQLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions that wait hold no other, and other reads do not wait behind them."""
    gate, threads = threading.Event(), set()

    def slow(*_: object, **__: object) -> None:
        threads.add(threading.current_thread().name)
        gate.wait(5)

    monkeypatch.setattr(ledgerreads, "checkpoint", slow)

    async def story() -> None:
        asked = [asyncio.ensure_future(store.ledger.checkpoint(1)) for _ in range(60)]
        async with asyncio.timeout(2):
            assert await store.decision(b"none") is None
            assert await asyncio.to_thread(lambda: 1) == 1
        gate.set()
        await asyncio.gather(*asked)

    asyncio.run(story())
    assert len(threads) == 1


def test_a_closed_store_publishes_nothing(store: SQLStore) -> None:
    """It says so, and nobody waits for it."""
    store.close()
    with pytest.raises(StoreUnavailableError):
        asyncio.run(store.ledger.checkpoint(1))
