"""Checking an enrolment record against itself and against the certificates it rests on.

Specifications: TPM 2.0 Library part 1 §16 (names); TCG EK Credential Profile 2.6 §3.

Not shown, because nobody can show it afterwards: that a credential was activated, which tied AK
and EK to one TPM. The record is the verifier's word for it, and the ledger dates that word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from bootlease.endorsement import Enrolment, TrustedRoots, verify_ek_chain
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence.enrolment import node_id
from bootlease.model import Finding
from bootlease.tpm import (
    EndorsementKey,
    accept_attestation_key,
    accept_endorsement_key,
    parse_public,
)


def check_enrolment(enrolment: Enrolment) -> tuple[Finding, ...]:
    """Demand that node id, EK digest and AK name are those of the keys in the record."""
    try:
        ek = _endorsement_key(enrolment)
        ak = accept_attestation_key(parse_public(enrolment.ak_public))
    except (MalformedError, VerificationError) as exc:
        return (_finding("enrolment.key.invalid", f"A key in the record is not sound: {exc}"),)
    findings = []
    if enrolment.ek_digest != hashlib.sha256(ek.spki).digest():
        findings.append(_finding("enrolment.ek.mismatch", "The EK's digest is another key's."))
    if enrolment.node != node_id(ek.spki):
        findings.append(_finding("enrolment.node.mismatch", "The node id is not that of its EK."))
    if enrolment.ak_name != ak.name:
        findings.append(_finding("enrolment.ak.mismatch", "The AK's name is not that of its key."))
    return tuple(findings)


def check_chain(
    enrolment: Enrolment, chain: Sequence[bytes], certificates: Mapping[bytes, bytes]
) -> tuple[Finding, ...]:
    """Demand that the manufacturer's word in the record is what its certificates say.

    Args:
        enrolment: The record.
        chain: The EK's certificates, DER, the EK's own first.
        certificates: The roots trusted, DER by fingerprint.
    """
    endorsement = enrolment.endorsement
    if endorsement is None:
        # Listed by hand: no certificate was looked at, so none may ride along unexamined.
        return () if not chain else (_finding("endorsement.surplus", "The EK needs no chain."),)
    root = certificates.get(endorsement.root)
    if root is None:
        return (
            _finding(
                "endorsement.root.missing", "The root that vouched for the EK is not at hand."
            ),
        )
    try:
        verified = verify_ek_chain(
            chain,
            TrustedRoots.of([root]),
            _endorsement_key(enrolment),
            now=enrolment.enrolled_at,
        )
    except VerificationError as exc:
        return exc.findings
    except MalformedError as exc:
        return (_finding("endorsement.malformed", f"A certificate of the EK: {exc}."),)
    if verified.endorsement != endorsement:
        return (
            _finding(
                "endorsement.mismatch",
                "The manufacturer's word in the record is not what the certificates say.",
            ),
        )
    return ()


def necessary_chain(
    enrolment: Enrolment, chain: Sequence[bytes], certificates: Mapping[bytes, bytes]
) -> tuple[bytes, ...]:
    """Return the chain without certificates that the path does not need.

    Args:
        enrolment: The record.
        chain: The EK's certificates as the node sent them.
        certificates: The roots trusted, DER by fingerprint.
    """
    if enrolment.endorsement is None:
        return ()
    kept = list(chain)
    for each in chain[1:]:
        shorter = [other for other in kept if other is not each]
        if not check_chain(enrolment, shorter, certificates):
            kept = shorter
    return tuple(kept)


def _endorsement_key(enrolment: Enrolment) -> EndorsementKey:
    return accept_endorsement_key(parse_public(enrolment.ek_public))


def _finding(id_: str, message: str) -> Finding:
    return Finding(id_, message)
