"""From an attestation result to everything that is stored and answered. No I/O.

Order matters: the record first, its digest into the claims, the claims' digests into head and
commit; the caller stores all of it in one transaction before it answers. The receipts are made in
that transaction, so the answer is finished there, by ``DecisionCommit.finish``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bootlease import __version__
from bootlease.appraisal import (
    AttestationResult,
    CodeIdentity,
    build_claims,
    prior_after,
    record_decision,
)
from bootlease.appraisal.issue import DEVELOPER
from bootlease.endorsement import TrustedRoots
from bootlease.evidence import (
    Challenge,
    Evidence,
    IssuedLease,
    KeyPermit,
    LeaseAnswer,
    TokenEncoding,
    VerifiedEvidence,
)
from bootlease.evidence.expiring import authority_name, permitted_seconds
from bootlease.evidence.verify import VerifiedLease
from bootlease.ledger import DecisionRecord, Receipt
from bootlease.lineage import HighWaterMark, head_after
from bootlease.ports import (
    DecisionCommit,
    EnrolledNode,
    InForce,
    StoredLineage,
)
from bootlease.token import (
    ExecutionClaims,
    PublicKey,
    Signer,
    TokenFormat,
    VerifierID,
    sign_cwt,
    sign_jwt,
)
from bootlease.token.receipts import attach_receipt
from bootlease.token.signatures import TokenSignatures
from bootlease.verifier.problems import (
    ProblemError,
    ProblemKind,
    encode_problem,
    problem_members,
)
from bootlease.verifier.tokenkeys import TokenKeys

VERIFIER_ID: Final = VerifierID(DEVELOPER, __version__)


@dataclass(frozen=True, slots=True)
class Case:
    """What one decision is about, as it stood when it was appraised.

    Attributes:
        node: The node's record.
        lineage: Where its lineage stands.
        challenge: The challenge answered.
        evidence: The evidence as presented.
        request: SHA-256 of the bytes that were sent.
        document: The evidence's bytes, with its logs left out.
        verified: The evidence as verified.
        roots: Trusted roots.
        in_force: What the operator had decided.
        now: Seconds since the epoch.
    """

    node: EnrolledNode
    lineage: StoredLineage
    challenge: Challenge
    evidence: Evidence
    request: bytes
    document: bytes
    verified: VerifiedEvidence
    roots: TrustedRoots
    in_force: InForce
    now: int


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who decides and signs, and under which name.

    Attributes:
        url: ``iss`` of every token.
        signer: The token keys.
        code: This program.
        leash: The leash key: it signs permits; without it no expiring key gets a lease.
        leash_key: Its public half.
        authority: Its name, as policies of expiring keys have it.
    """

    url: str
    signer: TokenKeys
    code: CodeIdentity
    leash: Signer | None = None
    leash_key: PublicKey | None = field(init=False, default=None)
    authority: bytes | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.leash is not None:
            public = self.leash.public
            object.__setattr__(self, "leash_key", public)
            object.__setattr__(self, "authority", authority_name(public))


def record_of(
    case: Case, result: AttestationResult, issuer: Issuer, lease_ids: list[bytes]
) -> DecisionRecord:
    """Return the record of the decision."""
    return record_decision(
        result,
        challenge=case.challenge,
        prior=case.lineage.prior,
        high_water=case.node.high_water,
        enrolment=case.node.enrolment,
        roots=case.roots,
        lease_ids=lease_ids,
        issuer=issuer.url,
        code=issuer.code,
        previous=case.lineage.decision,
        now=case.now,
    )


def grant(
    case: Case,
    result: AttestationResult,
    issuer: Issuer,
    lease_ids: list[bytes],
    next_challenge: Challenge,
) -> DecisionCommit:
    """Return what a grant stores, its signed tokens among it.

    Args:
        case: What was decided about.
        result: The grant.
        issuer: Signs.
        lease_ids: A fresh id of 16 bytes for each lease granted.
        next_challenge: Rides in the answer.
    """
    # Read once: the key may be replaced while another thread signs.
    signer = issuer.signer.newest
    record = record_of(case, result, issuer, lease_ids)
    claims = [
        build_claims(
            result,
            lease,
            lease_id=lease_id,
            decision=record.digest,
            issuer=issuer.url,
            verifier=VERIFIER_ID,
            now=case.now,
        )
        for lease_id, lease in zip(lease_ids, result.leases, strict=True)
    ]
    digests = tuple(each.digest for each in claims)
    head = head_after(digests)
    answer = LeaseAnswer(
        decision=record.digest,
        head=head,
        sequence=result.lineage.sequence,
        life=result.expires_at - case.challenge.issued_at,
        expires_in=result.expires_at - case.now,
        leases=tuple(
            _permitted(_issue(each, lease.encoding, signer), lease, issuer, case.now)
            for each, lease in zip(claims, result.leases, strict=True)
        ),
        challenge=next_challenge,
        denied=result.denied,
    )
    return replace(
        _commit(case, result, record, _finish(answer)),
        lineage=prior_after(result, head, dict(case.verified.log_digests)),
        claims=digests,
        signatures=TokenSignatures.under([each.token for each in answer.leases], signer).encode(),
        answer_expires_at=result.expires_at,
        next_challenge=next_challenge,
    )


def _permitted(issued: IssuedLease, lease: VerifiedLease, issuer: Issuer, now: int) -> IssuedLease:
    # Nothing records the permit: the evidence names session and key, the record time and end, and
    # the signature is of use in that session only.
    if lease.permit is None:
        return issued
    if issuer.leash is None:
        raise ValueError("an expiring key was accepted without a leash key")
    seconds = permitted_seconds(issued.expires_at, now)
    signature = issuer.leash.sign(lease.permit.message(seconds))
    return replace(issued, permit=KeyPermit(seconds, signature))


def _finish(answer: LeaseAnswer) -> Callable[[Sequence[Receipt]], bytes]:
    def finish(receipts: Sequence[Receipt]) -> bytes:
        leases = tuple(
            [_proven(lease, each) for lease, each in zip(answer.leases, receipts, strict=True)]
        )
        return replace(answer, leases=leases).encode()

    return finish


def _proven(lease: IssuedLease, receipt: Receipt) -> IssuedLease:
    if lease.encoding is TokenEncoding.CWT:
        return replace(lease, token=attach_receipt(lease.token, receipt.cose()))
    return replace(lease, receipt=receipt.tlog_proof())


def refuse(case: Case, result: AttestationResult, issuer: Issuer) -> DecisionCommit:
    """Return what a refusal stores: it ends the lineage."""
    record = record_of(case, result, issuer, [])
    problem = ProblemError(
        ProblemKind.REFUSED,
        "The node's evidence was appraised and refused; its leases are not renewed.",
        findings=result.findings,
        decision=record.digest,
    )
    body = encode_problem(problem_members(problem))
    return _commit(case, result, record, lambda _: body)


def _commit(
    case: Case,
    result: AttestationResult,
    record: DecisionRecord,
    finish: Callable[[Sequence[Receipt]], bytes],
) -> DecisionCommit:
    evidence = case.evidence
    return DecisionCommit(
        node=result.node,
        generation=case.node.generation,
        nonce=case.challenge.nonce,
        lineage_version=case.lineage.version,
        lineage=None,
        in_force=case.in_force,
        high_water=case.node.high_water,
        counters=HighWaterMark.of(result.clock_info),
        digest=record.digest,
        record=record.encoded,
        claims=(),
        signatures=b"",
        request=case.request,
        evidence=evidence.digest,
        document=case.document,
        root=result.lineage.root,
        named_logs=evidence.named_logs(),
        logs=evidence.carried_logs(),
        granted=result.accepted,
        finish=finish,
        answer_expires_at=case.challenge.expires_at,
        next_challenge=None,
        now=case.now,
    )


def _issue(claims: ExecutionClaims, encoding: TokenEncoding, signer: Signer) -> IssuedLease:
    if encoding is TokenEncoding.CWT:
        token = sign_cwt(claims, signer)
    else:
        token = sign_jwt(claims, signer, TokenFormat(encoding.value)).encode("ascii")
    return IssuedLease(claims.lease_id, encoding, token, claims.digest, claims.expires_at)
