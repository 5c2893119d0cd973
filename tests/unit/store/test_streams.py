"""Streams of security events in the store: nothing is lost unnoticed, nothing comes twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from bootlease.ledger import GovernanceRecord
from bootlease.ports import (
    Backlog,
    DeliveryMethod,
    EventCauses,
    EventStream,
    Positions,
    QueuedEvent,
)
from bootlease.store import SQLStore
from bootlease.store import streams as stored
from bootlease.store.tables import stream_events
from bootlease.testing.store_scene import AUTHOR, NOW, StoreScene

PUSHED = EventStream(
    id="a" * 32,
    method=DeliveryMethod.PUSH,
    audience="https://rp.example",
    endpoint="https://rp.example/events",
    authorization="Bearer x",
    secret_digest=b"d" * 32,
    created_at=NOW,
)
POLLED = replace(PUSHED, id="b" * 32, method=DeliveryMethod.POLL, endpoint=None, authorization=None)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's story."""
    asyncio.run(work)


def events(*names: str) -> list[QueuedEvent]:
    """Events of these names."""
    return [QueuedEvent(name, name.encode()) for name in names]


async def add(store: SQLStore, stream: EventStream = PUSHED) -> None:
    """Make a stream."""
    assert await store.streams.add(stream, author=AUTHOR, at_most=4)


async def causes_of(store: SQLStore) -> EventCauses:
    """What happened, where there is a stream."""
    causes = await store.streams.causes()
    assert causes is not None
    return causes


async def enqueue(store: SQLStore, *names: str, now: int = NOW) -> bool:
    """Let events wait in ``PUSHED``."""
    causes = await causes_of(store)
    return await store.streams.enqueue({PUSHED.id: events(*names)}, causes, now=now)


async def waiting(store: SQLStore, stream: EventStream = PUSHED) -> list[str]:
    """Names of what waits."""
    return [each.jti for each in await store.streams.queued(stream.id, at_most=100)]


def governed(scene: StoreScene) -> list[GovernanceRecord]:
    """Governance records, the oldest first."""
    rows = scene.rows("SELECT record FROM governance ORDER BY number")
    return [GovernanceRecord.parse(row[0]) for row in rows]


def test_streams_are_kept_whole_and_recorded(scene: StoreScene) -> None:
    """What an operator makes is there again after a restart, and in the ledger with its author."""

    async def story() -> None:
        await add(scene.store)
        await add(scene.store, POLLED)
        reopened = scene.open()
        assert await reopened.streams.all() == (PUSHED, POLLED)
        reopened.close()
        assert await scene.store.streams.remove(PUSHED.id, now=NOW, author=AUTHOR)
        assert not await scene.store.streams.remove(PUSHED.id, now=NOW, author=AUTHOR)
        assert await scene.store.streams.all() == (POLLED,)

    run(story())
    told = [(each.kind, each.author, dict(each.details)) for each in governed(scene)[1:]]
    made = {"stream": PUSHED.id, "method": "urn:ietf:rfc:8935", "audience": PUSHED.audience}
    assert told == [
        ("stream.created", AUTHOR, {**made, "endpoint": PUSHED.endpoint}),
        (
            "stream.created",
            AUTHOR,
            {**made, "stream": POLLED.id, "method": "urn:ietf:rfc:8936"},
        ),
        ("stream.removed", AUTHOR, {"stream": PUSHED.id}),
    ]


def test_there_are_so_many_streams_and_no_more(store: SQLStore) -> None:
    """The bound is the caller's; what is refused leaves nothing."""

    async def story() -> None:
        await add(store)
        assert not await store.streams.add(POLLED, author=AUTHOR, at_most=1)
        assert await store.streams.all() == (PUSHED,)

    run(story())


def test_secrets_of_a_stream_are_not_in_its_repr() -> None:
    """What is logged by mistake gives nothing away."""
    assert "Bearer x" not in repr(PUSHED)
    assert "dddd" not in repr(PUSHED)


def test_events_wait_until_the_receiver_has_them(store: SQLStore) -> None:
    """In order; taken in any order; each stream for itself."""

    async def story() -> None:
        await add(store)
        await add(store, POLLED)
        causes = await causes_of(store)
        both = {PUSHED.id: events("1", "2", "3"), POLLED.id: events("1")}
        assert await store.streams.enqueue(both, causes, now=NOW)
        assert await waiting(store) == ["1", "2", "3"]
        assert await store.streams.backlog(PUSHED.id) == Backlog(3, NOW)
        assert await store.streams.settle(PUSHED.id, ["2", "unknown"]) == 1
        assert await waiting(store) == ["1", "3"]
        assert await waiting(store, POLLED) == ["1"]
        assert await store.streams.waits(PUSHED.id, "1")
        assert not await store.streams.waits(PUSHED.id, "2")
        first = await store.streams.queued(PUSHED.id, at_most=1)
        assert first == (QueuedEvent("1", b"1"),)

    run(story())


def test_a_removed_stream_leaves_nothing_behind(store: SQLStore) -> None:
    """Neither what waited nor what comes later."""

    async def story() -> None:
        await add(store)
        await add(store, POLLED)
        assert await enqueue(store, "1")
        await store.streams.remove(PUSHED.id, now=NOW, author=AUTHOR)
        assert await waiting(store) == []
        assert await enqueue(store, "2")
        assert await waiting(store) == []
        assert not await store.streams.add_event(PUSHED.id, events("3")[0], now=NOW)
        assert await store.streams.add_event(POLLED.id, events("3")[0], now=NOW)
        assert await waiting(store, POLLED) == ["3"]

    run(story())


def test_what_happened_is_made_into_events_once(scene: StoreScene) -> None:
    """The positions move with the events, or neither does."""

    async def story() -> None:
        store = scene.store
        await add(store)
        causes = await causes_of(store)
        assert await store.streams.enqueue({PUSHED.id: events("1")}, causes, now=NOW)
        assert not await store.streams.enqueue({PUSHED.id: events("2")}, causes, now=NOW)
        assert await waiting(store) == ["1"]
        again = await causes_of(store)
        assert again.before == causes.after == again.after

    run(story())


def test_an_event_that_cannot_be_kept_keeps_the_positions(scene: StoreScene) -> None:
    """Whatever fails in between leaves both as they were."""

    async def story() -> None:
        store = scene.store
        await add(store)
        before = await causes_of(store)
        with pytest.raises(sqlite3.IntegrityError):
            await store.streams.enqueue({PUSHED.id: events("1", "1")}, before, now=NOW)
        assert await causes_of(store) == before
        assert await waiting(store) == []

    run(story())


def test_nothing_happened_before_the_first_stream(scene: StoreScene) -> None:
    """A new receiver does not hear the whole past; without streams nothing is looked for."""

    async def story() -> None:
        store = scene.store
        assert await store.streams.causes() is None
        node = await scene.fill()
        await scene.renew(node, granted=False, now=NOW + 2)
        await add(store)
        causes = await causes_of(store)
        assert causes.decisions == ()
        # The stream's own record alone, which says that it was made.
        kinds = [GovernanceRecord.parse(each.record).kind for each in causes.governance]
        assert kinds == ["stream.created"]
        await store.streams.remove(PUSHED.id, now=NOW, author=AUTHOR)
        assert await store.streams.causes() is None
        await scene.node("b")
        await add(store, POLLED)
        kinds = [
            GovernanceRecord.parse(each.record).kind for each in (await causes_of(store)).governance
        ]
        assert kinds == ["stream.created"]

    run(story())


def test_refusals_and_first_grants_are_causes_and_renewals_are_not(scene: StoreScene) -> None:
    """Each comes with the node's decision before it."""

    async def story() -> None:
        store = scene.store
        await add(store)
        assert await enqueue(store)
        node = await scene.node()
        await scene.renew(node, now=NOW + 1)
        await scene.renew(node, now=NOW + 2)
        await scene.renew(node, now=NOW + 3)
        await scene.renew(node, granted=False, now=NOW + 4)
        digests = [commit.digest for commit in node.commits]
        causes = await causes_of(store)
        assert [each.decision.digest for each in causes.decisions] == [digests[0], digests[3]]
        first, refusal = causes.decisions
        assert first.before is None
        assert refusal.before is not None
        assert refusal.before.digest == digests[2]
        assert not refusal.decision.granted

    run(story())


def test_governance_comes_with_what_it_is_about(scene: StoreScene) -> None:
    """An enrolment with the node's last decision, a revocation with what was live."""

    async def story() -> None:
        store = scene.store
        await add(store)
        node = await scene.node()
        await scene.renew(node, now=NOW + 1)
        assert await enqueue(store)
        await scene.node(now=NOW + 2)
        await scene.revoke(node)
        enrolled, revoked = (await causes_of(store)).governance
        assert enrolled.latest is not None
        assert enrolled.latest.digest == node.commits[-1].digest
        assert enrolled.grants == ()
        assert revoked.latest is None
        assert [grant.node for grant in revoked.grants] == [node.id]

    run(story())


def test_what_happened_is_looked_at_in_portions(
    scene: StoreScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long nobody looked, one step is bounded, and the next goes on where it ended."""
    monkeypatch.setattr(stored, "SPAN", 2)

    async def story() -> None:
        store = scene.store
        await add(store)
        node = await scene.node()
        for number in range(5):
            await scene.ask(node)
            await scene.renew(node, granted=False, now=NOW + number)
        found = []
        for portion in range(3):
            causes = await causes_of(store)
            assert causes.more is (portion < 2)
            found += [each.decision.digest for each in causes.decisions]
            assert await store.streams.enqueue({}, causes, now=NOW)
        assert found == [commit.digest for commit in node.commits]
        assert (await causes_of(store)).after.decision == Positions(5, 0).decision

    run(story())


def test_a_full_stream_drops_the_oldest_and_says_so(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are worth most; how many are missing is kept until the receiver was told."""
    monkeypatch.setattr(stored, "MAX_QUEUED", 3)

    async def story() -> None:
        await add(store)
        assert await enqueue(store, *"12345", now=NOW + 7)
        assert await waiting(store) == ["3", "4", "5"]
        assert await store.streams.backlog(PUSHED.id) == Backlog(3, NOW + 7, 2, NOW + 7)
        await store.streams.add_event(PUSHED.id, events("6")[0], now=NOW + 8)
        assert await store.streams.backlog(PUSHED.id) == Backlog(3, NOW + 7, 3, NOW + 8)
        await store.streams.settle(PUSHED.id, ["4"], reported=2)
        assert await store.streams.backlog(PUSHED.id) == Backlog(2, NOW + 7, 1, NOW + 8)

    run(story())


def test_an_event_that_waited_too_long_is_dropped_and_counted(store: SQLStore) -> None:
    """A receiver that is gone for good does not fill the disk; the sweep looks at every stream."""

    async def story() -> None:
        await add(store)
        await add(store, POLLED)
        assert await enqueue(store, *(str(number) for number in range(200)))
        await store.streams.add_event(POLLED.id, events("x")[0], now=NOW + 5)
        await store.sweep(now=NOW + stored.MAX_AGE - 1)
        assert (await store.streams.backlog(PUSHED.id)).queued == 200
        await store.sweep(now=NOW + stored.MAX_AGE)
        late = NOW + stored.MAX_AGE
        assert await store.streams.backlog(PUSHED.id) == Backlog(0, None, 200, late)
        assert await store.streams.backlog(POLLED.id) == Backlog(1, NOW + 5)

    run(story())


def test_the_statement_that_adds_events_has_every_column() -> None:
    """It is written out, so a column that is added must be added there too."""
    columns = [column.name for column in stream_events.columns if column.name != "number"]
    assert f"({', '.join(columns)})" in stored._ADD_EVENTS.head
