"""Which events a record gives, and of whom."""

from __future__ import annotations

from typing import Any

import pytest

from bootlease.endorsement import Enrolment
from bootlease.endorsement.chain import Endorsement
from bootlease.endorsement.make import TPMIdentity
from bootlease.ledger import DecisionRecord, GovernanceRecord, GrantedLease
from bootlease.model import Effect, Finding
from bootlease.ports import (
    DecidedCause,
    DeliveryMethod,
    EventCauses,
    EventStream,
    GovernedCause,
    Positions,
    RevokedKind,
    StoredDecision,
    StoredGrant,
)
from bootlease.token import base64url
from bootlease.token.caep import (
    MAX_REASON,
    Compliance,
    DeviceComplianceChange,
    Initiator,
    IssuerSubject,
    SessionRevoked,
    SessionSubject,
    TokenClaimsChange,
)
from bootlease.verifier.securityevents.source import (
    Occurrence,
    families_wanted,
    occurrences,
    security_event,
)

NOW = 1_900_000_000
NODE, OTHER, ROOT = b"\x01" * 32, b"\x04" * 32, b"\x03" * 32
LEASE = b"\x02" * 16
AUTHOR = "operator:test"
FINDINGS = (
    Finding("quote.made-up", "Refused: secret detail."),
    Finding("policy.made-up", "Noted.", effect=Effect.NOTES),
)


def decision(
    *, granted: bool, at: int = NOW, expires_at: int = NOW + 60, root: bytes = ROOT
) -> StoredDecision:
    """A recorded decision."""
    lease = GrantedLease(LEASE, ("tool:x",), "https://rp.example", b"j" * 32, expires_at)
    record = DecisionRecord(
        issuer="https://verifier.example",
        node=NODE,
        time=at,
        challenge=b"challenge",
        evidence=b"e" * 32,
        enrolment=b"n" * 32,
        prior=None,
        high_water=bytes(16),
        granted=granted,
        findings=() if granted else FINDINGS,
        lineage_root=root,
        lineage_previous=None,
        sequence=0,
        references=(b"r" * 32,),
        policy_id="p",
        policy_digest=b"d" * 32,
        policy_epoch=1,
        roots=b"t" * 32,
        code_version="1",
        code=b"k" * 32,
        leases=(lease,) if granted else (),
        previous=None,
    )
    return StoredDecision(1, record.digest, NODE, granted, at, record.encoded, (), record.evidence)


def governed(kind: str, at: int = NOW, **details: Any) -> GovernanceRecord:
    """A governance record."""
    return GovernanceRecord(at, AUTHOR, kind, details, None)


def of(*causes: DecidedCause | GovernedCause, **more: Any) -> list[Occurrence]:
    """The events of what was recorded."""
    return list(occurrences(gathered(*causes), **more))


def gathered(*causes: DecidedCause | GovernedCause) -> EventCauses:
    """Causes as the store gives them."""
    return EventCauses(
        Positions(0, 0),
        Positions(9, 9),
        tuple(each for each in causes if isinstance(each, DecidedCause)),
        tuple(each for each in causes if isinstance(each, GovernedCause)),
    )


def cause(record: GovernanceRecord, **more: Any) -> GovernedCause:
    """A governance record as a cause."""
    return GovernedCause(record.digest, record.encoded, **more)


GRANT = decision(granted=True)
REFUSAL = decision(granted=False, at=NOW + 10, root=OTHER)


def test_a_refusal_tells_that_the_node_does_not_comply_and_its_lineage_is_over() -> None:
    """By the policy, with the ids of what refused it and no details."""
    compliance, ended = of(DecidedCause(REFUSAL, GRANT))
    assert compliance.subject == SessionSubject(NODE)
    assert isinstance(compliance.event, DeviceComplianceChange)
    assert compliance.event.current is Compliance.NOT_COMPLIANT
    assert ended.subject == SessionSubject(NODE, lineage=ROOT)
    assert isinstance(ended.event, SessionRevoked)
    for each in (compliance.event, ended.event):
        assert each.cause.at == NOW + 10
        assert each.cause.initiator is Initiator.POLICY
        assert each.cause.reason == "The node's evidence was refused: quote.made-up"
    assert {compliance.origin, ended.origin} == {REFUSAL.digest}


def test_a_refusal_after_the_leases_ran_out_ends_no_session() -> None:
    """The leases of the grant before are over at this second."""
    lapsed = decision(granted=True, expires_at=REFUSAL.decided_at)
    (only,) = of(DecidedCause(REFUSAL, lapsed))
    assert isinstance(only.event, DeviceComplianceChange)


@pytest.mark.parametrize("before", [None, REFUSAL])
def test_a_refusal_that_changes_nothing_is_no_event(before: StoredDecision | None) -> None:
    """A node that nobody knows, or that does not comply already."""
    assert of(DecidedCause(REFUSAL, before)) == []


def test_a_grant_after_a_refusal_tells_that_the_node_complies() -> None:
    """And nothing else: its leases ended with the refusal."""
    again = decision(granted=True, at=NOW + 20, expires_at=NOW + 99)
    (only,) = of(DecidedCause(again, REFUSAL))
    assert only.subject == SessionSubject(NODE)
    assert isinstance(only.event, DeviceComplianceChange)
    assert only.event.current is Compliance.COMPLIANT
    assert only.event.cause.at == NOW + 20


def test_another_lineage_ends_the_one_before() -> None:
    """While leases of it are live; a first grant ends nothing."""
    reboot = decision(granted=True, at=NOW + 5, root=OTHER)
    (only,) = of(DecidedCause(reboot, GRANT))
    assert only.subject == SessionSubject(NODE, lineage=ROOT)
    assert isinstance(only.event, SessionRevoked)
    assert only.event.cause.initiator is Initiator.SYSTEM
    late = decision(granted=True, at=NOW + 60, root=OTHER)
    assert of(DecidedCause(late, GRANT)) == []
    assert of(DecidedCause(reboot, None)) == []


@pytest.mark.parametrize("kind", ["node.enrolled", "node.readmitted"])
def test_a_node_that_begins_anew_ends_its_sessions(kind: str) -> None:
    """Where the last decision before granted leases that are live."""
    record = governed(kind, NOW + 5, node=NODE)
    (only,) = of(cause(record, latest=GRANT))
    assert only.subject == SessionSubject(NODE)
    assert isinstance(only.event, SessionRevoked)
    assert only.event.cause.at == NOW + 5


@pytest.mark.parametrize(
    "latest",
    [
        None,
        decision(granted=False),
        decision(granted=True, expires_at=NOW + 5),
        decision(granted=True, at=NOW + 5),
    ],
)
def test_a_node_without_live_leases_begins_anew_in_silence(latest: StoredDecision | None) -> None:
    """None, a refusal, what has run out, and what was granted in this very second."""
    assert of(cause(governed("node.enrolled", NOW + 5, node=NODE), latest=latest)) == []


def test_a_replaced_node_ends_its_sessions() -> None:
    """The one that was replaced, not the one that replaces it."""
    (only,) = of(cause(governed("node.replaced", node=OTHER, replaces=NODE)))
    assert only.subject == SessionSubject(NODE)
    assert isinstance(only.event, SessionRevoked)


def test_an_activated_policy_changes_a_claim_of_all_tokens() -> None:
    """As tokens have it."""
    record = governed("policy.activated", id="default", digest=b"d" * 32, epoch=7, document=b"x")
    (only,) = of(cause(record))
    assert only.subject == IssuerSubject()
    assert isinstance(only.event, TokenClaimsChange)
    assert only.event.claims == {
        "bootlease_policy": {"id": "default", "digest": base64url.encode(b"d" * 32), "epoch": 7}
    }
    assert only.event.cause.initiator is Initiator.ADMIN


def grant(node: bytes, root: bytes, lease: bytes = LEASE, reference: bytes = b"r") -> StoredGrant:
    """Leases that were live when something was revoked."""
    return StoredGrant(node, root, (lease,), NOW + 60, (reference * 32,), goes_on=True)


GRANTS = (
    grant(NODE, b"\x0a" * 32),
    grant(NODE, b"\x0a" * 32, b"\x05" * 16),
    grant(OTHER, b"\x0b" * 32, b"\x06" * 16, b"q"),
)


def revoked(kind: RevokedKind, subject: str, reason: str = "stolen", **more: Any) -> list[Any]:
    """Subjects and events of a revocation."""
    digest = kind in {RevokedKind.NODE, RevokedKind.LINEAGE, RevokedKind.REFERENCE}
    named = bytes.fromhex(subject) if digest else subject
    record = governed(f"revocation.{kind.value}", subject=named, reason=reason)
    found = of(cause(record, grants=GRANTS), **more)
    assert all(each.origin == record.digest for each in found)
    return [(each.subject, each.event) for each in found]


@pytest.mark.parametrize(
    ("kind", "subject", "expected"),
    [
        (RevokedKind.NODE, NODE.hex(), [SessionSubject(NODE)]),
        (RevokedKind.LEASE, (b"\x06" * 16).hex(), [SessionSubject(OTHER, lease=b"\x06" * 16)]),
        (RevokedKind.LEASE, (b"\x07" * 16).hex(), [SessionSubject(None, lease=b"\x07" * 16)]),
        (
            RevokedKind.LINEAGE,
            (b"\x0a" * 32).hex(),
            [SessionSubject(NODE, lineage=b"\x0a" * 32)],
        ),
        (
            RevokedKind.REFERENCE,
            (b"q" * 32).hex(),
            [SessionSubject(OTHER, lineage=b"\x0b" * 32)],
        ),
        (RevokedKind.KEY, "k" * 43, [IssuerSubject()]),
    ],
)
def test_a_revocation_tells_whose_sessions_ended(
    kind: RevokedKind, subject: str, expected: list[Any]
) -> None:
    """Each lineage once; by the operator, in his words."""
    found = revoked(kind, subject)
    assert [each for each, _ in found] == expected
    for _, event in found:
        assert isinstance(event, SessionRevoked)
        assert (event.cause.initiator, event.cause.reason) == (Initiator.ADMIN, "stolen")


def enrolment(node: bytes, model: str) -> Enrolment:
    """A node whose TPM is of a make."""
    return Enrolment(
        node=node,
        ek_public=b"ek",
        ek_digest=b"e" * 32,
        ak_public=b"ak",
        ak_name=b"\0\x0b" + b"a" * 32,
        endorsement=Endorsement(
            root=b"c" * 32,
            certificate=b"f" * 32,
            identity=TPMIdentity("id:00001014", model, "id:1"),
            not_after=NOW,
        ),
        enrolled_at=NOW,
    )


def test_a_revoked_family_tells_of_the_nodes_of_that_family() -> None:
    """Whose enrolments are asked for before, for a family alone."""
    record = governed("revocation.family", subject="make:id:00001014/bad/*", reason="weak")
    causes = gathered(cause(record, grants=GRANTS), cause(governed("root.added"), grants=GRANTS))
    assert list(families_wanted(causes)) == [NODE, NODE, OTHER]
    known = {NODE: enrolment(NODE, "bad"), OTHER: enrolment(OTHER, "good")}
    (only,) = occurrences(causes, known)
    assert only.subject == SessionSubject(NODE, lineage=b"\x0a" * 32)
    assert list(occurrences(causes, {OTHER: known[OTHER]})) == []


def test_a_revoked_epoch_changes_a_claim_of_all_tokens() -> None:
    """The lowest epoch that counts."""
    ((subject, event),) = revoked(RevokedKind.EPOCH, "7")
    assert subject == IssuerSubject()
    assert isinstance(event, TokenClaimsChange)
    assert event.claims == {"bootlease_policy": {"epoch": 7}}


def test_a_long_reason_is_cut() -> None:
    """An operator may write more than an event carries."""
    ((_, event),) = revoked(RevokedKind.NODE, NODE.hex(), "x" * 5_000)
    assert event.cause.reason == "x" * MAX_REASON


@pytest.mark.parametrize(
    "record",
    [
        governed("revocation-lifted.node", subject=NODE.hex(), reason="found"),
        governed("revocation.later", subject="x", reason="y"),
        governed("revocation.node", subject=NODE),
        governed("revocation.node", subject=7, reason="x"),
        governed("policy.activated", id="x"),
        governed("node.replaced", node=NODE),
        governed("admin.login", client="x"),
    ],
)
def test_other_records_are_no_events(record: GovernanceRecord) -> None:
    """What is taken back ends nothing; what a later version writes is passed over."""
    assert of(cause(record, grants=GRANTS)) == []


def test_a_record_that_cannot_be_read_is_passed_over() -> None:
    """The ledger keeps what a later version wrote."""
    causes = gathered(GovernedCause(b"x" * 32, b"\x80"))
    assert list(occurrences(causes)) == []
    assert list(families_wanted(causes)) == []


def test_each_event_of_each_stream_has_its_own_name_for_good() -> None:
    """Made again after a crash it has the same name; its cause is its transaction."""
    stream = EventStream("a" * 32, DeliveryMethod.POLL, "https://rp", None, None, b"s" * 32, NOW)
    other = EventStream("b" * 32, DeliveryMethod.POLL, "https://rp", None, None, b"s" * 32, NOW)
    first, second = of(DecidedCause(REFUSAL, GRANT))

    def name(occurrence: Occurrence, number: int, of_stream: EventStream) -> str:
        made = security_event(occurrence, number, of_stream, issuer="https://v", now=NOW)
        assert made.transaction == base64url.encode(REFUSAL.digest)
        assert (made.issuer, made.audience, made.issued_at) == ("https://v", "https://rp", NOW)
        assert (made.subject, made.event) == (occurrence.subject, occurrence.event)
        return made.jti

    names = [name(first, 0, stream), name(second, 1, stream), name(first, 0, other)]
    assert len(set(names)) == 3
    assert name(first, 0, stream) == names[0]
