"""Pruning deletes what nobody needs any more, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from bootlease.ledger import DecisionRecord, GovernanceRecord
from bootlease.store import Pruned, decisions, enrolments, ledgerreads, registry
from bootlease.store import retention as retention_module
from bootlease.store.registry import roots_digest
from bootlease.testing.store_scene import (
    AUTHOR,
    LOG,
    NOW,
    StoredNode,
    StoreScene,
    digest_of,
    reading,
)

DAY = 86_400
OTHER_LOG = b"another log" * 100


async def end(scene: StoreScene, node: StoredNode, *, now: int, log: bytes = LOG) -> None:
    """End a node's lineage by a refusal, and ask it another question."""
    await scene.renew(node, granted=False, log=log, now=now)
    await scene.ask(node, now=now)


async def has(scene: StoreScene, node: StoredNode) -> list[bool]:
    """Tell of each of a node's decisions whether its evidence is still there."""
    return [await scene.store.evidence(each.evidence) is not None for each in node.commits]


async def prune(scene: StoreScene, before: int) -> Pruned:
    """Prune as an operator does."""
    return await scene.store.prune(before=before, now=NOW + 90 * DAY, author=AUTHOR)


def test_an_ended_lineage_is_pruned_whole_and_a_younger_one_kept(scene: StoreScene) -> None:
    """Evidence and logs of the old lineage go; records and leaves stay for ever."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node, log=OTHER_LOG)
        await end(scene, node, now=NOW + 2, log=OTHER_LOG)
        await scene.ask(node, now=NOW + DAY)
        await scene.renew(node, now=NOW + DAY)
        (before,) = await scene.store.ledger.shards()
        assert await prune(scene, NOW + DAY) == Pruned(documents=2, logs=1)
        assert await has(scene, node) == [False, False, True]
        assert await scene.store.log(digest_of(OTHER_LOG)) is None
        assert await scene.store.log(digest_of(LOG)) == LOG
        assert len(await scene.store.decisions_of(node.id, at_most=9)) == 3
        for each in node.commits:
            assert await scene.store.ledger.position(each.digest) is not None
        shards = await scene.store.ledger.shards()
        assert sum(shard.size for shard in shards) == before.size + 2

    asyncio.run(story())
    shown = scene.rows("SELECT record FROM governance WHERE kind = 'evidence.pruned'")
    record = GovernanceRecord.parse(shown[0][0])
    assert record.author == AUTHOR
    assert record.details == {"before": NOW + DAY, "documents": 2, "logs": 1}


def test_a_lineage_with_a_younger_decision_keeps_its_first_evidence(scene: StoreScene) -> None:
    """The proof of a young lease goes back to the full evidence, however old that is."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        await scene.renew(node, now=NOW + 30)
        question = await scene.ask(node, now=NOW + DAY)
        await scene.commit(node, node.decide(question, granted=False, now=NOW + DAY))
        assert node.prior is None
        assert await prune(scene, NOW + DAY) == Pruned(0, 0)
        assert await prune(scene, NOW + DAY + 1) == Pruned(3, 1)

    asyncio.run(story())


def test_a_live_lineage_keeps_everything_however_old(scene: StoreScene) -> None:
    """A lineage that has not ended may be continued by digest alone."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        await scene.renew(node, now=NOW + 30)
        assert await prune(scene, NOW + 80 * DAY) == Pruned(0, 0)
        assert await has(scene, node) == [True, True]

    asyncio.run(story())


def test_a_log_that_another_node_needs_stays(scene: StoreScene) -> None:
    """One image's log is stored once, and kept while one kept document names it."""

    async def story() -> None:
        old, young = await scene.node("a"), await scene.node("b")
        await scene.renew(old)
        await end(scene, old, now=NOW + 2)
        await scene.renew(young)
        assert await prune(scene, NOW + DAY) == Pruned(documents=2, logs=0)
        assert await scene.store.log(digest_of(LOG)) == LOG

    asyncio.run(story())


def test_a_log_sent_again_while_it_is_pruned_is_not_lost(scene: StoreScene) -> None:
    """A decision made between plan and deletion keeps its log, or stores it anew."""
    store = scene.store

    async def story() -> None:
        old, young = await scene.node("a"), await scene.node("b")
        await scene.renew(old)
        await end(scene, old, now=NOW + 2)
        planned = await store._aside.read(retention_module.plan, NOW + DAY)
        assert planned.logs == (digest_of(LOG),)
        await store._writer.submit_recorded(
            NOW + DAY,
            lambda db, to: retention_module.announce(db, to, planned, now=NOW, author=AUTHOR),
        )
        await scene.renew(young)
        gone = await store._writer.submit(
            retention_module.delete_logs, planned.logs, last=planned.last
        )
        assert gone == 0
        assert await store.log(digest_of(LOG)) == LOG

    asyncio.run(story())


def test_a_log_pruned_under_a_decision_in_flight_is_stored_with_it(scene: StoreScene) -> None:
    """What was kept when the decision was prepared, and is gone when it commits, comes back."""
    store = scene.store

    async def story() -> None:
        old, young = await scene.node("a"), await scene.node("b")
        await scene.renew(old)
        await end(scene, old, now=NOW + 2)
        commit = young.decide(scene.question(young))
        pruning = prune(scene, NOW + DAY)
        results = await asyncio.gather(pruning, store.commit_decision(commit))
        assert results[0].documents == 2
        assert await store.log(digest_of(LOG)) == LOG

    asyncio.run(story())


def test_pruning_is_done_in_portions(scene: StoreScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list is deleted a transaction at a time, and completely."""
    monkeypatch.setattr(retention_module, "BATCH", 2)

    async def story() -> None:
        nodes = [await scene.node(str(number)) for number in range(5)]
        for number, node in enumerate(nodes):
            await scene.renew(node, log=b"log %d" % number)
            await end(scene, node, now=NOW + 2, log=b"log %d" % number)
        assert await prune(scene, NOW + DAY) == Pruned(documents=10, logs=5)

    asyncio.run(story())
    assert scene.rows("SELECT (SELECT count(*) FROM evidence), count(*) FROM blobs") == [(0, 0)]
    assert scene.rows("SELECT count(*) FROM prunings") == [(1,)]


def test_nothing_is_pruned_of_the_future(scene: StoreScene) -> None:
    """A time that has not come is a mistake."""

    async def story() -> None:
        with pytest.raises(ValueError, match="too old"):
            await scene.store.prune(before=NOW + 1, now=NOW, author=AUTHOR)

    asyncio.run(story())


def test_what_an_audit_asks_for_is_found(scene: StoreScene) -> None:
    """Inputs of decisions by their digests, governance by what it is about."""

    async def story() -> StoredNode:
        return await scene.fill()

    node = asyncio.run(story())
    record = DecisionRecord.parse(node.commits[0].record)
    with reading(scene.path) as db:
        assert decisions.evidence_document(db, record.evidence) == node.commits[0].document
        assert decisions.evidence_document(db, b"n" * 32) is None
        assert decisions.blob(db, digest_of(LOG)) == LOG
        assert decisions.blob(db, b"n" * 32) is None
        assert enrolments.record(db, record.enrolment) == node.record
        assert enrolments.record(db, b"n" * 32) is None
        policy = registry.policy_of(db, 1)
        assert policy is not None
        assert policy.document == b"text"
        assert registry.policy_of(db, 2) is None
        reference = registry.reference(db, b"d" * 32)
        assert reference is not None
        assert reference.name == "r"
        assert registry.reference(db, b"n" * 32) is None
        (about,) = ledgerreads.governance_about(db, record.enrolment)
        assert GovernanceRecord.parse(about).kind == "node.enrolled"
        assert ledgerreads.governance_record(db, digest_of(about)) == about
        opening = ledgerreads.opening(db, 1)
        assert opening is not None
        assert GovernanceRecord.parse(opening).kind == "ledger.opened"
        assert ledgerreads.opening(db, 2) is None


def test_root_sets_of_before_are_found_by_their_digest(scene: StoreScene) -> None:
    """Roots are numbered in the order in which they were added, so each set can be made again."""

    async def story() -> None:
        for der in (b"third", b"first", b"second"):
            await scene.store.add_root(der, now=NOW, author=AUTHOR)
        assert await scene.store.roots() == (b"third", b"first", b"second")

    asyncio.run(story())
    sets = [(), (b"third",), (b"third", b"first"), (b"third", b"first", b"second")]
    with reading(scene.path) as db:
        for each in sets:
            assert registry.root_set(db, roots_digest([digest_of(der) for der in each])) == each
        assert registry.root_set(db, b"n" * 32) is None
