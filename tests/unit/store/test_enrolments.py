"""Enrolments, join tokens and the records they leave."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from bootlease import cbor
from bootlease.ledger import GovernanceRecord
from bootlease.ports import (
    Activated,
    CommitOutcome,
    StoreBusyError,
    StoredPolicy,
    StoreUnavailableError,
)
from bootlease.store import SQLStore
from bootlease.testing.store_scene import (
    AUTHOR,
    MARK,
    NOW,
    SECRET,
    StoreScene,
    digest_of,
    enrol,
    enrolment,
    pending,
)


def test_an_activation_enrols_once_and_only_with_the_secret(store: SQLStore) -> None:
    """One wrong secret, and the pending enrolment is gone for the right one too."""

    async def story() -> None:
        waiting = pending(enrolment())
        await store.add_pending(waiting, now=NOW, at_most=10)
        right = digest_of(SECRET)
        wrong = await store.activate(waiting.id, b"x" * 32, now=NOW)
        assert wrong[0] is Activated.WRONG_SECRET
        assert (await store.activate(waiting.id, right, now=NOW))[0] is Activated.UNKNOWN
        assert await store.node(waiting.enrolment.node) is None

    asyncio.run(story())


def test_a_pending_enrolment_expires(store: SQLStore) -> None:
    """The secret comes too late."""

    async def story() -> None:
        waiting = pending(enrolment())
        await store.add_pending(waiting, now=NOW, at_most=10)
        late = await store.activate(waiting.id, digest_of(SECRET), now=waiting.expires_at)
        assert late == (Activated.UNKNOWN, None)

    asyncio.run(story())


def test_pending_enrolments_are_bounded_and_swept(store: SQLStore) -> None:
    """A full table refuses until what it holds has expired."""

    async def story() -> None:
        for name in "ab":
            await store.add_pending(pending(enrolment(name)), now=NOW, at_most=2)
        with pytest.raises(StoreBusyError):
            await store.add_pending(pending(enrolment("c")), now=NOW, at_most=2)
        await store.add_pending(pending(enrolment("c")), now=NOW + 60, at_most=2)

    asyncio.run(story())


def test_one_node_has_few_pending_enrolments(store: SQLStore) -> None:
    """Whoever shows another's EK takes its own places, not those of all; the newest stand."""

    async def story() -> None:
        begun = [replace(pending(enrolment()), expires_at=NOW + 50 + number) for number in range(6)]
        for waiting in begun:
            await store.add_pending(waiting, now=NOW, at_most=5)
        await store.add_pending(pending(enrolment("b")), now=NOW, at_most=5)
        right = digest_of(SECRET)
        outcomes = [(await store.activate(each.id, right, now=NOW))[0] for each in begun]
        assert outcomes == [Activated.UNKNOWN] * 2 + [Activated.ENROLLED] * 4

    asyncio.run(story())


def test_nobody_enrols_by_a_policy_that_is_over(store: SQLStore) -> None:
    """A policy activated between request and activation has not admitted the node."""

    async def story() -> None:
        waiting = pending(enrolment(), epoch=1)
        await store.activate_policy(StoredPolicy(1, "p", b"d" * 32, b"text", NOW), author=AUTHOR)
        await store.add_pending(waiting, now=NOW, at_most=5)
        await store.activate_policy(StoredPolicy(2, "p", b"e" * 32, b"text", NOW), author=AUTHOR)
        outcome = await store.activate(waiting.id, digest_of(SECRET), now=NOW)
        assert outcome == (Activated.POLICY_MOVED, waiting.enrolment.node)
        assert await store.node(waiting.enrolment.node) is None

    asyncio.run(story())


def test_an_enrolment_that_was_replaced_is_still_found_by_its_digest(store: SQLStore) -> None:
    """A decision can be made again with the record that it names."""

    async def story() -> None:
        await enrol(store, enrolment())
        before = await store.node(enrolment().node)
        await enrol(store, enrolment(ak=b"other"))
        after = await store.node(enrolment().node)
        assert before is not None
        assert after is not None
        assert await store.enrolment(before.enrolment.digest) == before.enrolment
        assert await store.enrolment(after.enrolment.digest) == after.enrolment
        assert await store.enrolment(b"n" * 32) is None

    asyncio.run(story())


def test_a_join_token_binds_to_its_first_node_which_may_retry(store: SQLStore) -> None:
    """Another EK is refused the token, at the request and at activation."""

    async def story() -> None:
        token = b"t" * 32
        await store.add_join_token(token, now=NOW, expires_at=NOW + 100, author=AUTHOR)
        first, second = enrolment("a"), enrolment("b")
        late = pending(second, join_token=token)
        await store.add_pending(late, now=NOW, at_most=10)
        assert await enrol(store, first, join_token=token) is Activated.ENROLLED
        assert await enrol(store, first, join_token=token) is Activated.ENROLLED
        assert await store.join_token_admits(token, first.node, now=NOW)
        assert not await store.join_token_admits(token, second.node, now=NOW)
        assert not await store.join_token_admits(token, first.node, now=NOW + 100)
        outcome, _ = await store.activate(late.id, digest_of(SECRET), now=NOW)
        assert outcome is Activated.JOIN_TOKEN_TAKEN
        assert await store.node(second.node) is None

    asyncio.run(story())


def test_another_ak_replaces_the_first_keeps_the_floor_and_ends_the_lineage(
    scene: StoreScene,
) -> None:
    """Re-enrolment is one atomic change of the record (attacks B7, B9)."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        assert await enrol(scene.store, enrolment(ak=b"other")) is Activated.ENROLLED
        found = await scene.store.node(node.id)
        assert found is not None
        assert (found.enrolment.ak_public, found.generation) == (b"other", 2)
        assert found.high_water == MARK
        lineage = await scene.store.lineage(node.id)
        assert (lineage.version, lineage.prior, lineage.decision) == (2, None, node.last)

    asyncio.run(story())


@pytest.mark.parametrize("later", [0, 9])
def test_the_same_ak_again_ends_the_lineage_too(scene: StoreScene, later: int) -> None:
    """A lineage rests on one record: what was appraised by the one before is not committed."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        before = node.decide(scene.question(node))
        await enrol(scene.store, enrolment(), now=NOW + later)
        found = await scene.store.node(node.id)
        assert found is not None
        assert (found.generation, found.enrolment.enrolled_at) == (1, NOW + later)
        assert found.high_water == MARK
        lineage = await scene.store.lineage(node.id)
        assert (lineage.version, lineage.prior, lineage.decision) == (2, None, node.last)
        stale = await scene.store.commit_decision(before)
        assert stale.outcome is CommitOutcome.CONFLICT
        node.version, node.prior = lineage.version, None
        await scene.renew(node)

    asyncio.run(story())


def test_an_enrolment_is_recorded_by_its_node(scene: StoreScene) -> None:
    """The ledger says which node enrolled, with which record; a failed one leaves nothing."""

    async def story() -> None:
        await enrol(scene.store, enrolment("b"), secret=b"wrong")
        await scene.node()

    asyncio.run(story())
    (record,) = scene.rows("SELECT record, subject FROM governance WHERE kind = 'node.enrolled'")
    made = GovernanceRecord.parse(record[0])
    enrolled = replace(enrolment(), enrolled_at=NOW)
    assert made.author == f"node:{enrolled.node.hex()}"
    chain = digest_of(cbor.encode([b"der"]))
    assert made.details == {"node": enrolled.node, "enrolment": enrolled.digest, "chain": chain}
    assert record[1] == enrolled.digest


def test_an_enrolment_record_that_was_altered_is_not_used(scene: StoreScene) -> None:
    """The node's row names its record by digest; another document under it is noticed."""

    async def story() -> None:
        await scene.node()

    asyncio.run(story())
    other = enrolment("b").encode()
    with closing(sqlite3.connect(scene.path)) as raw:
        raw.execute("DROP TRIGGER enrolment_records_no_update")
        raw.execute("UPDATE enrolment_records SET document = ?", (other,))
        raw.commit()
    with closing(scene.open()) as again, pytest.raises(StoreUnavailableError, match="altered"):
        asyncio.run(again.node(enrolment().node))
