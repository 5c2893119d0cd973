"""A decision: what must hold for it, and everything that it changes at once."""

from __future__ import annotations

import asyncio
import threading
import zlib
from dataclasses import replace

import pytest

from bootlease.lineage import HighWaterMark
from bootlease.ports import (
    CommitOutcome,
    Committed,
    InForce,
    StoredPolicy,
    StoredReference,
)
from bootlease.store import SQLStore
from bootlease.testing.store_scene import (
    AUTHOR,
    LIFE,
    LOG,
    MARK,
    NOW,
    UNDECIDED,
    StoreScene,
    challenge,
    digest_of,
    enrolment,
)


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        (HighWaterMark(8, 0, 0), HighWaterMark(8, 0, 0)),
        (HighWaterMark(7, 3, 1), HighWaterMark(7, 3, 1)),
        (HighWaterMark(7, 2, 1 << 63), HighWaterMark(7, 2, 1 << 63)),
        (HighWaterMark(7, 2, 4), MARK),
        (HighWaterMark(7, 1, 9), MARK),
        (HighWaterMark(6, 9, 9), MARK),
    ],
    ids=["reset", "restart", "clock", "clock back", "restart back", "reset back"],
)
def test_the_high_water_mark_only_rises(
    scene: StoreScene, counters: HighWaterMark, expected: HighWaterMark
) -> None:
    """Grants and refusals raise it as far as they saw the TPM stand; nothing lowers it (A23)."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        question = scene.question(node)
        await scene.commit(node, node.decide(question, granted=False, counters=counters))
        found = await scene.store.node(node.id)
        assert found is not None
        assert found.high_water == expected

    asyncio.run(story())


def test_a_commit_conflicts_with_another_high_water_mark(scene: StoreScene) -> None:
    """A rollback judged by the mark of before is judged again."""

    async def story() -> None:
        node = await scene.node()
        stale = replace(node.decide(scene.question(node)), high_water=MARK)
        assert await scene.store.commit_decision(stale) == Committed(CommitOutcome.CONFLICT)

    asyncio.run(story())


def test_nothing_commits_by_what_the_operator_has_overruled(scene: StoreScene) -> None:
    """Policy, references and roots must be those that were appraised with."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        question = scene.question(node)
        assert await store.in_force() == UNDECIDED
        changes = (
            store.activate_policy(StoredPolicy(1, "p", b"d" * 32, b"text", NOW), author=AUTHOR),
            store.add_reference(StoredReference("r", b"d" * 32, b"text", NOW), author=AUTHOR),
            store.add_root(b"der", now=NOW, author=AUTHOR),
        )
        seen = UNDECIDED
        for change in changes:
            await change
            stale = await store.commit_decision(node.decide(question, in_force=seen))
            assert stale.outcome is CommitOutcome.OUTDATED
            seen = await store.in_force()
        assert seen == InForce(1, 1, 1)
        made = await store.commit_decision(node.decide(question, in_force=seen))
        assert made.outcome is CommitOutcome.COMMITTED

    asyncio.run(story())


def test_a_policy_activated_in_the_same_group_overrules_its_decisions(scene: StoreScene) -> None:
    """Those who wait together are judged by what the operator has decided among them."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        decision = node.decide(scene.question(node))
        policy = StoredPolicy(1, "p", b"d" * 32, b"text", NOW)
        results = await asyncio.gather(
            store.commit_decision(decision), store.activate_policy(policy, author=AUTHOR)
        )
        # Whether they share a group or not, one order of the two explains what came of them.
        found = await store.decision(decision.digest)
        assert results[0].outcome in {CommitOutcome.OUTDATED, CommitOutcome.COMMITTED}
        assert (found is None) == (results[0].outcome is CommitOutcome.OUTDATED)
        late = await store.commit_decision(node.decide(await scene.ask(node)))
        assert late.outcome in {CommitOutcome.OUTDATED, CommitOutcome.CONFLICT}

    asyncio.run(story())


def test_logs_are_compressed_outside_the_transaction(
    scene: StoreScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the writer while another's ten megabytes are compressed; once is enough."""
    threads: list[str] = []
    compress = zlib.compress

    def watched(data: bytes, level: int) -> bytes:
        threads.append(threading.current_thread().name)
        return compress(data, level)

    monkeypatch.setattr(zlib, "compress", watched)

    async def story() -> None:
        for name in "ab":
            await scene.renew(await scene.node(name))

    asyncio.run(story())
    assert len(threads) == 1
    assert "writer" not in threads[0]
    assert scene.rows("SELECT size, length(data) < 100 FROM blobs") == [(len(LOG), 1)]


def test_a_commit_stores_everything_that_the_decision_changes(scene: StoreScene) -> None:
    """Decision, evidence, log, answer, lineage, next challenge and floor appear together."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        question = scene.question(node)
        committed = await scene.renew(node)
        (made,) = node.commits
        spent = await store.challenge(question.nonce)
        assert spent is not None
        assert spent.spent_at == NOW + 1
        stored = await store.decision(made.digest)
        assert stored is not None
        assert (stored.number, stored.record, stored.claims) == (1, made.record, made.claims)
        assert await store.evidence(made.evidence) == made.document
        assert await store.log(digest_of(LOG)) == LOG
        assert committed.answer is not None
        assert committed.answer.body.startswith(b"answer:")
        assert await store.answer(node.id, made.request, now=NOW) == committed.answer
        assert await store.answer(b"other" * 6, made.request, now=NOW) is None
        assert await store.answer(node.id, made.request, now=NOW + 1 + LIFE) is None
        lineage = await store.lineage(node.id)
        assert (lineage.version, lineage.prior, lineage.decision) == (1, node.prior, made.digest)
        assert made.next_challenge is not None
        following = await store.challenge(made.next_challenge.nonce)
        assert following is not None
        assert (following.spent_at, following.asked) == (None, False)

    asyncio.run(story())


def test_a_standing_is_answer_node_and_lineage_at_once(scene: StoreScene) -> None:
    """One read says what three would; a stranger has none of it."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        fresh = await store.standing(node.id, b"q" * 32, now=NOW)
        assert (fresh.answer, fresh.node) == (None, await store.node(node.id))
        assert fresh.lineage == await store.lineage(node.id)
        await scene.renew(node)
        request = node.commits[0].request
        later = await store.standing(node.id, request, now=NOW)
        assert later.answer == await store.answer(node.id, request, now=NOW)
        assert later.answer is not None
        assert later.lineage.prior == node.prior
        expired = await store.standing(node.id, request, now=NOW + 1 + LIFE)
        assert (expired.answer, expired.lineage) == (None, later.lineage)
        other = await scene.node("b")
        assert (await store.standing(other.id, request, now=NOW)).answer is None
        stranger = await store.standing(b"n" * 32, request, now=NOW)
        assert (stranger.answer, stranger.node, stranger.lineage.version) == (None, None, 0)

    asyncio.run(story())


def test_decisions_of_a_node_are_found_backwards(scene: StoreScene) -> None:
    """Each record names the one before; other nodes' decisions between do not disturb."""

    async def story() -> None:
        one, other = await scene.node("a"), await scene.node("b")
        for now in range(NOW + 1, NOW + 4):
            await scene.renew(one, now=now)
            await scene.renew(other, now=now)
        found = await scene.store.decisions_of(one.id, at_most=2)
        assert [each.digest for each in found] == [one.commits[2].digest, one.commits[1].digest]
        every = await scene.store.decisions_of(other.id, at_most=9)
        assert [each.number for each in every] == [6, 4, 2]
        assert await scene.store.decisions_of(b"n" * 32, at_most=9) == ()

    asyncio.run(story())


def test_two_concurrent_uses_of_a_challenge_commit_once(scene: StoreScene) -> None:
    """One wins; the same evidence is told of the answer, other evidence of the spent nonce."""

    async def story() -> None:
        node = await scene.node()
        question = scene.question(node)
        one, other = node.decide(question), node.decide(question)
        committed = await asyncio.gather(
            *map(scene.store.commit_decision, (one, other, one)),
        )
        assert [each.outcome for each in committed] == [
            CommitOutcome.COMMITTED,
            CommitOutcome.SPENT,
            CommitOutcome.ANSWERED,
        ]
        assert [each.answer is None for each in committed] == [False, True, True]
        again = await scene.store.commit_decision(one)
        assert again.outcome is CommitOutcome.ANSWERED
        assert len(await scene.store.decisions_of(node.id, at_most=5)) == 1

    asyncio.run(story())


def test_a_commit_conflicts_with_a_moved_lineage_or_another_ak(scene: StoreScene) -> None:
    """What was appraised against must still hold; a conflict consumes nothing."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        stale = node.decide(await scene.ask(node))
        second = scene.question(node)
        await scene.commit(node, node.decide(await scene.ask(node)))
        assert (await store.commit_decision(stale)).outcome is CommitOutcome.CONFLICT
        swapped = replace(node.decide(second), generation=2)
        assert (await store.commit_decision(swapped)).outcome is CommitOutcome.CONFLICT
        unspent = await store.challenge(second.nonce)
        assert unspent is not None
        assert unspent.spent_at is None
        assert (await store.commit_decision(node.decide(second))).outcome is CommitOutcome.COMMITTED

    asyncio.run(story())


def test_two_renewals_of_one_head_cannot_both_commit(scene: StoreScene) -> None:
    """Two challenges of one node, answered at the same moment: the second sees another lineage."""

    async def story() -> None:
        node = await scene.node()
        first, second = scene.question(node), await scene.ask(node)
        committed = await asyncio.gather(
            *map(scene.store.commit_decision, (node.decide(first), node.decide(second)))
        )
        outcomes = [each.outcome for each in committed]
        assert outcomes == [CommitOutcome.COMMITTED, CommitOutcome.CONFLICT]

    asyncio.run(story())


def test_a_commit_refuses_an_expired_foreign_or_unknown_challenge(scene: StoreScene) -> None:
    """The transaction looks at node and time again (attack A13)."""

    async def story() -> None:
        node, other = await scene.node(), await scene.node("b")
        question = scene.question(node)
        made = node.decide(question)
        for bad in (
            replace(made, now=question.expires_at),
            other.decide(question),
            replace(made, nonce=b"n" * 32),
        ):
            assert (await scene.store.commit_decision(bad)).outcome is CommitOutcome.EXPIRED

    asyncio.run(story())


def test_good_decisions_commit_beside_bad_ones(scene: StoreScene) -> None:
    """In one group, each decision has its own outcome, and only the accepted have leaves."""

    async def story() -> None:
        nodes = [await scene.node(str(number)) for number in range(9)]
        made = [node.decide(scene.question(node)) for node in nodes]
        made[1] = replace(made[1], nonce=b"n" * 32)
        made[4] = replace(made[4], lineage_version=3)
        made[7] = replace(made[7], in_force=InForce(9, 9, 9))
        (before,) = await scene.store.ledger.shards()
        committed = await asyncio.gather(*map(scene.store.commit_decision, made))
        outcomes = [each.outcome for each in committed]
        assert outcomes.count(CommitOutcome.COMMITTED) == 6
        assert outcomes[1] is CommitOutcome.EXPIRED
        assert outcomes[4] is CommitOutcome.CONFLICT
        assert outcomes[7] is CommitOutcome.OUTDATED
        (after,) = await scene.store.ledger.shards()
        assert after.size == before.size + 6

    asyncio.run(story())


def test_asked_challenges_are_bounded_and_those_in_answers_are_not_counted(
    scene: StoreScene,
) -> None:
    """A stranger who asks in a node's name cannot use up what its renewals live on (G8)."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        granted = [
            await store.add_challenge(challenge(node.id), now=NOW, at_most=4) for _ in range(6)
        ]
        assert granted == [True] * 4 + [False] * 2
        assert await store.add_challenge(challenge(node.id), now=NOW + LIFE, at_most=4)

    asyncio.run(story())


def test_policies_are_activated_one_epoch_after_the_other(store: SQLStore) -> None:
    """A second activation of one epoch loses."""

    async def story() -> None:
        first = StoredPolicy(1, "p", b"d" * 32, b"text", NOW)
        assert await store.policy() is None
        assert await store.activate_policy(first, author=AUTHOR)
        assert not await store.activate_policy(first, author=AUTHOR)
        assert await store.activate_policy(replace(first, epoch=2), author=AUTHOR)
        active = await store.policy()
        assert active is not None
        assert active.epoch == 2

    asyncio.run(story())


def test_sweeping_removes_what_has_expired_and_nothing_else(scene: StoreScene) -> None:
    """Challenges and answers go; decisions stay."""

    async def story() -> None:
        node = await scene.node()
        question = scene.question(node)
        await scene.renew(node)
        await scene.store.sweep(now=NOW + LIFE + 301)
        assert await scene.store.challenge(question.nonce) is None
        assert await scene.store.decision(node.commits[0].digest) is not None

    asyncio.run(story())
    assert scene.rows("SELECT count(*) FROM answers") == [(0,)]


def test_an_enrolment_is_found_by_the_digest_in_a_decision(scene: StoreScene) -> None:
    """A decision can be made again with the record that it names."""

    async def story() -> None:
        node = await scene.node()
        found = await scene.store.enrolment(node.record.digest)
        assert found == node.record
        assert found != enrolment()

    asyncio.run(story())


def test_sweeping_is_done_in_portions(scene: StoreScene) -> None:
    """A long list is swept a transaction at a time, between which decisions have their turn."""
    store = scene.store

    async def story() -> None:
        node = await scene.node()
        for portion in range(3):
            asked = [challenge(node.id, NOW + portion) for _ in range(100)]
            await asyncio.gather(
                *(store.add_challenge(each, now=NOW, at_most=999) for each in asked)
            )
        late = challenge(node.id, NOW + LIFE + 302)
        await store.add_challenge(late, now=NOW, at_most=999)
        await store.sweep(now=NOW + LIFE + 302)
        assert await store.challenge(late.nonce) is not None

    asyncio.run(story())
    assert scene.rows("SELECT count(*) FROM challenges") == [(1,)]


def test_a_spent_challenge_is_no_good_for_a_decision_that_holds_otherwise(
    scene: StoreScene,
) -> None:
    """Alone, a second use would find node and lineage as it wants them: the nonce refuses it."""

    async def story() -> None:
        node = await scene.node()
        question = scene.question(node)
        await scene.renew(node)
        late = node.decide(question, now=NOW + 2)
        assert (await scene.store.commit_decision(late)).outcome is CommitOutcome.SPENT
        assert await scene.store.decision(late.digest) is None
        spent = await scene.store.challenge(question.nonce)
        assert spent is not None
        assert spent.spent_at == NOW + 1

    asyncio.run(story())
