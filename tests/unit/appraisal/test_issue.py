"""From a result to the record and the claims."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.appraisal import (
    AttestationResult,
    CodeIdentity,
    build_claims,
    prior_after,
    record_decision,
)
from bootlease.evidence import Challenge, log_digest
from bootlease.ledger import DecisionRecord
from bootlease.lineage import Prior, head_after
from bootlease.model import HashAlg
from bootlease.testing.scene import AUDIENCE, Scene
from bootlease.token import ExecutionClaims, VerifierID

LEASE_ID = b"\x0f" * 16
PREVIOUS = b"\x0e" * 32
CODE = CodeIdentity("0.1.0", b"\x0d" * 32)


def decide(scene: Scene, previous: bytes | None = None) -> tuple[AttestationResult, Challenge]:
    """Return a decision and its challenge."""
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge, previous=previous), challenge)
    return scene.appraise(evidence, challenge), challenge


def record(scene: Scene, result: AttestationResult, challenge: Challenge) -> DecisionRecord:
    """Record a decision."""
    return record_decision(
        result,
        challenge=challenge,
        prior=scene.prior,
        high_water=scene.high_water,
        enrolment=scene.enrolment,
        roots=scene.roots,
        lease_ids=(LEASE_ID,) * len(result.leases),
        issuer="https://verifier.example",
        code=CODE,
        previous=PREVIOUS,
        now=scene.now,
    )


def claims(scene: Scene, result: AttestationResult, decision: bytes) -> ExecutionClaims:
    """Return the claims of the first lease."""
    return build_claims(
        result,
        result.leases[0],
        lease_id=LEASE_ID,
        decision=decision,
        issuer="https://verifier.example",
        verifier=VerifierID("bootlease", "0.1.0"),
        now=scene.now + 3,
    )


def test_a_grant_is_recorded_with_all_it_rests_on(scene: Scene) -> None:
    """Every input is in the record, small ones whole and large ones by digest."""
    scene.begin()
    assert scene.prior is not None
    result, challenge = decide(scene, scene.prior.head)
    made = record(scene, result, challenge)
    assert made.granted
    assert Prior.parse(made.prior or b"") == scene.prior
    assert made.enrolment == scene.enrolment.digest
    assert made.roots == scene.roots.digest
    assert made.references == (scene.references[0].digest,)
    assert made.policy_digest == scene.policy.policy.digest
    assert (made.challenge, made.evidence) == (challenge.encode(), result.evidence)
    assert (made.code_version, made.code) == (CODE.version, CODE.digest)
    (lease,) = made.leases
    assert lease.thumbprint == result.leases[0].confirmation.thumbprint()
    assert (lease.scope, lease.audience) == (("tool:search",), AUDIENCE)
    assert made.previous == PREVIOUS
    assert DecisionRecord.parse(made.encoded) == made


def test_the_same_decision_has_the_same_record(scene: Scene) -> None:
    """A replayed decision is compared bit for bit."""
    result, challenge = decide(scene)
    assert record(scene, result, challenge).digest == record(scene, result, challenge).digest


def test_a_refusal_is_recorded_and_gets_no_token(scene: Scene) -> None:
    """All findings are kept; nothing is granted."""
    scene.node.pcr_extend(14, {HashAlg.SHA256: bytes(32)})
    result, challenge = decide(scene)
    made = record(scene, result, challenge)
    assert not made.granted
    assert made.findings == result.findings
    assert made.leases == ()


def test_a_lease_that_was_not_granted_gets_no_token(scene: Scene) -> None:
    """Claims are made of granted leases only."""
    result, _ = decide(scene)
    other = dataclasses.replace(result.leases[0], audience="https://other.example")
    refused = dataclasses.replace(result, leases=())
    for verdict, lease in ((result, other), (refused, result.leases[0])):
        with pytest.raises(ValueError, match="only a lease that was granted"):
            build_claims(
                verdict,
                lease,
                lease_id=LEASE_ID,
                decision=bytes(32),
                issuer="https://verifier.example",
                verifier=VerifierID("bootlease", "0.1.0"),
                now=scene.now,
            )


def test_claims_say_what_was_decided(scene: Scene) -> None:
    """Each claim comes from the result; life counts from the challenge."""
    scene.begin()
    assert scene.prior is not None
    result, challenge = decide(scene, scene.prior.head)
    made = claims(scene, result, b"\x01" * 32)
    assert made.subject == scene.enrolment.node.hex()
    assert made.expires_at == challenge.issued_at + 120
    assert (made.issued_at, made.not_before) == (scene.now + 3, scene.now + 3)
    assert made.lineage.prev == scene.prior.head
    assert (made.lineage.root, made.lineage.seq) == (scene.prior.root, 1)
    assert made.nonce == challenge.nonce
    assert made.decision == b"\x01" * 32
    assert made.vector == result.vector
    assert made.reference == result.reference
    assert made.confirmation == result.leases[0].confirmation


def test_the_first_lease_has_no_predecessor(scene: Scene) -> None:
    """``prev`` is absent exactly where a lineage begins."""
    result, _ = decide(scene)
    assert claims(scene, result, bytes(32)).lineage.prev is None


def test_the_chain_goes_on_from_what_was_left(scene: Scene) -> None:
    """The state after a grant is the state its renewal needs."""
    result, _ = decide(scene)
    head = head_after([claims(scene, result, bytes(32)).digest])
    scene.prior = prior_after(result, head, {"tcg": log_digest(scene.node.event_log)})
    renewed, _ = decide(scene, head)
    assert renewed.accepted
    assert renewed.lineage.sequence == 1
    assert renewed.lineage.root == result.evidence
