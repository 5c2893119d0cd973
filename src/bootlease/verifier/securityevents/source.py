"""From what was recorded to the security events that relying parties are told.

Specification: OpenID CAEP 1.0 §3. Pure: the store says what happened, in order, and each record
always gives the same events.

| recorded | event | of |
|---|---|---|
| a refusal after a grant | ``device-compliance-change`` to not-compliant | the node |
| and, where leases were live | ``session-revoked`` | the lineage that ended |
| a grant after a refusal | ``device-compliance-change`` to compliant | the node |
| another lineage while leases of the last one were live | ``session-revoked`` | the last one |
| the node enrolled again, or was readmitted, while leases were live | ``session-revoked`` | it |
| the node was replaced by another | ``session-revoked`` | the node |
| a policy was activated | ``token-claims-change``: ``bootlease_policy`` | the verifier |
| a node was revoked | ``session-revoked`` | the node |
| a lease was revoked | ``session-revoked`` | the lease; its children end with it |
| a lineage, reference set or family was revoked | ``session-revoked`` | each lineage concerned |
| earlier epochs were revoked | ``token-claims-change``: the lowest ``epoch`` | the verifier |
| a signing key was revoked | ``session-revoked`` | the verifier |

A further refusal of a node that is refused already is no event, nor is a first one: no relying
party knows the node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bootlease.endorsement import Enrolment
from bootlease.errors import MalformedError
from bootlease.ledger import DecisionRecord, GovernanceRecord
from bootlease.ledger.governance import ENROLLED, POLICY_ACTIVATED, READMITTED, REPLACED, REVOCATION
from bootlease.model import Effect
from bootlease.ports import (
    DecidedCause,
    EventCauses,
    EventStream,
    GovernedCause,
    RevokedKind,
    StoredDecision,
    StoredGrant,
    StoredRevocation,
)
from bootlease.token import base64url
from bootlease.token.caep import (
    MAX_REASON,
    Cause,
    Compliance,
    DeviceComplianceChange,
    Event,
    Initiator,
    IssuerSubject,
    SessionRevoked,
    SessionSubject,
    Subject,
    TokenClaimsChange,
)
from bootlease.token.secevent import SecurityEvent
from bootlease.verifier.continuity.revoked import Revoked

_KINDS: Final = {f"{REVOCATION}{kind.value}": kind for kind in RevokedKind}
_JTI_BYTES: Final = 24
_NONE: Final[Mapping[bytes, Enrolment]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that relying parties are told.

    Attributes:
        origin: Digest of the record that says so.
        subject: Of whom.
        event: What.
    """

    origin: bytes
    subject: Subject
    event: Event


def families_wanted(causes: EventCauses) -> Iterator[bytes]:
    """Yield the nodes whose enrolment ``occurrences`` must know: a family was revoked."""
    for cause in causes.governance:
        record = _parsed(cause)
        if record is not None and record.kind == f"{REVOCATION}{RevokedKind.FAMILY.value}":
            yield from (grant.node for grant in cause.grants)


def occurrences(
    causes: EventCauses, enrolments: Mapping[bytes, Enrolment] = _NONE
) -> Iterator[Occurrence]:
    """Yield the events of what was recorded: governance first, for it may explain a refusal.

    Args:
        causes: What was recorded.
        enrolments: Of the nodes of ``families_wanted``.
    """
    for governed in causes.governance:
        yield from _governed(governed, enrolments)
    for decided in causes.decisions:
        yield from _decided(decided)


def security_event(
    occurrence: Occurrence, number: int, stream: EventStream, *, issuer: str, now: int
) -> SecurityEvent:
    """Return an event as one stream carries it.

    Args:
        occurrence: What happened.
        number: Tells events of one record apart.
        stream: The stream.
        issuer: The verifier's URL.
        now: Seconds since the epoch.
    """
    return SecurityEvent(
        issuer=issuer,
        audience=stream.audience,
        jti=jti_of(occurrence.origin, number.to_bytes(4, "big"), stream.id.encode()),
        issued_at=now,
        subject=occurrence.subject,
        event=occurrence.event,
        transaction=base64url.encode(occurrence.origin),
    )


def jti_of(*parts: bytes) -> str:
    """Return the name of the event that these parts tell from all others."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return base64url.encode(digest.digest()[:_JTI_BYTES])


def _decided(cause: DecidedCause) -> Iterator[Occurrence]:
    decision, before = cause.decision, cause.before
    if before is None:
        return
    at, node = decision.decided_at, decision.node
    if not decision.granted and before.granted:
        why = Cause(at, Initiator.POLICY, _refusal(decision))
        change = DeviceComplianceChange(why, Compliance.NOT_COMPLIANT)
        yield Occurrence(decision.digest, SessionSubject(node), change)
        if (root := _live_lineage(before, at)) is not None:
            yield Occurrence(
                decision.digest, SessionSubject(node, lineage=root), SessionRevoked(why)
            )
    elif decision.granted and not before.granted:
        why = Cause(at, Initiator.POLICY, "The node's evidence was accepted again.")
        change = DeviceComplianceChange(why, Compliance.COMPLIANT)
        yield Occurrence(decision.digest, SessionSubject(node), change)
    elif decision.granted and (root := _live_lineage(before, at)) is not None:
        why = Cause(at, Initiator.SYSTEM, "The node began another lineage.")
        yield Occurrence(decision.digest, SessionSubject(node, lineage=root), SessionRevoked(why))


def _refusal(decision: StoredDecision) -> str:
    # Ids alone: what was expected and seen is the operator's business, not every receiver's.
    findings = DecisionRecord.parse(decision.record).findings
    refusing = [each.id for each in findings if each.effect is Effect.REFUSES]
    return f"The node's evidence was refused: {', '.join(refusing)}"[:MAX_REASON]


def _live_lineage(decision: StoredDecision, at: int) -> bytes | None:
    """Return the root of a decision's lineage if it granted leases that were live then."""
    record = DecisionRecord.parse(decision.record)
    live = any(lease.expires_at > at for lease in record.leases)
    return record.lineage_root if live else None


def _parsed(cause: GovernedCause) -> GovernanceRecord | None:
    try:
        return GovernanceRecord.parse(cause.record)
    except MalformedError:
        # Of a later version: readers of the ledger keep what they do not know.
        return None


def _governed(cause: GovernedCause, enrolments: Mapping[bytes, Enrolment]) -> Iterator[Occurrence]:
    record = _parsed(cause)
    if record is None:
        return
    yield from _revoked(cause, record, enrolments)
    tell = _TOLD.get(record.kind)
    if tell is not None:
        yield from tell(cause, record)


def _revoked(
    cause: GovernedCause, record: GovernanceRecord, enrolments: Mapping[bytes, Enrolment]
) -> Iterator[Occurrence]:
    kind = _KINDS.get(record.kind)
    match record.details:
        case {"subject": str() | bytes() as named, "reason": str(reason)} if kind is not None:
            # What is named by a digest stands there as one.
            subject = named.hex() if isinstance(named, bytes) else named
            why = Cause(record.time, Initiator.ADMIN, reason[:MAX_REASON])
            if kind is RevokedKind.EPOCH:
                change = TokenClaimsChange(why, {"bootlease_policy": {"epoch": int(subject)}})
                yield Occurrence(cause.digest, IssuerSubject(), change)
                return
            for concerned in _concerned(kind, subject, cause.grants, enrolments):
                yield Occurrence(cause.digest, concerned, SessionRevoked(why))


def _concerned(
    kind: RevokedKind,
    subject: str,
    grants: Sequence[StoredGrant],
    enrolments: Mapping[bytes, Enrolment],
) -> Iterable[Subject]:
    if kind is RevokedKind.NODE:
        return [SessionSubject(bytes.fromhex(subject))]
    if kind is RevokedKind.LEASE:
        lease = bytes.fromhex(subject)
        # A delegated lease is in no decision, and known by its id alone.
        nodes = [grant.node for grant in grants if lease in grant.lease_ids]
        return [SessionSubject(nodes[0] if nodes else None, lease=lease)]
    if kind is RevokedKind.KEY:
        return [IssuerSubject()]
    if kind is RevokedKind.LINEAGE:
        root = bytes.fromhex(subject)
        over = [grant for grant in grants if grant.root == root]
    elif kind is RevokedKind.REFERENCE:
        digest = bytes.fromhex(subject)
        over = [grant for grant in grants if digest in grant.references]
    else:
        family = Revoked.of(
            [StoredRevocation(kind, subject, in_force=True, reason="", author="", at=0)]
        )
        over = [
            grant
            for grant in grants
            if grant.node in enrolments and family.finding(enrolments[grant.node]) is not None
        ]
    lineages = dict.fromkeys((grant.node, grant.root) for grant in over)
    return [SessionSubject(node, lineage=root) for node, root in lineages]


def _enrolled(cause: GovernedCause, record: GovernanceRecord) -> Iterator[Occurrence]:
    latest = cause.latest
    # What was decided in this second may have been decided after it; its own record tells then.
    if latest is None or latest.decided_at >= record.time or not latest.granted:
        return
    if _live_lineage(latest, record.time) is not None:
        why = Cause(record.time, Initiator.SYSTEM, "The node begins anew.")
        yield Occurrence(cause.digest, SessionSubject(latest.node), SessionRevoked(why))


def _replaced(cause: GovernedCause, record: GovernanceRecord) -> Iterator[Occurrence]:
    match record.details:
        case {"replaces": bytes(old)}:
            why = Cause(record.time, Initiator.ADMIN, "The node was replaced by another.")
            yield Occurrence(cause.digest, SessionSubject(old), SessionRevoked(why))


def _policy_activated(cause: GovernedCause, record: GovernanceRecord) -> Iterator[Occurrence]:
    match record.details:
        case {"id": str(name), "digest": bytes(digest), "epoch": int(epoch)}:
            why = Cause(
                record.time,
                Initiator.ADMIN,
                f"Policy {name} was activated as epoch {epoch}."[:MAX_REASON],
            )
            policy = {"id": name, "digest": base64url.encode(digest), "epoch": epoch}
            change = TokenClaimsChange(why, {"bootlease_policy": policy})
            yield Occurrence(cause.digest, IssuerSubject(), change)


_TOLD: Final[Mapping[str, Callable[[GovernedCause, GovernanceRecord], Iterator[Occurrence]]]] = {
    ENROLLED: _enrolled,
    READMITTED: _enrolled,
    REPLACED: _replaced,
    POLICY_ACTIVATED: _policy_activated,
}
"""Kinds of governance records that are events, and what each tells."""
