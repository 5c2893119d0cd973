"""From an attestation result to what is recorded and what a token says. Pure functions.

The order is fixed: the record is made first and its digest goes into the claims, so nothing is
circular; the verifier writes the record before it signs.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.appraisal.result import AttestationResult
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.evidence import Challenge
from bootlease.evidence.verify import VerifiedLease
from bootlease.ledger import DecisionRecord, GrantedLease
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import NODES_REMEMBERED
from bootlease.token import ExecutionClaims, LineageClaim, VerifierID

DEVELOPER: Final = "bootlease"
"""Who made the verifier, as attestation results name it (EAR ``ear_verifier_id``)."""


@dataclass(frozen=True, slots=True)
class CodeIdentity:
    """Which program decides.

    Attributes:
        version: What it calls itself.
        digest: Digest of its sources, 32 bytes.
    """

    version: str
    digest: bytes


def record_decision(
    result: AttestationResult,
    *,
    challenge: Challenge,
    prior: Prior | None,
    high_water: HighWaterMark,
    enrolment: Enrolment,
    roots: TrustedRoots,
    lease_ids: Sequence[bytes],
    issuer: str,
    code: CodeIdentity,
    previous: bytes | None,
    now: int,
) -> DecisionRecord:
    """Return the record of a decision.

    Args:
        result: What ``appraise`` returned for the other arguments.
        challenge: As given to ``appraise``.
        prior: As given to ``appraise``.
        high_water: As given to ``appraise``.
        enrolment: As given to ``appraise``.
        roots: As given to ``appraise``.
        lease_ids: A fresh id of 16 bytes for each lease granted.
        issuer: The verifier's URL.
        code: This program.
        previous: Digest of the node's last decision, if it has one.
        now: As given to ``appraise``.
    """
    lineage, policy = result.lineage, result.policy
    leases = [
        GrantedLease(
            *(lease_id, lease.scope, lease.audience),
            *(lease.confirmation.thumbprint(), result.expires_at),
        )
        for lease_id, lease in zip(lease_ids, result.leases, strict=True)
    ]
    # In the record's order: a call by so many names takes as long again as what it passes.
    # fmt: off
    return DecisionRecord(
        issuer, result.node, now, challenge.encode(), result.evidence, enrolment.digest,
        None if prior is None else prior.encode(), high_water.encode(),
        result.accepted, result.findings,
        lineage.root, lineage.previous, lineage.sequence, result.considered,
        policy.id, policy.digest, policy.epoch, roots.digest, code.version, code.digest,
        tuple(leases), previous,
    )
    # fmt: on


def build_claims(
    result: AttestationResult,
    lease: VerifiedLease,
    *,
    lease_id: bytes,
    decision: bytes,
    issuer: str,
    verifier: VerifierID,
    now: int,
) -> ExecutionClaims:
    """Return what the token of one granted lease says.

    Args:
        result: A grant.
        lease: One of its leases.
        lease_id: Its id, 16 bytes.
        decision: Digest of the decision's record.
        issuer: The verifier's URL.
        verifier: Who appraised.
        now: Seconds since the epoch.

    Raises:
        ValueError: The result is a refusal, or does not grant this lease.
    """
    reference = result.reference
    # The very one: comparing what two hundred leases say with each other takes milliseconds.
    if reference is None or not any(map(operator.is_, result.leases, itertools.repeat(lease))):
        raise ValueError("only a lease that was granted gets a token")
    lineage = result.lineage
    return ExecutionClaims(
        issuer=issuer,
        subject=_subject(result.node),
        audience=lease.audience,
        issued_at=now,
        not_before=now,
        expires_at=result.expires_at,
        lease_id=lease_id,
        scope=lease.scope,
        confirmation=lease.confirmation,
        protection=lease.protection,
        level=lease.level,
        verifier=verifier,
        status=result.tier,
        vector=result.vector,
        appraisal_policies=(result.policy.id,),
        nonce=result.nonce,
        lineage=LineageClaim(lineage.root, lineage.sequence, lineage.previous),
        boot=result.boot,
        policy=result.policy,
        reference=reference,
        evidence=result.evidence,
        decision=decision,
    )


@functools.lru_cache(maxsize=NODES_REMEMBERED)
def _subject(node: bytes) -> str:
    return node.hex()


def prior_after(result: AttestationResult, head: bytes, log_digests: Mapping[str, bytes]) -> Prior:
    """Return where the lineage stands after a grant."""
    return Prior(
        root=result.lineage.root,
        head=head,
        sequence=result.lineage.sequence,
        clock_info=result.clock_info,
        expires_at=result.expires_at,
        log_digests=log_digests,
        policy_epoch=result.policy.epoch,
        began_at=result.lineage.began_at,
        heads=result.lineage.heads,
        ima=result.ima,
    )
