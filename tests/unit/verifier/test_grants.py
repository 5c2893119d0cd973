"""How much of the ledger one node can fill."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bootlease.errors import MalformedError
from bootlease.evidence import Activation, EnrolmentRequest
from bootlease.ports import (
    CommitOutcome,
    Committed,
    DecisionCommit,
    Store,
    StoredAnswer,
    StoreUnavailableError,
)
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded_verifier import (
    ISSUER,
    RecordedNode,
    RecordedVerifier,
    recorded_verifier,
)
from bootlease.testing.scene import POLICY, default_lease
from bootlease.verifier import leasing as leasing_module
from bootlease.verifier.grants import Grants
from bootlease.verifier.limits import DEFAULT_LIMITS
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.registry import Registry
from bootlease.verifier.service import build_service

ELSEWHERE = replace(default_lease(), audience="https://elsewhere.example")


@pytest.fixture
def verifier(tmp_path: Path, local_ca: LocalCA) -> Iterator[RecordedVerifier]:
    """A verifier that grants three leases to a node in the life of one."""
    with recorded_verifier(tmp_path / "verifier", local_ca) as made:
        limits = replace(DEFAULT_LIMITS, grants_per_life=3)
        service = build_service(made._store, made.keys, ISSUER, clock=made.clock, limits=limits)
        made.service = made._runner.run(service)
        made.clock.time += 30 - made.clock.time % 120
        yield made


def refused(verifier: RecordedVerifier, node: RecordedNode) -> int | None:
    """Let a node ask once too often; return how long it is to wait."""
    with pytest.raises(ProblemError) as caught:
        verifier.decide(node)
    assert caught.value.kind is ProblemKind.BUSY_CLIENT
    return caught.value.retry_after


def test_a_node_is_granted_so_many_in_the_life_of_a_lease(verifier: RecordedVerifier) -> None:
    """Then it waits; others do not."""
    node, other = verifier.enrol(), verifier.enrol()
    assert all(verifier.decide(node) for _ in range(3))
    assert refused(verifier, node) == 90
    assert verifier.decide(other)
    verifier.clock.time += 90
    assert verifier.decide(node)


def test_the_time_is_the_policys(verifier: RecordedVerifier) -> None:
    """What a lease lives by now; a new life begins to count anew."""
    node = verifier.enrol()
    assert all(verifier.decide(node) for _ in range(3))
    verifier.use_policy(POLICY.replace("life = 120", "life = 240"))
    verifier.clock.time += 10 - verifier.clock.time % 240
    node.challenge = node.head = None
    assert all(verifier.decide(node) for _ in range(3))
    assert refused(verifier, node) == 230


def test_nothing_is_parsed_for_a_node_that_waits(
    verifier: RecordedVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Being refused costs less than what was granted."""
    node = verifier.enrol()
    assert all(verifier.decide(node) for _ in range(3))

    def parse(_: bytes) -> None:
        raise MalformedError("it was parsed")

    monkeypatch.setattr(leasing_module, "parse_evidence", parse)
    refused(verifier, node)


def test_refusals_are_not_counted(verifier: RecordedVerifier) -> None:
    """They have a bound of their own."""
    node = verifier.enrol()
    for _ in range(4):
        assert not verifier.decide(node, [ELSEWHERE])
    assert verifier.decide(node)


class SlowStore:
    """Takes its time to commit, and then does what it was told to."""

    def __init__(self, outcome: Committed | Exception) -> None:
        self.outcome = outcome

    async def commit_decision(self, _: DecisionCommit) -> Committed:
        """Commit."""
        await asyncio.sleep(0.01)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


STORED = Committed(CommitOutcome.COMMITTED, StoredAnswer(granted=True, body=b"leases"))


def together(grants: Grants, *, granted: bool = True) -> list[type]:
    """Commit five decisions about one node at once; tell what became of them."""
    commit = cast("DecisionCommit", SimpleNamespace(node=b"n", granted=granted, now=1_000))

    async def story() -> list[Committed | BaseException]:
        return await asyncio.gather(*map(grants.commit, [commit] * 5), return_exceptions=True)

    return [type(each) for each in asyncio.run(story())]


def grants_over(store: SlowStore) -> Grants:
    """Count over such a store: three in 120 seconds."""
    policy = SimpleNamespace(policy=SimpleNamespace(lease=SimpleNamespace(life=120)))
    registry = SimpleNamespace(now=SimpleNamespace(policy=policy))
    limits = replace(DEFAULT_LIMITS, grants_per_life=3)
    return Grants(cast("Store", store), cast("Registry", registry), limits)


def test_evidence_side_by_side_is_counted() -> None:
    """All of it was looked at before any was granted, and no more is granted all the same."""
    grants = grants_over(SlowStore(STORED))
    assert together(grants) == [Committed] * 3 + [ProblemError] * 2
    assert together(grants, granted=False) == [Committed] * 5


@pytest.mark.parametrize(
    "outcome", [Committed(CommitOutcome.CONFLICT, None), StoreUnavailableError("disk full")]
)
def test_what_was_not_stored_is_not_counted(outcome: Committed | Exception) -> None:
    """A decision that is made again is one, and a full disk uses up nothing."""
    store = SlowStore(outcome)
    grants = grants_over(store)
    together(grants)
    store.outcome = STORED
    assert together(grants).count(Committed) == 3


def enrol_again(verifier: RecordedVerifier, node: RecordedNode) -> None:
    """Enrol a node once more."""
    device = node.device
    request = EnrolmentRequest(device.ek_public(), device.ak_public(), tuple(device.ek_chain()))
    offer = verifier._runner.run(verifier.service.enrolling.begin(request.encode()))
    secret = device.activate_credential(offer.id_object, offer.encrypted_secret)
    opened = Activation(secret).encode()
    verifier._runner.run(verifier.service.enrolling.finish(offer.enrolment, opened))


def test_a_node_enrols_a_few_times_a_minute(verifier: RecordedVerifier) -> None:
    """Then it waits; others enrol, and what was only begun in its name is not counted."""
    node = verifier.enrol()
    device = node.device
    request = EnrolmentRequest(device.ek_public(), device.ak_public(), tuple(device.ek_chain()))
    for _ in range(9):
        verifier._runner.run(verifier.service.enrolling.begin(request.encode()))
    for _ in range(4):
        enrol_again(verifier, node)
    with pytest.raises(ProblemError) as refused_again:
        enrol_again(verifier, node)
    assert refused_again.value.kind is ProblemKind.BUSY_CLIENT
    assert refused_again.value.retry_after == 30
    verifier.enrol()
    verifier.clock.time += 30
    enrol_again(verifier, node)
