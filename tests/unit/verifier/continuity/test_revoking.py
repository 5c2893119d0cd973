"""Revoking, against what happens at the same moment: nothing slips through between two steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bootlease.endorsement import Endorsement, MakePattern
from bootlease.errors import MalformedError
from bootlease.evidence import LeaseAnswer
from bootlease.policy.values import MAX_LIFE
from bootlease.ports import (
    CommitOutcome,
    Committed,
    DecisionCommit,
    RevokedKind,
    StoreBusyError,
    StoredRevocation,
    StoreUnavailableError,
)
from bootlease.store import SQLStore
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, default_lease
from bootlease.token.claimparts import status_index
from bootlease.verifier.continuity.doubtful import Doubtful
from bootlease.verifier.continuity.ending import Ended, EndKind
from bootlease.verifier.continuity.live import KEPT, LEAP, LiveLeases
from bootlease.verifier.continuity.revoked import NOTHING_REVOKED, Revoked, parse_subject
from bootlease.verifier.grants import Grants
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.service import Service, build_service
from tests.unit.verifier.worlds import AUTHOR, ISSUER, World, make_world

Play = Callable[[Callable[[World], Awaitable[None]]], None]
NODE = RevokedKind.NODE


@pytest.fixture
def play(tmp_path: Path, local_ca: LocalCA) -> Iterator[Play]:
    """Play a story with a verifier of one node."""
    stores: list[SQLStore] = []

    def run(story: Callable[[World], Awaitable[None]]) -> None:
        async def whole() -> None:
            world = await make_world(tmp_path, local_ca, policy=POLICY)
            stores.append(world.store)
            await story(world)

        asyncio.run(whole())

    yield run
    for store in stores:
        store.close()


async def granted(world: World, service: Service | None = None) -> bytes:
    """Begin a lineage and return its lease's id."""
    leasing = (service or world.service).leasing
    evidence = world.attest(await leasing.challenge(world.node), leases=[default_lease()])
    decided = await leasing.lease(world.node, evidence)
    return LeaseAnswer.parse(decided.answer.body).leases[0].lease_id


async def restarted(world: World) -> Service:
    """Return the same verifier, started again on the same store."""
    return await build_service(world.store, world.keys, ISSUER, clock=world.clock)


def lives(service: Service, world: World, lease_id: bytes) -> bool:
    """Tell whether a lease lives."""
    return service.ending.live.is_live(lease_id, world.clock.now())


def test_a_decision_that_was_appraised_before_a_revocation_is_not_committed(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is revoked while evidence is appraised holds for that evidence."""

    async def story(world: World) -> None:
        service, store = world.service, world.store
        evidence = world.attest(
            await service.leasing.challenge(world.node), leases=[default_lease()]
        )
        commit_decision = store.commit_decision
        outcomes = []

        async def meanwhile(commit: DecisionCommit) -> Committed:
            await service.revoking.revoke(NODE, world.node.hex(), reason="r", author=AUTHOR)
            committed = await commit_decision(commit)
            outcomes.append(committed.outcome)
            return committed

        monkeypatch.setattr(store, "commit_decision", meanwhile)
        with pytest.raises(ProblemError) as refused:
            await service.leasing.lease(world.node, evidence)
        assert refused.value.kind is ProblemKind.REVOKED
        assert outcomes == [CommitOutcome.OUTDATED]
        assert not await store.decisions_of(world.node, at_most=1)
        # What was noted for the decision is forgotten again.
        assert len(service.ending.live) == 0

    play(story)


def test_a_lease_that_is_committed_while_its_node_is_revoked_has_its_bit(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known before it is committed, whoever hears of the commit first."""

    async def story(world: World) -> None:
        service, store = world.service, world.store
        commit_decision = store.commit_decision

        async def revoked_after(commit: DecisionCommit) -> Committed:
            committed = await commit_decision(commit)
            await service.revoking.revoke(NODE, world.node.hex(), reason="r", author=AUTHOR)
            return committed

        monkeypatch.setattr(store, "commit_decision", revoked_after)
        lease_id = await granted(world)
        assert not lives(service, world, lease_id)

    play(story)


def test_a_verifier_killed_in_the_middle_of_revoking_finishes_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revocation is durable first; the rest is made up for at the next start."""

    async def story(world: World) -> None:
        lease_id = await granted(world)
        kept = await granted(world)

        async def killed(_: object) -> None:
            raise RuntimeError("killed")

        monkeypatch.setattr(world.store.continuity, "end_lineages", killed)
        with pytest.raises(RuntimeError, match="killed"):
            await world.service.revoking.revoke(NODE, world.node.hex(), reason="r", author=AUTHOR)
        monkeypatch.undo()
        service = await restarted(world)
        assert not lives(service, world, lease_id)
        assert not lives(service, world, kept)
        assert (await world.store.lineage(world.node)).prior is None

    play(story)


@pytest.mark.parametrize("kind", [NODE, RevokedKind.LINEAGE, RevokedKind.REFERENCE])
def test_a_revoked_lineage_cannot_be_continued(play: Play, kind: RevokedKind) -> None:
    """It has ended in the store, so a verifier that starts again knows it too."""

    async def story(world: World) -> None:
        lease_id = await granted(world)
        lineage = await world.store.lineage(world.node)
        assert lineage.prior is not None
        (reference,) = world.service.registry.now.references
        subject = {
            NODE: world.node,
            RevokedKind.LINEAGE: lineage.prior.root,
            RevokedKind.REFERENCE: reference.digest,
        }[kind]
        done = await world.service.revoking.revoke(kind, subject.hex(), reason="r", author=AUTHOR)
        assert (done.new, done.nodes, done.leases) == (True, 1, 1)
        assert not lives(world.service, world, lease_id)
        assert (await world.store.lineage(world.node)).prior is None
        assert not lives(await restarted(world), world, lease_id)

    play(story)


@pytest.mark.parametrize("step", ["end_lineages", "reload"])
def test_what_is_durably_revoked_is_published_though_a_later_step_fails(
    play: Play, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A store that is busy just then is no reason to keep quiet; the operator is told to repeat."""

    async def story(world: World) -> None:
        service, lease_id = world.service, await granted(world)

        async def busy(*_: object) -> None:
            raise StoreBusyError("busy")

        where = service.registry if step == "reload" else type(world.store.continuity)
        with monkeypatch.context() as patched:
            patched.setattr(where, step, busy)
            with pytest.raises(StoreBusyError):
                await service.revoking.revoke(NODE, world.node.hex(), reason="gone", author=AUTHOR)
        assert not service.ending.live.is_live(lease_id, world.clock.now())
        again = await service.revoking.revoke(NODE, world.node.hex(), reason="gone", author=AUTHOR)
        assert not again.new
        assert (await world.store.lineage(world.node)).prior is None

    play(story)


def test_whoever_listens_hears_of_every_end_once(play: Play) -> None:
    """Why, whose, and which leases."""

    async def story(world: World) -> None:
        heard: list[Ended] = []
        world.service.notify.append(heard.append)
        first = await granted(world)
        second = await granted(world)
        assert [(each.kind, each.lease_ids) for each in heard] == [(EndKind.SUPERSEDED, (first,))]
        heard.clear()
        for _ in range(2):
            await world.service.revoking.revoke(
                RevokedKind.LEASE, second.hex(), reason="lost", author=AUTHOR
            )
        now = world.clock.now()
        assert heard == [Ended(EndKind.REVOKED, world.node, (second,), "lost", now)]
        heard.clear()
        await world.enrol()
        third = await granted(world)
        await world.enrol()
        assert [(each.kind, each.lease_ids) for each in heard] == [
            (EndKind.ENROLLED_AGAIN, (third,))
        ]
        heard.clear()
        fourth = await granted(world)
        challenge = await world.service.leasing.challenge(world.node)
        wish = default_lease(scope=("nobody:may",))
        await world.service.leasing.lease(world.node, world.attest(challenge, leases=[wish]))
        (refused,) = heard
        assert (refused.kind, refused.lease_ids) == (EndKind.REFUSED, (fourth,))
        assert refused.reason

    play(story)


def test_an_epoch_floor_comes_one_life_after_activation(play: Play) -> None:
    """When every lease of an epoch before is over, whatever came in between; after a start too."""

    async def story(world: World) -> None:
        registry, now = world.service.registry, world.clock.now()
        assert registry.now.min_epoch(now) == 0
        short = POLICY.replace("life = 120", "life = 30").encode()
        await registry.activate_policy(short, author="a")
        world.clock.pass_time(10)
        await registry.activate_policy(POLICY.encode(), author="a")
        for snapshot in (registry.now, (await restarted(world)).registry.now):
            assert snapshot.min_epoch(now + 119) == 0
            # The third's would come sooner: but leases of the first live on until then.
            assert snapshot.min_epoch(now + 120) == 3
        await registry.activate_policy(short, author="a")
        assert registry.now.min_epoch(now + 129) == 3
        assert registry.now.min_epoch(now + 130) == 4
        await registry.activate_policy(POLICY.encode(), author="a", revoke_now=True)
        assert registry.now.min_epoch(now + 10) == 5
        assert (await restarted(world)).registry.now.min_epoch(now + 10) == 5

    play(story)


def revocation(kind: RevokedKind, subject: str, *, in_force: bool = True) -> StoredRevocation:
    """A revocation."""
    return StoredRevocation(kind, subject, in_force, "r", "a", 0)


def test_the_last_word_on_a_subject_counts() -> None:
    """A revocation that was taken back is none, until there is another."""
    node, digest, root = "11" * 32, "22" * 32, "33" * 32
    family = "make:id:49465800/SLB9665/*"
    said = [
        revocation(NODE, node),
        revocation(RevokedKind.REFERENCE, digest),
        revocation(RevokedKind.FAMILY, family),
        revocation(RevokedKind.FAMILY, f"root:{root}"),
        revocation(RevokedKind.EPOCH, "3"),
        revocation(RevokedKind.EPOCH, "2"),
        revocation(RevokedKind.KEY, "k"),
        revocation(RevokedKind.LEASE, "44" * 16),
        revocation(RevokedKind.LINEAGE, "55" * 32),
    ]
    revoked = Revoked.of(said)
    assert revoked == Revoked(
        nodes=frozenset({b"\x11" * 32}),
        leases=frozenset({b"\x44" * 16}),
        lineages=frozenset({b"\x55" * 32}),
        references=frozenset({b"\x22" * 32}),
        makes=(MakePattern.parse("IFX/SLB9665/*"),),
        roots=frozenset({b"\x33" * 32}),
        epoch=3,
        keys=frozenset({"k"}),
    )
    lifted = [
        revocation(NODE, node, in_force=False),
        revocation(RevokedKind.REFERENCE, digest, in_force=False),
        revocation(RevokedKind.FAMILY, family, in_force=False),
    ]
    after = Revoked.of([*said, *lifted])
    assert (after.nodes, after.references, after.makes) == (frozenset(), frozenset(), ())
    assert Revoked.of([*said, *lifted, revocation(NODE, node)]).nodes == revoked.nodes
    assert Revoked.of([]) == NOTHING_REVOKED


def test_a_family_is_a_make_or_a_root(play: Play) -> None:
    """A node without endorsement belongs to none."""

    async def story(world: World) -> None:
        enrolled = await world.store.node(world.node)
        assert enrolled is not None
        record = enrolled.enrolment
        endorsement = cast("Endorsement", record.endorsement)
        make = endorsement.identity
        for revoked, found in (
            (Revoked(makes=(MakePattern.parse(str(make)),)), True),
            (Revoked(makes=(MakePattern.parse("IFX/SLB9665/*"),)), False),
            (Revoked(roots=frozenset({endorsement.root})), True),
            (Revoked(roots=frozenset({bytes(32)})), False),
        ):
            finding = revoked.finding(record)
            assert (finding is not None) == found
            assert finding is None or finding.id == "endorsement.family.revoked"
            assert revoked.finding(replace(record, endorsement=None)) is None
        by_node = Revoked(nodes=frozenset({record.node})).finding(record)
        assert by_node is not None
        assert by_node.id == "node.revoked"

    play(story)


@pytest.mark.parametrize(
    ("kind", "text", "subject"),
    [
        (NODE, "ab" * 32, "ab" * 32),
        (RevokedKind.LEASE, "ab" * 16, "ab" * 16),
        (RevokedKind.LEASE, "q6urq6urq6urq6urq6urqw", "ab" * 16),
        (RevokedKind.FAMILY, "IFX/SLB9665/*", "make:id:49465800/SLB9665/*"),
        (RevokedKind.FAMILY, "make:id:49465800/SLB9665/*", "make:id:49465800/SLB9665/*"),
        (RevokedKind.FAMILY, "root:" + "ab" * 32, "root:" + "ab" * 32),
        (RevokedKind.EPOCH, "007", "7"),
        (RevokedKind.KEY, "k" * 43, "k" * 43),
    ],
)
def test_a_subject_has_one_spelling(kind: RevokedKind, text: str, subject: str) -> None:
    """So that what is revoked twice is one revocation, and can be taken back."""
    assert parse_subject(kind, text) == subject
    assert parse_subject(kind, subject) == subject


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (NODE, "AB" * 32),
        (NODE, "ab" * 31),
        (RevokedKind.LEASE, "ab" * 32),
        (RevokedKind.LEASE, "q6urq6urq6urq6urq6urqx"),
        (RevokedKind.LEASE, "=" * 22),
        (RevokedKind.FAMILY, "IFX"),
        (RevokedKind.FAMILY, "root:ab"),
        (RevokedKind.EPOCH, "1" * 10),
        (RevokedKind.EPOCH, "²"),
        (RevokedKind.KEY, "k"),
    ],
)
def test_what_is_no_subject_is_malformed(kind: RevokedKind, text: str) -> None:
    """It would be recorded and never mean anything."""
    with pytest.raises(MalformedError):
        parse_subject(kind, text)


@pytest.mark.parametrize(
    "kind", [RevokedKind.LEASE, RevokedKind.LINEAGE, RevokedKind.EPOCH, RevokedKind.KEY]
)
def test_what_ended_for_good_is_not_taken_back(play: Play, kind: RevokedKind) -> None:
    """A token that was withdrawn must not count again."""
    subjects = {
        RevokedKind.LEASE: "ab" * 16,
        RevokedKind.LINEAGE: "ab" * 32,
        RevokedKind.EPOCH: "1",
        RevokedKind.KEY: "k" * 43,
    }

    async def story(world: World) -> None:
        subject = subjects[kind]
        await world.store.continuity.add_revocation(revocation(kind, subject))
        with pytest.raises(ProblemError):
            await world.service.revoking.lift(kind, subject, reason="r", author=AUTHOR)
        assert len(await world.store.continuity.revocations()) == 1

    play(story)


def test_a_node_is_readmitted_and_not_taken_back(play: Play) -> None:
    """One door: what lets it in again also lets its TPM count anew, and ends what it held."""

    async def story(world: World) -> None:
        revoking = world.service.revoking
        await revoking.revoke(NODE, world.node.hex(), reason="gone", author=AUTHOR)
        with pytest.raises(ProblemError, match="readmitted") as caught:
            await revoking.lift(NODE, world.node.hex(), reason="back", author=AUTHOR)
        assert caught.value.kind is ProblemKind.CONFLICT
        assert world.node in world.service.registry.now.revoked.nodes

    play(story)


@pytest.mark.parametrize("subject", ["make:IFX/SLB9670/*", f"root:{'ab' * 32}"])
def test_only_what_is_revoked_is_taken_back(play: Play, subject: str) -> None:
    """Once, and nothing that is another's."""
    family = RevokedKind.FAMILY

    async def story(world: World) -> None:
        revoking = world.service.revoking
        with pytest.raises(ProblemError, match="No revocation of this family"):
            revoking.demand_liftable(family, subject)
        await revoking.revoke(family, subject, reason="bad", author=AUTHOR)
        assert revoking.demand_liftable(family, subject) == parse_subject(family, subject)
        with pytest.raises(ProblemError, match="No revocation of this reference"):
            revoking.demand_liftable(RevokedKind.REFERENCE, "ab" * 32)
        await revoking.lift(family, subject, reason="good", author=AUTHOR)
        with pytest.raises(ProblemError, match="No revocation of this family"):
            await revoking.lift(family, subject, reason="good", author=AUTHOR)

    play(story)


@pytest.mark.parametrize("wrong", [3_600, -3_600, 86_400 * 365])
def test_a_start_by_a_wrong_clock_loses_no_lease(play: Play, wrong: int) -> None:
    """When the clock is right again, what was granted before can be revoked."""

    async def story(world: World) -> None:
        lease_id = await granted(world)
        world.clock.wall += wrong
        service = await restarted(world)
        service.ending.live.bits(world.clock.now())
        world.clock.wall -= wrong - 2
        assert lives(service, world, lease_id)
        await service.revoking.revoke(NODE, world.node.hex(), reason="gone", author=AUTHOR)
        assert service.ending.live.bits(world.clock.now()) == [status_index(lease_id)]
        again = await restarted(world)
        assert again.ending.live.bits(world.clock.now()) == [status_index(lease_id)]

    play(story)


def test_what_was_granted_by_a_wrong_clock_hides_no_lease_before(play: Play) -> None:
    """A verifier that starts twice in such an hour still knows what was granted ahead of it."""

    async def story(world: World) -> None:
        first = await granted(world)
        world.clock.wall += 3_600
        service = await restarted(world)
        second = await granted(world, service)
        service = await restarted(world)
        world.clock.wall -= 3_600
        # The second lineage has ended the first one, whose token counts by every other clock.
        assert status_index(first) in service.ending.live.bits(world.clock.now())
        assert service.ending.live.end_lease(second) == (second,)

    play(story)


def test_a_start_long_after_knows_nothing_of_what_is_over(play: Play) -> None:
    """Once it is certain, by recorded times or by a clock that goes on, nothing is kept."""

    async def story(world: World) -> None:
        await granted(world)
        world.clock.pass_time(86_400)
        service = await restarted(world)
        assert len(service.ending.live) == 1
        for _ in range(0, MAX_LIFE + KEPT, LEAP):
            service.ending.live.tidy(world.clock.now())
            world.clock.pass_time(LEAP)
        service.ending.live.tidy(world.clock.now())
        assert len(service.ending.live) == 0

    play(story)


def failing(world: World, monkeypatch: pytest.MonkeyPatch, *, stored: bool) -> None:
    """Let the store fail to commit, after it has done so if ``stored``."""
    commit = type(world.store).commit_decision

    async def fail(self: SQLStore, decision: DecisionCommit) -> Committed:
        if stored:
            await commit(self, decision)
        raise StoreUnavailableError("the disk failed")

    monkeypatch.setattr(type(world.store), "commit_decision", fail)


def test_what_a_failing_store_did_not_keep_takes_no_place(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a node tries while the store is down, one try at most is noted."""

    async def story(world: World) -> None:
        leasing, live = world.service.leasing, world.service.ending.live
        evidence = world.attest(
            await leasing.challenge(world.node), leases=[default_lease(), default_lease()]
        )
        with monkeypatch.context() as patched:
            failing(world, patched, stored=False)
            for _ in range(5):
                with pytest.raises(StoreUnavailableError):
                    await leasing.lease(world.node, evidence)
                assert len(live) == 2
        answer = LeaseAnswer.parse((await leasing.lease(world.node, evidence)).answer.body)
        assert len(live) == 2
        assert all(lives(world.service, world, each.lease_id) for each in answer.leases)

    play(story)


def test_what_a_failing_store_kept_is_known_and_can_be_revoked(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node gets its answer when it asks again, and nobody has forgotten the lease."""

    async def story(world: World) -> None:
        leasing = world.service.leasing
        evidence = world.attest(await leasing.challenge(world.node), leases=[default_lease()])
        with monkeypatch.context() as patched:
            failing(world, patched, stored=True)
            with pytest.raises(StoreUnavailableError):
                await leasing.lease(world.node, evidence)
        answer = LeaseAnswer.parse((await leasing.lease(world.node, evidence)).answer.body)
        (issued,) = answer.leases
        assert lives(world.service, world, issued.lease_id)
        await world.service.revoking.revoke(NODE, world.node.hex(), reason="gone", author=AUTHOR)
        now = world.clock.now()
        assert world.service.ending.live.bits(now) == [status_index(issued.lease_id)]

    play(story)


def test_who_comes_too_often_takes_no_place(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant that the verifier's own bound stops at the last moment is forgotten at once."""

    async def story(world: World) -> None:
        async def stopped(*_: object) -> None:
            raise ProblemError(ProblemKind.BUSY_CLIENT, "Wait.", retry_after=1)

        monkeypatch.setattr(Grants, "commit", stopped)
        with pytest.raises(ProblemError, match="Wait"):
            await granted(world)
        assert len(world.service.ending.live) == 0

    play(story)


def test_a_lineage_that_was_read_before_a_failure_settles_nothing() -> None:
    """What it says of that commit is nothing: it may have been read a moment before."""
    live = LiveLeases()
    doubtful = Doubtful(live)
    before = doubtful.of(b"node")
    doubtful.failed(live.granted(b"node", b"root", [bytes(16)], 100), 7)
    doubtful.settle(b"node", before, 7)
    assert len(live) == 1
    doubtful.settle(b"node", doubtful.of(b"node"), 8)
    assert len(live) == 1
    assert doubtful.of(b"node") == ()
