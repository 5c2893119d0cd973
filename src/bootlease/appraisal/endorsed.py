"""Whether a TPM's endorsement lets its node in: when it enrols, and at every decision after that.

What the certificates prove was verified when the node enrolled and is in its record. What the
operator makes of it may change from one decision to the next: the roots that are trusted, what
they have revoked since, and the rules of the policy on makes. So it is judged each time anew, from
the record, the set of roots and the policy, all of which a decision names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from bootlease.endorsement import (
    CertificateStatus,
    Endorsement,
    Enrolment,
    Tolerance,
    TPMIdentity,
    TrustedRoots,
    vendor_name,
)
from bootlease.model import Effect, Finding, refusals
from bootlease.policy import Admission, CRLRule, Policy


def check_endorsement(
    enrolment: Enrolment, roots: TrustedRoots, rules: Policy, now: int
) -> tuple[Finding, ...]:
    """Demand that what let the node in would still let it in."""
    endorsement = enrolment.endorsement
    if endorsement is None:
        return (unendorsed(enrolment.ek_digest, rules),)
    findings: list[Finding] = []
    if endorsement.root not in roots.anchors:
        findings.append(
            Finding(
                "endorsement.root.untrusted",
                "The root that vouched for the node's TPM is no longer trusted.",
                seen=endorsement.root.hex(),
            )
        )
    if now > endorsement.not_after:
        findings.append(
            Finding(
                "endorsement.expired",
                "The certificates that vouched for the node's TPM have expired.",
                expected=f"until {endorsement.not_after}",
                seen=str(now),
            )
        )
    # What is only noted was told when the node enrolled, and is in its record.
    findings += _make_refusals(endorsement.identity, endorsement.tolerated, rules)
    if _looks_at_lists(roots, rules):
        findings += refusals(tuple(_revocation_findings(endorsement, roots, rules, now)))
    if enrolment.ek_digest not in rules.enrolment.allow_ek:
        findings += not_allowed(enrolment.ek_digest, rules)
    return tuple(findings)


def judge_endorsement(
    endorsement: Endorsement, roots: TrustedRoots, rules: Policy, *, now: int
) -> tuple[Finding, ...]:
    """Return what policy and revocation lists have against a verified endorsement, and notes."""
    about_make = _make_findings(endorsement.identity, endorsement.tolerated, rules)
    if not _looks_at_lists(roots, rules):
        return about_make
    return about_make + tuple(_revocation_findings(endorsement, roots, rules, now))


def _looks_at_lists(roots: TrustedRoots, rules: Policy) -> bool:
    return bool(roots.lists) or rules.enrolment.crl is not CRLRule.WHEN_GIVEN


@functools.lru_cache(maxsize=4096)
def _make_refusals(
    make: TPMIdentity, tolerated: frozenset[Tolerance], rules: Policy
) -> tuple[Finding, ...]:
    # Asked at each renewal, where a note would be looked through for nothing.
    return refusals(_make_findings(make, tolerated, rules))


# A fleet has few makes, and each of its renewals asks.
@functools.lru_cache(maxsize=4096)
def _make_findings(
    make: TPMIdentity, tolerated: frozenset[Tolerance], rules: Policy
) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    enrolment = rules.enrolment
    named = enrolment.names_software(make)
    if make.is_software:
        # B16: trusting a local CA lets software TPMs in; say so wherever one is let in.
        findings.append(_software(make, effect=Effect.NOTES if named else Effect.REFUSES))
    if not named and not enrolment.allows_vendor(make):
        findings.append(
            Finding(
                "endorsement.vendor.not-allowed",
                "The policy admits no TPMs of this vendor.",
                expected=", ".join(sorted(map(vendor_name, enrolment.vendors))[:16]),
                seen=vendor_name(make.vendor),
            )
        )
    if enrolment.refuses_firmware(make):
        findings.append(
            Finding(
                "endorsement.firmware.refused",
                "The policy lists TPMs of this make as weak.",
                seen=str(make),
            )
        )
    if Tolerance.SHA1_SIGNATURE in tolerated and not enrolment.unsafe_sha1_signatures:
        findings.append(
            Finding(
                "endorsement.signature.sha1",
                "A certificate of the EK is signed over SHA-1, whose collisions can be made;"
                " pin its issuer, or allow it by policy.",
                expected="SHA-256 or stronger",
                seen="SHA-1",
            )
        )
    return tuple(findings)


def _software(make: TPMIdentity, *, effect: Effect) -> Finding:
    return Finding(
        "endorsement.tpm.software",
        "The certificate names a software TPM: whoever runs it can copy its keys.",
        effect=effect,
        expected="a make that enrolment.unsafe_software_tpm names"
        if effect is Effect.REFUSES
        else None,
        seen=str(make),
    )


def _revocation_findings(
    endorsement: Endorsement, roots: TrustedRoots, rules: Policy, now: int
) -> Iterator[Finding]:
    required = rules.enrolment.crl is CRLRule.REQUIRED
    for place, link in enumerate(endorsement.path):
        status = roots.status(link.issuer, link.serial, now=now)
        which = "The EK certificate" if place == 0 else "A CA certificate of the EK's"
        if status is CertificateStatus.REVOKED:
            yield Finding(
                "endorsement.revoked",
                f"{which} was revoked by its issuer.",
                seen=f"serial number {link.serial.hex()}",
            )
        elif status is CertificateStatus.OUTDATED:
            yield Finding(
                "endorsement.crl.outdated",
                f"{which} is on no current revocation list: the issuer's next one is due.",
                effect=Effect.REFUSES if required else Effect.NOTES,
            )
        elif status is CertificateStatus.UNKNOWN and required:
            yield Finding(
                "endorsement.crl.missing",
                f"{which} has an issuer whose revocation list was never given; import the issuer's"
                " certificate and its list.",
                seen=f"serial number {link.serial.hex()}",
            )
    # Path validation takes an anchor as it is; what another pinned CA says of it counts here.
    if roots.anchor_revoked(endorsement.root, now=now):
        yield Finding(
            "endorsement.root.revoked",
            "The pinned CA that vouched for the TPM was revoked by its issuer.",
            seen=endorsement.root.hex(),
        )


def unendorsed(ek_digest: bytes, rules: Policy) -> Finding:
    """Return the finding that an EK without certificate always leaves."""
    if ek_digest in rules.enrolment.unsafe_unendorsed_ek:
        return Finding(
            "endorsement.none",
            "No manufacturer vouches for the node's TPM; the policy lists its EK by hand.",
            effect=Effect.NOTES,
        )
    return Finding(
        "endorsement.missing",
        "No manufacturer vouches for the node's TPM, and the policy does not list its EK.",
        seen=ek_digest.hex(),
    )


def not_allowed(ek_digest: bytes, rules: Policy) -> tuple[Finding, ...]:
    """Return a finding if an allowlist does not have this EK."""
    if rules.enrolment.admit is not Admission.ALLOWLIST or ek_digest in rules.enrolment.allow_ek:
        return ()
    return (
        Finding(
            "enrolment.ek.not-allowed",
            "The node's EK is not on the policy's allowlist.",
            expected="an EK of enrolment.allow_ek",
            seen=ek_digest.hex(),
        ),
    )
