"""Deciding whether a node may enrol. A pure function.

Credential activation, which alone proves that EK and AK are in one TPM, follows: what is
accepted here is not enrolled before it succeeds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from bootlease.appraisal.endorsed import judge_endorsement, not_allowed, unendorsed
from bootlease.endorsement import Endorsement, Enrolment, TrustedRoots, verify_ek_chain
from bootlease.endorsement.weakness import weak_key
from bootlease.errors import VerificationError
from bootlease.evidence import EnrolmentRequest
from bootlease.evidence.enrolment import node_id
from bootlease.model import Finding, refusals
from bootlease.policy import Admission, EKAlgorithm, Policy
from bootlease.tpm import (
    AttestationKey,
    EndorsementKey,
    TPMECCCurve,
    TPMSECCParms,
    TPMTPublic,
    accept_attestation_key,
    accept_endorsement_key,
    parse_public,
)

_CURVES: Final = {
    TPMECCCurve.NIST_P256.value: EKAlgorithm.ECC_P256,
    TPMECCCurve.NIST_P384.value: EKAlgorithm.ECC_P384,
}
_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class AcceptedEnrolment:
    """An enrolment that may go on to credential activation. Made by ``accept_enrolment``.

    Attributes:
        node: Node id.
        ek: The accepted endorsement key.
        ak: The accepted attestation key.
        endorsement: The manufacturer's word; ``None`` for an EK that the policy lists by hand.
        needs_join_token: The caller must still spend the request's join token.
        notes: Findings that refuse nothing.
    """

    node: bytes
    ek: EndorsementKey
    ak: AttestationKey
    endorsement: Endorsement | None
    needs_join_token: bool
    notes: tuple[Finding, ...]

    def enrolment(self, *, now: int) -> Enrolment:
        """Return the record to keep once credential activation has succeeded."""
        return Enrolment(
            node=self.node,
            ek_public=self.ek.public.marshal(),
            ek_digest=hashlib.sha256(self.ek.spki).digest(),
            ak_public=self.ak.public.marshal(),
            ak_name=self.ak.name,
            endorsement=self.endorsement,
            enrolled_at=now,
            notes=self.notes,
        )


def accept_enrolment(
    request: EnrolmentRequest, roots: TrustedRoots, policy: Policy, *, now: int
) -> AcceptedEnrolment:
    """Accept a request to enrol.

    Proves: a trusted manufacturer, or the policy by hand, vouches for the EK; EK and AK would be
    sound keys if a TPM holds them; the policy admits the EK. Does not prove that the sender has
    such a TPM: the caller must still have a credential activated for exactly ``ak.name``, and
    spend the join token where ``needs_join_token`` says so.

    Args:
        request: Unverified.
        roots: Manufacturers trusted now.
        policy: The policy in force.
        now: Seconds since the epoch.

    Raises:
        MalformedError: A key or certificate does not parse.
        VerificationError: With every check that failed.
    """
    ek_public, ak_public = parse_public(request.ek_public), parse_public(request.ak_public)
    findings = _algorithm(ek_public, policy)
    ek: EndorsementKey | None = None
    ak: AttestationKey | None = None
    endorsement: Endorsement | None = None
    try:
        ak = accept_attestation_key(ak_public)
    except VerificationError as exc:
        findings += exc.findings
    try:
        ek = accept_endorsement_key(ek_public)
    except VerificationError as exc:
        findings += exc.findings
    findings += _admission(request, ek, policy)
    if ek is not None:
        try:
            endorsement, notes = _endorsed(request, ek, roots, policy, now)
            findings += notes
        except VerificationError as exc:
            findings += exc.findings
    refusing = refusals(tuple(findings))
    if ek is None or ak is None or refusing:
        raise VerificationError(*refusing)
    return AcceptedEnrolment(
        node=node_id(ek.spki),
        ek=ek,
        ak=ak,
        endorsement=endorsement,
        needs_join_token=policy.enrolment.admit is Admission.JOIN_TOKEN,
        notes=tuple(findings),
    )


def _endorsed(
    request: EnrolmentRequest, ek: EndorsementKey, roots: TrustedRoots, policy: Policy, now: int
) -> tuple[Endorsement | None, tuple[Finding, ...]]:
    ek_digest = hashlib.sha256(ek.spki).digest()
    if request.ek_chain and ek_digest not in policy.enrolment.unsafe_unendorsed_ek:
        verified = verify_ek_chain(request.ek_chain, roots, ek, now=now)
        judged = judge_endorsement(verified.endorsement, roots, policy, now=now)
        return verified.endorsement, (*verified.notes, *judged)
    # Listed by hand, a certificate is not looked at: it could only promise too much.
    return None, (unendorsed(ek_digest, policy), *weak_key(ek.key))


def _admission(
    request: EnrolmentRequest, ek: EndorsementKey | None, policy: Policy
) -> list[Finding]:
    rules = policy.enrolment
    if rules.admit is Admission.JOIN_TOKEN:
        if request.join_token is None:
            return [
                Finding(
                    "enrolment.join-token.missing",
                    "The policy admits nodes with a join token, and the request has none.",
                )
            ]
        return []
    if ek is None:
        # Without a key there is nothing that a list could name; it is refused as it is.
        return []
    ek_digest = hashlib.sha256(ek.spki).digest()
    if ek_digest in rules.unsafe_unendorsed_ek:
        return []
    return list(not_allowed(ek_digest, policy))


def _algorithm(public: TPMTPublic, policy: Policy) -> list[Finding]:
    parameters = public.parameters
    if isinstance(parameters, TPMSECCParms):
        algorithm = _CURVES.get(parameters.curve)
        other = f"ecc, curve 0x{parameters.curve:04x}"
    else:
        algorithm = EKAlgorithm.RSA_2048 if parameters.key_bits == _RSA_BITS else None
        other = f"rsa-{parameters.key_bits}"
    expected = policy.enrolment.ek_algorithm
    if algorithm is expected:
        return []
    # One TPM has an EK of each algorithm: with two admitted it would be two nodes.
    return [
        Finding(
            "enrolment.ek-algorithm.mismatch",
            "The policy enrols nodes by an EK of another algorithm.",
            expected=expected.value,
            seen=other if algorithm is None else algorithm.value,
        )
    ]
