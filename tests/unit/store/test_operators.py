"""What an operator does with nodes: labels, re-admission, replacement."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bootlease.ledger import GovernanceRecord
from bootlease.lineage import HighWaterMark
from bootlease.ports import Activated, CommitOutcome, RevokedKind, StoredRevocation
from bootlease.store import SQLStore
from bootlease.testing.store_scene import (
    AUTHOR,
    MARK,
    NOW,
    StoreScene,
    enrol,
    enrolment,
)

LATER = NOW + 10
TOKEN = b"t" * 32
LABELS = ("env=prod", "role=build")


def last_record(scene: StoreScene, kind: str) -> GovernanceRecord:
    """The latest governance record of a kind."""
    rows = scene.rows(
        f"SELECT record FROM governance WHERE kind = '{kind}' ORDER BY number DESC"  # noqa: S608 - of this file
    )
    return GovernanceRecord.parse(rows[0][0])


async def labels_of(store: SQLStore, node: bytes) -> tuple[str, ...]:
    """The labels of a node."""
    found = await store.node(node)
    assert found is not None
    return found.enrolment.labels


async def revoked(store: SQLStore) -> dict[str, bool]:
    """The nodes that were ever revoked, and whether they are."""
    return {each.subject: each.in_force for each in await store.continuity.revocations()}


def test_a_join_token_labels_the_node_that_enrols_with_it(scene: StoreScene) -> None:
    """The labels are in the record from the first decision on, and in the ledger's of the token."""

    async def story() -> None:
        store = scene.store
        await store.add_join_token(TOKEN, now=NOW, expires_at=LATER, author=AUTHOR, labels=LABELS)
        assert last_record(scene, "join-token.created").details["labels"] == "env=prod role=build"
        assert await enrol(store, enrolment(), join_token=TOKEN) is Activated.ENROLLED
        assert await labels_of(store, enrolment().node) == LABELS

    asyncio.run(story())


def test_a_node_cannot_have_labels_back_by_enrolling_again(scene: StoreScene) -> None:
    """What an operator took since the token was made stays taken; what they gave stays given."""

    async def story() -> None:
        store = scene.store
        node = enrolment().node
        await store.add_join_token(TOKEN, now=NOW, expires_at=LATER, author=AUTHOR, labels=LABELS)
        await enrol(store, enrolment(), join_token=TOKEN)
        await store.operators.label(node, ("env=lab",), now=NOW, author=AUTHOR)
        await enrol(store, enrolment(), join_token=TOKEN, now=NOW + 1)
        assert await labels_of(store, node) == ("env=lab",)
        await enrol(store, enrolment(ak=b"other"), now=NOW + 2)
        assert await labels_of(store, node) == ("env=lab",)

    asyncio.run(story())


def test_labelling_makes_a_record_and_ends_the_lineage(scene: StoreScene) -> None:
    """All decisions of a lineage rest on one record; the AK and what it proved stay."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        before = await scene.store.node(node.id)
        after = await scene.store.operators.label(node.id, LABELS, now=LATER, author=AUTHOR)
        assert before is not None
        assert after is not None
        assert after == await scene.store.node(node.id)
        assert after.enrolment == replace(before.enrolment, labels=LABELS)
        assert (after.generation, after.high_water) == (before.generation, before.high_water)
        assert await scene.store.enrolment(before.enrolment.digest) == before.enrolment
        lineage = await scene.store.lineage(node.id)
        assert (lineage.version, lineage.prior, lineage.decision) == (2, None, node.last)
        said = last_record(scene, "node.labelled")
        assert said.author == AUTHOR
        assert said.details["before"] == before.enrolment.digest
        assert said.details["enrolment"] == after.enrolment.digest

    asyncio.run(story())


def test_a_decision_that_was_appraised_with_other_labels_is_not_committed(
    scene: StoreScene,
) -> None:
    """An operator's act and a renewal at the same moment: the renewal is decided again."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        under_way = node.decide(scene.question(node))
        await scene.store.operators.label(node.id, LABELS, now=NOW, author=AUTHOR)
        outcome = (await scene.store.commit_decision(under_way)).outcome
        assert outcome is CommitOutcome.CONFLICT

    asyncio.run(story())


def test_the_same_labels_again_change_nothing(scene: StoreScene) -> None:
    """No lineage ends and nothing is recorded where nothing is said."""

    async def story() -> None:
        node = await scene.node()
        await scene.store.operators.label(node.id, LABELS, now=NOW, author=AUTHOR)
        lineage = await scene.store.lineage(node.id)
        records = scene.rows("SELECT count(*) FROM governance")
        await scene.store.operators.label(node.id, LABELS, now=LATER, author=AUTHOR)
        assert await scene.store.lineage(node.id) == lineage
        assert scene.rows("SELECT count(*) FROM governance") == records

    asyncio.run(story())


def test_labels_of_before_come_back_with_their_record(scene: StoreScene) -> None:
    """The record of before has its digest once, however often it is in force."""

    async def story() -> None:
        node = await scene.node()
        first = await scene.store.node(node.id)
        await scene.store.operators.label(node.id, LABELS, now=NOW, author=AUTHOR)
        again = await scene.store.operators.label(node.id, (), now=LATER, author=AUTHOR)
        assert again == first

    asyncio.run(story())


def test_readmission_forgets_the_counters_and_ends_the_lineage(scene: StoreScene) -> None:
    """The ledger keeps where they had stood, why, and by whom they were forgotten."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        under_way = node.decide(scene.question(node))
        was = await scene.store.operators.readmit(node.id, "cleared", now=LATER, author=AUTHOR)
        found = await scene.store.node(node.id)
        assert was == MARK
        assert found is not None
        assert found.high_water == HighWaterMark()
        assert (await scene.store.lineage(node.id)).prior is None
        said = last_record(scene, "node.readmitted")
        assert (said.author, said.time) == (AUTHOR, LATER)
        assert dict(said.details) == {
            "node": node.id,
            "reason": "cleared",
            "high_water": MARK.encode(),
        }
        assert (await scene.store.commit_decision(under_way)).outcome is CommitOutcome.CONFLICT

    asyncio.run(story())


def test_a_decision_under_way_does_not_survive_a_readmission_at_zero(scene: StoreScene) -> None:
    """Where the mark is the same before and after, the lineage's version tells."""

    async def story() -> None:
        node = await scene.node()
        under_way = node.decide(scene.question(node))
        await scene.store.operators.readmit(node.id, "new", now=NOW, author=AUTHOR)
        assert (await scene.store.commit_decision(under_way)).outcome is CommitOutcome.CONFLICT

    asyncio.run(story())


def test_readmission_lifts_a_revocation(scene: StoreScene) -> None:
    """A node that was revoked is usable again by one act."""

    async def story() -> None:
        node = await scene.node()
        await scene.store.continuity.add_revocation(
            StoredRevocation(
                RevokedKind.NODE,
                node.id.hex(),
                in_force=True,
                reason="stolen",
                author=AUTHOR,
                at=NOW,
            )
        )
        await scene.store.operators.readmit(node.id, "found", now=LATER, author=AUTHOR)
        assert await revoked(scene.store) == {node.id.hex(): False}

    asyncio.run(story())


def test_a_node_takes_the_labels_and_the_place_of_another(scene: StoreScene) -> None:
    """The old one is revoked and its lineage over, in the transaction that says so."""

    async def story() -> None:
        store = scene.store
        old, new = await scene.node("old"), await scene.node("new")
        await scene.renew(old)
        await store.operators.label(old.id, LABELS, now=NOW, author=AUTHOR)
        took = await store.operators.replace(old.id, new.id, now=LATER, author=AUTHOR)
        assert took == await store.node(new.id)
        assert await labels_of(store, new.id) == LABELS
        assert await revoked(store) == {old.id.hex(): True}
        assert (await store.lineage(old.id)).prior is None
        said = last_record(scene, "node.replaced")
        assert dict(said.details) == {"node": new.id, "replaces": old.id}
        assert said.author == AUTHOR

    asyncio.run(story())


def test_a_lineage_of_a_node_that_is_replaced_ends(scene: StoreScene) -> None:
    """What was appraised for it before is not committed after."""

    async def story() -> None:
        old, new = await scene.node("old"), await scene.node("new")
        await scene.renew(old)
        under_way = old.decide(scene.question(old))
        await scene.store.operators.replace(old.id, new.id, now=LATER, author=AUTHOR)
        assert (await scene.store.lineage(old.id)).prior is None
        outcome = (await scene.store.commit_decision(under_way)).outcome
        assert outcome is not CommitOutcome.COMMITTED

    asyncio.run(story())


def test_a_join_token_replaces_a_node_once(scene: StoreScene) -> None:
    """The node that enrols takes its place; enrolling again with the token replaces nobody."""

    async def story() -> None:
        store = scene.store
        old = await scene.node("old")
        await store.operators.label(old.id, LABELS, now=NOW, author=AUTHOR)
        await store.add_join_token(TOKEN, now=NOW, expires_at=LATER, author=AUTHOR, replaces=old.id)
        assert last_record(scene, "join-token.created").details["replaces"] == old.id
        new = enrolment("new")
        assert await enrol(store, new, join_token=TOKEN) is Activated.REPLACED
        assert await labels_of(store, new.node) == LABELS
        assert await revoked(store) == {old.id.hex(): True}
        assert await store.operators.replaced_by(new.node) == (old.id,)
        await store.operators.readmit(old.id, "back", now=NOW, author=AUTHOR)
        assert await enrol(store, new, join_token=TOKEN, now=NOW + 1) is Activated.ENROLLED
        assert await revoked(store) == {old.id.hex(): False}

    asyncio.run(story())


def test_a_node_does_not_replace_itself(scene: StoreScene) -> None:
    """The machine that was to go enrols with the token: it stays, and is not revoked."""

    async def story() -> None:
        old = await scene.node("old")
        await scene.store.add_join_token(
            TOKEN, now=NOW, expires_at=LATER, author=AUTHOR, replaces=old.id
        )
        outcome = await enrol(scene.store, enrolment("old"), join_token=TOKEN, now=NOW + 1)
        assert outcome is Activated.ENROLLED
        assert await revoked(scene.store) == {}

    asyncio.run(story())


@pytest.mark.parametrize("act", ["label", "readmit", "replace", "replace by"])
def test_nothing_is_done_with_a_stranger(scene: StoreScene, act: str) -> None:
    """A node that is not enrolled gets no record and no labels, and replaces nobody."""

    async def story() -> None:
        node = await scene.node()
        records = scene.rows("SELECT count(*) FROM governance")
        stranger, operators = b"s" * 32, scene.store.operators
        done: object
        if act == "label":
            done = await operators.label(stranger, LABELS, now=NOW, author=AUTHOR)
        elif act == "readmit":
            done = await operators.readmit(stranger, "x", now=NOW, author=AUTHOR)
        elif act == "replace":
            done = await operators.replace(stranger, node.id, now=NOW, author=AUTHOR)
        else:
            done = await operators.replace(node.id, stranger, now=NOW, author=AUTHOR)
        assert done is None
        assert scene.rows("SELECT count(*) FROM governance") == records
        assert await revoked(scene.store) == {}

    asyncio.run(story())
