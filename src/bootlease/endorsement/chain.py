"""Who vouches for an endorsement key: its certificate, up to a root the operator pinned.

Specifications: RFC 5280 §6 (path validation, by ``cryptography.x509.verification``); TCG EK
Credential Profile for TPM 2.0 2.6 §3.

The library's ready-made policies are those of web servers and clients and refuse every EK
certificate, so the extension policies are our own: a CA has CA:true, keyCertSign and a path
length that holds; a critical subject alternative name with a directoryName, an empty subject
and critical certificate policies, which TPM vendors use, are understood. A critical extension
that is not understood still refuses.

Not handled on purpose: revocation lists and OCSP, and the malformed certificates named in
``certificate``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder
from cryptography.x509.verification import VerificationError as PathError

from bootlease import cbor
from bootlease.endorsement.certificate import (
    EK_CERTIFICATE_EKU,
    Certificate,
    TPMIdentity,
    parse_certificate,
)
from bootlease.endorsement.roots import TrustedRoots
from bootlease.endorsement.weakness import is_roca
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence.fields import Fields
from bootlease.model import Effect, Finding
from bootlease.tpm import EndorsementKey

MAX_CHAIN: Final = 6
"""Certificates in a chain without its root; vendors use two or three."""

_SOFTWARE_MANUFACTURER: Final = "id:00001014"
"""IBM's vendor id, which libtpms and the TCG's simulator report."""


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A manufacturer's verified word for one endorsement key.

    Attributes:
        root: SHA-256 of the pinned certificate that the chain ends in.
        certificate: SHA-256 of the EK certificate.
        identity: The TPM's make, as its manufacturer states it.
        not_after: Last second at which the whole chain is valid.
    """

    root: bytes
    certificate: bytes
    identity: TPMIdentity
    not_after: int

    def wire(self) -> dict[str, object]:
        """Return the CBOR form."""
        make = self.identity
        return {
            "root": self.root,
            "cert": self.certificate,
            "make": [make.manufacturer, make.model, make.version],
            "exp": self.not_after,
        }

    @classmethod
    def from_wire(cls, value: object) -> Endorsement:
        """Read the CBOR form.

        Raises:
            MalformedError: The value is no endorsement.
        """
        fields = Fields(value, "endorsement")
        make = fields.array("make", at_most=3)
        if len(make) != 3 or any(type(part) is not str for part in make):  # noqa: PLR2004 - three names
            raise MalformedError("endorsement needs manufacturer, model and version")
        endorsement = cls(
            root=fields.digest("root"),
            certificate=fields.digest("cert"),
            identity=TPMIdentity(*make),
            not_after=fields.unsigned("exp"),
        )
        fields.end()
        return endorsement

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        return cbor.encode(self.wire())


@dataclass(frozen=True, slots=True)
class VerifiedEndorsement:
    """An endorsement with what is worth noting about it.

    Attributes:
        endorsement: The manufacturer's word.
        notes: Findings that refuse nothing.
    """

    endorsement: Endorsement
    notes: tuple[Finding, ...]


def verify_ek_chain(
    chain: Sequence[bytes], roots: TrustedRoots, ek: EndorsementKey, *, now: int
) -> VerifiedEndorsement:
    """Verify that a pinned root vouches for this endorsement key.

    Proves: a CA under one of ``roots`` certified exactly this key as the endorsement key of a
    TPM of the stated make. Does not prove that the sender holds that TPM (credential activation
    does), nor that the CA was careful: it is as good as the roots the operator pinned.

    Args:
        chain: DER certificates, the EK's first, then intermediates in any order: unverified.
        roots: The pinned anchors; nothing that the client sends becomes one.
        ek: The endorsement key presented.
        now: Seconds since the epoch.

    Returns:
        The endorsement.

    Raises:
        MalformedError: A certificate does not parse, or there is none, or too many.
        VerificationError: With every check that failed.
    """
    if not 0 < len(chain) <= MAX_CHAIN:
        raise MalformedError(f"an EK chain has 1 to {MAX_CHAIN} certificates, not {len(chain)}")
    leaf, *intermediates = map(parse_certificate, chain)
    findings = _leaf_findings(leaf, ek, now)
    path = _path(leaf, intermediates, roots, now, findings)
    if findings or path is None or leaf.identity is None:
        raise VerificationError(*findings)
    endorsement = Endorsement(
        root=parse_certificate(path[-1].public_bytes(Encoding.DER)).fingerprint,
        certificate=leaf.fingerprint,
        identity=leaf.identity,
        not_after=min(int(member.not_valid_after_utc.timestamp()) for member in path),
    )
    return VerifiedEndorsement(endorsement, _notes(leaf.identity))


def _leaf_findings(leaf: Certificate, ek: EndorsementKey, now: int) -> list[Finding]:
    findings: list[Finding] = []
    # B5: EK, certificate and TPM are three statements; a real certificate beside another key
    # would endorse that key.
    if leaf.public_key is None or leaf.public_key != ek.key:
        findings.append(
            Finding(
                "endorsement.key.mismatch",
                "The EK certificate is for another key than the EK presented.",
            )
        )
    if not leaf.not_before <= now <= leaf.not_after:
        word = "has expired" if now > leaf.not_after else "is not valid yet"
        findings.append(
            Finding(
                "endorsement.certificate.expired"
                if now > leaf.not_after
                else "endorsement.certificate.not-yet-valid",
                f"The EK certificate {word}.",
                expected=f"{leaf.not_before} to {leaf.not_after}",
                seen=str(now),
            )
        )
    # B10: without it, any certificate under the root, an AK's or a web server's, endorses a TPM.
    if EK_CERTIFICATE_EKU not in leaf.extended_key_usage:
        findings.append(
            Finding(
                "endorsement.eku.missing",
                "The certificate was not issued for an endorsement key: its extended key usage "
                "lacks tcg-kp-EKCertificate.",
                expected=EK_CERTIFICATE_EKU.dotted_string,
                seen=", ".join(sorted(oid.dotted_string for oid in leaf.extended_key_usage)[:8])
                or "no extended key usage",
            )
        )
    if leaf.is_ca:
        findings.append(
            Finding("endorsement.certificate.is-ca", "The EK certificate is a CA certificate.")
        )
    if leaf.identity is None:
        findings.append(
            Finding(
                "endorsement.identity.missing",
                "The EK certificate does not name the TPM's manufacturer, model and version.",
            )
        )
    if is_roca(ek.key):
        findings.append(
            Finding(
                "endorsement.key.roca",
                "The EK was made by the faulty generator of CVE-2017-15361; its private key can "
                "be computed.",
            )
        )
    return findings


def _path(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    roots: TrustedRoots,
    now: int,
    findings: list[Finding],
) -> list[x509.Certificate] | None:
    # B14: intermediates may come from the client because the path must end in a pinned root.
    if roots.store is None:
        findings.append(
            Finding(
                "endorsement.roots.none",
                "No TPM manufacturer's root is trusted yet: an operator must add one.",
            )
        )
        return None
    # The leaf's own validity is a finding of its own; here it must not hide the path's trouble.
    moment = max(leaf.not_before, min(now, leaf.not_after))
    verifier = (
        PolicyBuilder()
        .store(roots.store)
        .time(dt.datetime.fromtimestamp(moment, dt.UTC).replace(tzinfo=None))
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_EK_POLICY)
        .build_client_verifier()
    )
    try:
        return list(verifier.verify(leaf.parsed, [each.parsed for each in intermediates]).chain)
    except PathError as exc:
        findings += _path_findings(exc, intermediates, now)
        return None


def _path_findings(exc: PathError, intermediates: Sequence[Certificate], now: int) -> list[Finding]:
    lapsed = [each for each in intermediates if not each.not_before <= now <= each.not_after]
    if lapsed:
        return [
            Finding(
                "endorsement.intermediate.expired",
                "An intermediate certificate of the EK chain is outside its validity.",
                seen=each.fingerprint.hex(),
            )
            for each in lapsed
        ]
    reason = "".join(char for char in str(exc) if char.isprintable())
    return [
        Finding(
            "endorsement.chain.untrusted",
            "The EK certificate does not lead to a trusted root.",
            expected="a path to a pinned root",
            seen=reason[:240],
        )
    ]


def _notes(identity: TPMIdentity) -> tuple[Finding, ...]:
    # B16: trusting a local CA lets software TPMs in; say so wherever one is let in.
    if identity.manufacturer.lower() != _SOFTWARE_MANUFACTURER:
        return ()
    return (
        Finding(
            "endorsement.tpm.software",
            "The certificate names a software TPM: whoever runs it can copy its keys.",
            effect=Effect.NOTES,
            seen=f"{identity.manufacturer} {identity.model}",
        ),
    )


def _demand_ca(_: Policy, __: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("an issuer is not a CA")


def _demand_cert_sign(_: Policy, __: x509.Certificate, extension: x509.KeyUsage) -> None:
    if not extension.key_cert_sign:
        raise ValueError("an issuer may not sign certificates")


# No certificate policy is asked for (RFC 5280 §6.1.1 (c), any-policy), so a critical statement
# of policies, as STMicroelectronics' intermediates have, constrains nothing.
_EK_POLICY: Final = ExtensionPolicy.permit_all().may_be_present(
    x509.CertificatePolicies, Criticality.AGNOSTIC, None
)
_CA_POLICY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _demand_ca)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _demand_cert_sign)
    .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
)
