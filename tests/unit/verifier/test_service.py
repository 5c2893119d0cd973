"""The service without HTTP: time, conflicts, and what a defect gives away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import (
    Activation,
    Binding,
    Challenge,
    EnrolmentRequest,
    Evidence,
    LeaseAnswer,
    confirmation_digest,
    log_digest,
    scope_digest,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.evidence.enrolment import node_id
from bootlease.ledger import DecisionRecord
from bootlease.lineage import HighWaterMark
from bootlease.model import ClockInfo
from bootlease.policy import parse_policy
from bootlease.ports import (
    CommitOutcome,
    Committed,
    DecisionCommit,
    StoredPolicy,
    StoreUnavailableError,
)
from bootlease.reference import serialise_reference
from bootlease.store import SQLStore
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.golden import golden_reference
from bootlease.testing.keys import fresh_keys
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, REFERENCE, default_lease
from bootlease.testing.set_clock import SetClock
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.tpm import TPMSECCPoint, accept_endorsement_key, parse_public
from bootlease.verifier import leasing
from bootlease.verifier.app import ROUTES, build_app
from bootlease.verifier.leasing import Decided
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.service import Service, build_service

ISSUER = "https://v.example"
AUTHOR = "operator:test"
LIFE = 120


@dataclass
class World:
    """A verifier, a clock and a node."""

    service: Service
    clock: SetClock
    device: SimulatedNode
    store: SQLStore

    @property
    def node(self) -> bytes:
        """Node id."""
        return node_id(accept_endorsement_key(parse_public(self.device.ek_public())).spki)

    def request(self) -> EnrolmentRequest:
        """The node's wish to enrol."""
        return EnrolmentRequest(
            self.device.ek_public(), self.device.ak_public(), tuple(self.device.ek_chain())
        )

    async def enrol(self) -> None:
        """Enrol the node."""
        offer = await self.service.enrolling.begin(self.request().encode())
        secret = self.device.activate_credential(offer.id_object, offer.encrypted_secret)
        await self.service.enrolling.finish(offer.enrolment, Activation(secret).encode())

    def attest(self, challenge: Challenge, head: bytes | None = None) -> bytes:
        """Make evidence, in full where it begins a lineage."""
        leases = (default_lease(),)
        log = self.device.event_log
        binding = Binding(
            challenge.nonce,
            head,
            scope_digest(leases),
            confirmation_digest(leases),
            {"tcg": log_digest(log)},
        )
        encoded = binding.encode()
        state = self.device.quote(qualifying_data(encoded), challenge.pcrs)
        logs = {"tcg": log} if head is None else {}
        return Evidence(
            binding, encoded, leases, state.attest, state.signature, state.pcrs, logs
        ).encode()

    async def lease(self, challenge: Challenge, head: bytes | None = None) -> Decided:
        """Attest and present."""
        return await self.service.leasing.lease(self.node, self.attest(challenge, head))


@pytest.fixture
def world(tmp_path: Path, local_ca: LocalCA) -> Iterator[World]:
    """A verifier with one enrolled node."""
    keys = fresh_keys(ISSUER)
    store = SQLStore.open(tmp_path / "verifier.db", keys.ledger, keys.ledger.key.name)
    boot = simulate_boot(grub_description())
    start = int(local_ca.root.not_valid_before_utc.timestamp()) + 2 * 86_400
    clock = SetClock(start)
    learned = golden_reference(boot)

    async def build() -> World:
        service = await build_service(store, keys, ISSUER, clock=clock)
        await service.registry.add_roots(local_ca.roots_pem, author=AUTHOR)
        await service.registry.register_reference(serialise_reference(learned), author=AUTHOR)
        await service.registry.activate_policy(POLICY.encode(), author=AUTHOR)
        made = World(service, clock, SimulatedNode(local_ca, boot=boot), store)
        await made.enrol()
        return made

    yield asyncio.run(build())
    store.close()


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run one async story."""

    async def whole() -> None:
        await story()

    asyncio.run(whole())


def refusal_ids(exc: VerificationError) -> set[str]:
    """Ids of the findings."""
    return {finding.id for finding in exc.findings}


def test_an_expired_challenge_is_refused_and_nothing_is_recorded(world: World) -> None:
    """The second at which it expires is too late."""

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        world.clock.pass_time(challenge.expires_at - world.clock.now())
        with pytest.raises(VerificationError) as refused:
            await world.lease(challenge)
        assert refusal_ids(refused.value) == {"challenge.expired"}
        assert not await world.store.decisions_of(world.node, at_most=1)

    run(story)


def test_a_remembered_challenge_expires_like_any_other(world: World) -> None:
    """At the same second, and before any work is done on what came for it."""

    async def story() -> None:
        first = await world.lease(await world.service.leasing.challenge(world.node))
        answer = LeaseAnswer.parse(first.answer.body)
        world.device.lie(extra_data=b"\0" * 32)
        body = world.attest(answer.challenge, answer.head)
        world.clock.pass_time(answer.challenge.expires_at - world.clock.now())
        with pytest.raises(VerificationError) as refused:
            await world.service.leasing.lease(world.node, body)
        assert refusal_ids(refused.value) == {"challenge.expired"}
        assert len(await world.store.decisions_of(world.node, at_most=9)) == 1

    run(story)


def test_evidence_answers_the_challenge_that_the_parser_reads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glance that took it for the answer to the remembered challenge decides nothing."""

    async def story() -> None:
        service = world.service.leasing
        answer = LeaseAnswer.parse(
            (await world.lease(await service.challenge(world.node))).answer.body
        )
        asked = await service.challenge(world.node)
        monkeypatch.setattr(leasing, "nonce_in", lambda _: answer.challenge.nonce)
        assert (await world.lease(asked, answer.head)).answer.granted
        spent = [await world.store.challenge(each.nonce) for each in (asked, answer.challenge)]
        assert [each is not None and each.spent_at is not None for each in spent] == [True, False]

    run(story)


def test_a_lease_lives_from_the_challenges_issue(world: World) -> None:
    """Quoting early gains nothing; the answer says what is left."""

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        world.clock.pass_time(50)
        answer = LeaseAnswer.parse((await world.lease(challenge)).answer.body)
        assert answer.leases[0].expires_at == challenge.issued_at + LIFE
        assert (answer.life, answer.expires_in) == (LIFE, LIFE - 50)

    run(story)


def test_a_lapsed_lease_ends_its_lineage(world: World) -> None:
    """A renewal after the lease is over is refused and recorded."""

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        answer = LeaseAnswer.parse((await world.lease(challenge)).answer.body)
        world.clock.pass_time(LIFE)
        late = await world.service.leasing.challenge(world.node)
        decided = await world.lease(late, answer.head)
        assert "lineage.lapsed" in {finding.id for finding in decided.findings}
        assert (await world.store.lineage(world.node)).prior is None
        world.clock.pass_time(1)
        assert (await world.lease(await world.service.leasing.challenge(world.node))).answer.granted

    run(story)


def test_a_stored_answer_expires_with_its_lease(world: World) -> None:
    """Afterwards the same bytes are only a spent challenge."""

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        body = world.attest(challenge)
        await world.service.leasing.lease(world.node, body)
        world.clock.pass_time(LIFE)
        with pytest.raises(ProblemError) as refused:
            await world.service.leasing.lease(world.node, body)
        assert refused.value.kind is ProblemKind.SPENT

    run(story)


def test_a_decision_that_conflicts_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What moved between appraisal and commit is appraised anew, not overwritten."""
    tried: list[int] = []
    commit = world.store.commit_decision

    async def conflict_once(decision: DecisionCommit) -> Committed:
        tried.append(decision.lineage_version)
        if len(tried) == 1:
            return Committed(CommitOutcome.CONFLICT)
        return await commit(decision)

    monkeypatch.setattr(world.store, "commit_decision", conflict_once)

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        assert (await world.lease(challenge)).answer.granted
        assert tried == [0, 0]

    run(story)


def test_what_came_twice_is_answered_alike_though_it_had_to_be_judged_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that sent its evidence anew, its connection lost, is not told that it is spent."""
    commit = world.store.commit_decision
    first: list[Decided] = []

    async def story() -> None:
        body = world.attest(await world.service.leasing.challenge(world.node))

        async def overtaken(_: DecisionCommit) -> Committed:
            monkeypatch.setattr(world.store, "commit_decision", commit)
            first.append(await world.service.leasing.lease(world.node, body))
            return Committed(CommitOutcome.CONFLICT)

        monkeypatch.setattr(world.store, "commit_decision", overtaken)
        again = await world.service.leasing.lease(world.node, body)
        assert [again.answer.body] == [each.answer.body for each in first]
        assert again.commit is None

    run(story)


FEWER_PCRS = POLICY.replace(", 8, 9, 14]", "]")


@pytest.mark.parametrize(
    ("before", "after", "waited"),
    [(FEWER_PCRS, POLICY, 0), (POLICY, POLICY.replace("life = 120", "life = 60"), 60)],
    ids=["another PCR", "a shorter life"],
)
def test_a_policy_that_asks_for_more_ends_no_lineage(
    world: World, before: str, after: str, waited: int
) -> None:
    """A challenge that was set under the old policy is not refused but set again."""

    async def story() -> None:
        registry, leasing = world.service.registry, world.service.leasing
        await registry.activate_policy(before.encode(), author=AUTHOR)
        first = LeaseAnswer.parse(
            (await world.lease(await leasing.challenge(world.node))).answer.body
        )
        await registry.activate_policy(after.encode(), author=AUTHOR)
        world.clock.pass_time(waited)
        with pytest.raises(ProblemError) as outdated:
            await world.lease(first.challenge, first.head)
        assert outdated.value.kind.status == 409
        assert [finding.id for finding in outdated.value.findings] == ["challenge.outdated"]
        kept = await world.store.challenge(first.challenge.nonce)
        assert kept is not None
        assert kept.spent_at is None
        assert len(await world.store.decisions_of(world.node, at_most=9)) == 1
        decided = await world.lease(await leasing.challenge(world.node), first.head)
        assert LeaseAnswer.parse(decided.answer.body).sequence == 1

    run(story)


def test_only_the_node_itself_hears_that_its_challenge_is_outdated(world: World) -> None:
    """Whoever has not its AK learns nothing of the policy and is counted as ever."""

    async def story() -> None:
        registry, leasing = world.service.registry, world.service.leasing
        await registry.activate_policy(FEWER_PCRS.encode(), author=AUTHOR)
        challenge = await leasing.challenge(world.node)
        await registry.activate_policy(POLICY.encode(), author=AUTHOR)
        world.device.lie(extra_data=b"\0" * 32)
        with pytest.raises(VerificationError):
            await world.lease(challenge)

    run(story)


def test_no_grant_commits_under_a_policy_that_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy activated between appraisal and commit decides; the stricter one refuses."""
    stricter = POLICY.replace('"tool:search"', '"tool:other"')
    commit = world.store.commit_decision
    outcomes: list[CommitOutcome] = []

    async def overtaken(decision: DecisionCommit) -> Committed:
        if not outcomes:
            # As from another process: this one's snapshot still has the policy of before.
            policy = parse_policy(stricter)
            await world.store.activate_policy(
                StoredPolicy(2, policy.id, policy.digest, stricter.encode(), world.clock.now()),
                author=AUTHOR,
            )
        committed = await commit(decision)
        outcomes.append(committed.outcome)
        return committed

    monkeypatch.setattr(world.store, "commit_decision", overtaken)

    async def story() -> None:
        decided = await world.lease(await world.service.leasing.challenge(world.node))
        assert outcomes == [CommitOutcome.OUTDATED, CommitOutcome.COMMITTED]
        assert {finding.id for finding in decided.findings} == {"policy.scope.denied"}
        (only,) = await world.store.decisions_of(world.node, at_most=9)
        assert not only.granted

    run(story)


def test_a_rollback_is_refused_again_and_after_re_enrolment(world: World) -> None:
    """No second try and no enrolling again makes a restored state good (A22, A23)."""

    async def story() -> None:
        service, device = world.service, world.device
        device.clock_info = ClockInfo(10_000, 5, 3, safe=True)
        assert (await world.lease(await service.leasing.challenge(world.node))).answer.granted
        device.clock_info = ClockInfo(9_000, 5, 3, safe=True)
        for again in range(3):
            if again:
                await world.enrol()
            decided = await world.lease(await service.leasing.challenge(world.node))
            assert {finding.id for finding in decided.findings} == {"clock.backwards"}
        record = await world.store.decision(decided.commit.digest if decided.commit else b"")
        assert record is not None
        mark = DecisionRecord.parse(record.record).high_water
        assert HighWaterMark(5, 3, 10_000) <= HighWaterMark.parse(mark) < HighWaterMark(5, 4, 0)
        device.clock_info = ClockInfo(10_500, 6, 0, safe=True)
        assert (await world.lease(await service.leasing.challenge(world.node))).answer.granted

    run(story)


def test_an_enrolment_that_a_policy_overtook_begins_again(world: World) -> None:
    """Who may enrol is judged by the policy in force when the node is recorded."""

    async def story() -> None:
        request = world.request()
        offer = await world.service.enrolling.begin(request.encode())
        await world.service.registry.activate_policy(FEWER_PCRS.encode(), author=AUTHOR)
        secret = world.device.activate_credential(offer.id_object, offer.encrypted_secret)
        with pytest.raises(ProblemError) as refused:
            await world.service.enrolling.finish(offer.enrolment, Activation(secret).encode())
        assert [finding.id for finding in refused.value.findings] == ["enrolment.policy.moved"]
        await world.enrol()

    run(story)


@pytest.mark.parametrize("which", ["ek_public", "ak_public"])
def test_a_key_in_another_spelling_is_refused(world: World, which: str) -> None:
    """A coordinate with a zero before it is the same point and another name: it is no key."""

    async def story() -> None:
        request = world.request()
        public = parse_public(getattr(request, which))
        assert isinstance(public.unique, TPMSECCPoint)
        padded = replace(public.unique, x=b"\0" + public.unique.x)
        spelled = replace(public, unique=padded).marshal()
        changed = (
            replace(request, ek_public=spelled)
            if which == "ek_public"
            else replace(request, ak_public=spelled)
        )
        with pytest.raises(VerificationError) as refused:
            await world.service.enrolling.begin(changed.encode())
        assert f"{which[:2]}.key.invalid" in refusal_ids(refused.value)

    run(story)


def test_a_join_token_is_looked_at_before_a_credential_is_made(world: World) -> None:
    """A guess learns at the request that it is wrong, and leaves nothing pending."""
    by_token = POLICY.replace('"any-endorsed"', '"join-token"')

    async def story() -> None:
        await world.service.registry.activate_policy(by_token.encode(), author=AUTHOR)
        request = replace(world.request(), join_token="guess")
        with pytest.raises(VerificationError) as refused:
            await world.service.enrolling.begin(request.encode())
        assert refusal_ids(refused.value) == {"enrolment.join-token.refused"}

    run(story)


def test_a_state_that_never_settles_is_an_error_and_no_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries the client is told to come back."""

    async def conflict(_: DecisionCommit) -> Committed:
        return Committed(CommitOutcome.CONFLICT)

    monkeypatch.setattr(world.store, "commit_decision", conflict)

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        with pytest.raises(ProblemError) as refused:
            await world.lease(challenge)
        assert refused.value.kind is ProblemKind.BUSY

    run(story)


def test_no_answer_leaves_before_it_is_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails means no token (attack G5)."""

    async def fail(_: DecisionCommit) -> Committed:
        raise StoreUnavailableError("disk full")

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "commit_decision", fail)
            with pytest.raises(StoreUnavailableError):
                await world.lease(challenge)
        assert (await world.lease(challenge)).answer.granted

    run(story)


def test_a_public_area_in_another_spelling_is_refused(world: World) -> None:
    """One EK is one node: bytes behind it would make another id."""

    async def story() -> None:
        request = EnrolmentRequest(
            world.device.ek_public() + b"\0",
            world.device.ak_public(),
            tuple(world.device.ek_chain()),
        )
        with pytest.raises(MalformedError):
            await world.service.enrolling.begin(request.encode())

    run(story)


def test_the_next_policy_must_name_registered_references(world: World) -> None:
    """A typo refuses the activation, not the fleet."""

    async def story() -> None:
        with pytest.raises(MalformedError, match="goldne"):
            await world.service.registry.activate_policy(
                POLICY.replace(f'"{REFERENCE}"', '"goldne"').encode(), author=AUTHOR
            )
        assert world.service.registry.now.policy.epoch == 1

    run(story)


def test_a_refused_decision_names_the_policy_epoch_that_refused(world: World) -> None:
    """A later activation counts at once."""

    async def story() -> None:
        await world.service.registry.activate_policy(
            POLICY.replace('"tool:search"', '"tool:other"').encode(), author=AUTHOR
        )
        decided = await world.lease(await world.service.leasing.challenge(world.node))
        assert {finding.id for finding in decided.findings} == {"policy.scope.denied"}

    run(story)


@pytest.fixture
def app(world: World) -> FastAPI:
    """The HTTP application."""
    return build_app(world.service)


def test_every_admin_route_is_behind_the_gate(app: FastAPI) -> None:
    """No route under /v1/admin answers without a credential, described or not (attack B8)."""
    routes = [each for module in ROUTES for each in module.router.routes]
    admin = [
        route
        for route in routes
        if isinstance(route, APIRoute) and route.path.startswith("/v1/admin")
    ]
    assert {route.path for route in admin} >= {"/v1/admin/roots", "/v1/admin/leases/{lease}/proof"}
    with TestClient(app) as client:
        for route in admin:
            for method in route.methods or ():
                assert client.request(method, route.path).status_code == 401, route.path


def test_a_defect_is_a_500_that_tells_nothing(
    app: FastAPI, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause stays in the log."""

    async def defect(_node: bytes) -> Challenge:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(world.service.leasing, "challenge", defect)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post(f"/v1/nodes/{world.node.hex()}/challenges")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret detail" not in answer.text


def test_a_store_that_is_gone_is_a_503(app: FastAPI, world: World) -> None:
    """Not ready, no challenge, and when to come back."""
    world.store._writer.close()
    with TestClient(app) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        answer = client.post(f"/v1/nodes/{world.node.hex()}/challenges")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"


def test_evidence_signed_by_another_ak_is_not_verified(world: World, local_ca: LocalCA) -> None:
    """The AK is the one of the node's own record (attack B9)."""

    async def story() -> None:
        challenge = await world.service.leasing.challenge(world.node)
        other = replace(world, device=SimulatedNode(local_ca))
        with pytest.raises(VerificationError) as refused:
            await world.service.leasing.lease(world.node, other.attest(challenge))
        assert "quote.signature.invalid" in refusal_ids(refused.value)

    run(story)
