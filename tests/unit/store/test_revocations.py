"""Revocations in the store: on record, once each, and in the way of decisions that were before."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bootlease.ledger import GovernanceRecord
from bootlease.policy.values import MAX_LIFE
from bootlease.ports import CommitOutcome, RevokedKind, StoredPolicy, StoredRevocation
from bootlease.store import revocations
from bootlease.store.connection import Connection
from bootlease.testing.policies import make_policy
from bootlease.testing.store_scene import AUTHOR, NOW, StoreScene

NODE = RevokedKind.NODE
REVOCATION = StoredRevocation(
    NODE, "11" * 32, in_force=True, reason="stolen", author=AUTHOR, at=NOW
)


def test_a_revocation_is_kept_once_and_on_record(scene: StoreScene) -> None:
    """The same twice is one; taken back, it may come again; each change is a governance record."""

    async def story() -> None:
        store = scene.store.continuity
        assert await store.add_revocation(REVOCATION)
        assert not await store.add_revocation(REVOCATION)
        lifted = replace(REVOCATION, in_force=False, reason="found")
        assert await store.add_revocation(lifted)
        assert not await store.add_revocation(lifted)
        assert await store.add_revocation(REVOCATION)
        other = replace(REVOCATION, kind=RevokedKind.EPOCH, subject="7")
        assert not await store.add_revocation(replace(other, in_force=False))
        assert await store.add_revocation(other)
        assert await store.revocations() == tuple(
            replace(each, number=number)
            for number, each in enumerate((REVOCATION, lifted, REVOCATION, other), 1)
        )

    asyncio.run(story())
    records = [
        GovernanceRecord.parse(row[0])
        for row in scene.rows(
            "SELECT record FROM governance WHERE kind LIKE 'revocation%' ORDER BY number"
        )
    ]
    assert [each.kind for each in records] == [
        "revocation.node",
        "revocation-lifted.node",
        "revocation.node",
        "revocation.epoch",
    ]
    assert records[0].details == {"subject": b"\x11" * 32, "reason": "stolen"}
    assert records[3].details == {"subject": "7", "reason": "stolen"}
    assert {each.author for each in records} == {AUTHOR}


def test_a_decision_from_before_a_revocation_is_outdated(scene: StoreScene) -> None:
    """Also where both wait for the same commit: jobs come first."""

    async def story() -> None:
        node = await scene.fill()
        in_force = await scene.store.in_force()
        commit = node.decide(scene.question(node), in_force=in_force)
        added, committed = await asyncio.gather(
            scene.store.continuity.add_revocation(REVOCATION),
            scene.store.commit_decision(commit),
        )
        assert added
        assert committed.outcome is CommitOutcome.OUTDATED
        assert (await scene.store.in_force()).revocations == 1

    asyncio.run(story())


def test_lineages_end_where_they_are_those_that_are_meant(scene: StoreScene) -> None:
    """Of the node, with this root or any; a decision that continues it conflicts."""

    async def story() -> None:
        node = await scene.fill()
        await scene.renew(node)
        prior = (await scene.store.lineage(node.id)).prior
        assert prior is not None
        await scene.store.continuity.end_lineages([])
        await scene.store.continuity.end_lineages([(node.id, bytes(32)), (bytes(32), None)])
        assert (await scene.store.lineage(node.id)).prior == prior
        await scene.store.continuity.end_lineages([(node.id, prior.root)])
        ended = await scene.store.lineage(node.id)
        assert ended.prior is None
        await scene.store.continuity.end_lineages([(node.id, None)])
        assert await scene.store.lineage(node.id) == ended

    asyncio.run(story())


def test_blocks_are_counted_over_restarts(scene: StoreScene) -> None:
    """Nobody is given one twice."""

    async def story() -> list[int]:
        numbers = await asyncio.gather(*(scene.store.continuity.reserve_block() for _ in range(3)))
        other = scene.open()
        try:
            return [*numbers, await other.continuity.reserve_block()]
        finally:
            other.close()

    assert asyncio.run(story()) == [0, 1, 2, 3]


def test_an_activation_may_revoke_what_came_before_it(scene: StoreScene) -> None:
    """In one transaction: a policy that is not activated revokes nothing."""

    async def story() -> None:
        await scene.fill()
        second = StoredPolicy(2, "p", b"e" * 32, b"text", NOW + 1)
        store = scene.store
        wrong = replace(second, epoch=3)
        assert not await store.activate_policy(wrong, author=AUTHOR, revoke_now=True)
        assert await store.continuity.revocations() == ()
        assert await store.activate_policy(second, author=AUTHOR, revoke_now=True)
        (revocation,) = await store.continuity.revocations()
        assert (revocation.kind, revocation.subject) == (RevokedKind.EPOCH, "2")
        latest = await store.continuity.latest_policies(at_most=1)
        assert [each.epoch for each in latest] == [2]
        assert len(await store.continuity.latest_policies(at_most=9)) == 2

    asyncio.run(story())


@pytest.mark.parametrize("again", [True, False])
def test_grants_that_live_are_listed_with_their_lineages(scene: StoreScene, *, again: bool) -> None:
    """The oldest first; whether their lineage goes on; what is over or too old is left out."""

    async def story() -> None:
        node = await scene.fill()
        other = await scene.node("b")
        await scene.renew(node, now=NOW + 1)
        await scene.renew(other, now=NOW + 2, leases=2)
        if not again:
            await scene.store.continuity.end_lineages([(other.id, None)])
        live = scene.store.continuity.live_grants
        # Leases of these scenes are over in the second of their decision.
        listed = await live(since=NOW, now=NOW)
        assert [(each.node, each.expires_at) for each in listed] == [
            (node.id, NOW + 1),
            (node.id, NOW + 1),
            (other.id, NOW + 2),
        ]
        assert [len(each.lease_ids) for each in listed] == [1, 1, 2]
        assert [each.goes_on for each in listed] == [True, True, again]
        assert listed[0].references == (b"r" * 32,)
        assert listed[0].root == listed[1].root
        assert await live(since=NOW, now=NOW + 1) == listed[2:]
        assert await live(since=NOW + 2, now=NOW) == listed[2:]
        assert await live(since=NOW, now=NOW + 2) == []

    asyncio.run(story())


def activated(epoch: int, life: int | None, at: int) -> StoredPolicy:
    """Return a policy under which leases live so long; None for text that no version wrote."""
    document = b"text" if life is None else make_policy(lease__life=str(life)).encode()
    return StoredPolicy(epoch, "p", hashlib.sha256(document).digest(), document, at)


@pytest.mark.parametrize(
    ("policies", "read"),
    [
        ([(120, -5000)], 120),
        ([(120, -10)], 120),
        ([(900, -5000), (60, -400)], 900),
        ([(900, -9000), (60, -5000)], 60),
        ([(60, -5000), (300, -700), (120, -5)], 300),
        ([(None, -5000)], MAX_LIFE),
        ([(None, -9000), (60, -5000)], 60),
        ([(60, -20)] * 16, MAX_LIFE),
    ],
    ids=str,
)
def test_grants_are_read_as_far_back_as_leases_lived(
    scene: StoreScene,
    monkeypatch: pytest.MonkeyPatch,
    policies: list[tuple[int | None, int]],
    read: int,
) -> None:
    """So long as any policy of that time says; as long as can be, where that is not known."""
    seen: list[int] = []
    granted = revocations._granted

    def watched(db: Connection, since: int) -> Iterator[tuple[bytes, bytes, bytes]]:
        seen.append(since)
        return granted(db, since)

    async def story() -> None:
        for epoch, (life, at) in enumerate(policies, 1):
            await scene.store.activate_policy(activated(epoch, life, NOW + at), author=AUTHOR)
        await scene.store.continuity.live_grants(since=NOW - MAX_LIFE - 65, now=NOW)
        await scene.store.continuity.live_grants(since=NOW - 30, now=NOW)

    monkeypatch.setattr(revocations, "_granted", watched)
    asyncio.run(story())
    assert seen == [NOW - read, NOW - 30]


def test_a_lease_of_a_policy_before_is_found(scene: StoreScene) -> None:
    """What an earlier policy granted for long lives on under one that grants for less."""

    async def story() -> None:
        store = scene.store
        await store.activate_policy(activated(1, 900, NOW - 1000), author=AUTHOR)
        node = await scene.node(now=NOW)
        await scene.renew(node, now=NOW)
        await store.activate_policy(activated(2, 30, NOW + 100), author=AUTHOR)
        # Leases of these scenes are over in the second of their decision.
        (found,) = await store.continuity.live_grants(since=NOW - MAX_LIFE, now=NOW - 1)
        assert found.node == node.id

    asyncio.run(story())
