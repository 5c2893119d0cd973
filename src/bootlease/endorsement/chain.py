"""Who vouches for an endorsement key: its certificate, up to a root the operator pinned.

Specifications: RFC 5280 §6 (path validation, see ``path``); TCG EK Credential Profile for TPM
Family 2.0 §3 (what an EK certificate says).

Only facts are made here: what the certificates say, and that they lead to a root. What policy
makes of a make, of a signature over SHA-1 or of a revocation list is judged later, and again at
every decision, from the record.

Not handled on purpose: OCSP, and fetching certificates or lists from where a certificate says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from bootlease import cbor
from bootlease.endorsement.certificate import (
    EK_CERTIFICATE_EKU,
    Certificate,
    parse_certificate,
)
from bootlease.endorsement.extensions import KeyUsage
from bootlease.endorsement.make import TPMIdentity
from bootlease.endorsement.path import Path, find_path
from bootlease.endorsement.roots import TrustedRoots
from bootlease.endorsement.tolerance import Tolerance
from bootlease.endorsement.weakness import weak_key
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence.fields import DIGEST_SIZE, Fields
from bootlease.model import Finding, legible
from bootlease.tpm import EndorsementKey

MAX_CHAIN: Final = 6
"""Certificates in a chain without its root; vendors use two or three."""

_FAMILY: Final = "2.0"
_MAX_SERIAL: Final = 32
_MAKE_PARTS: Final = 3
_LINK_PARTS: Final = 2


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a path, as its issuer's revocation list would name it.

    Attributes:
        issuer: The issuer's ``issuer_id``.
        serial: The certificate's serial number, its bytes.
    """

    issuer: bytes
    serial: bytes


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A manufacturer's verified word for one endorsement key.

    Attributes:
        root: SHA-256 of the pinned certificate that the chain ends in.
        certificate: SHA-256 of the EK certificate, without frame and padding.
        identity: The TPM's make, as its manufacturer states it.
        not_after: Last second at which the whole chain is valid.
        path: The certificates below the root, the EK's first.
        tolerated: What the certificates get wrong.
    """

    root: bytes
    certificate: bytes
    identity: TPMIdentity
    not_after: int
    path: tuple[Link, ...] = ()
    tolerated: frozenset[Tolerance] = frozenset()

    def wire(self) -> dict[str, object]:
        """Return the CBOR form."""
        make = self.identity
        return {
            "root": self.root,
            "cert": self.certificate,
            "make": [make.manufacturer, make.model, make.version],
            "exp": self.not_after,
            "path": [[link.issuer, link.serial] for link in self.path],
            "odd": sorted(each.value for each in self.tolerated),
        }

    @classmethod
    def from_wire(cls, value: object) -> Endorsement:
        """Read the CBOR form.

        Raises:
            MalformedError: The value is no endorsement.
        """
        fields = Fields(value, "endorsement")
        make = fields.array("make", at_most=_MAKE_PARTS)
        if len(make) != _MAKE_PARTS or any(type(part) is not str for part in make):
            raise MalformedError("endorsement needs manufacturer, model and version")
        odd = fields.array("odd", at_most=len(Tolerance))
        if list(odd) != sorted(each.value for each in Tolerance if each.value in odd):
            raise MalformedError("endorsement tolerates something that is not known")
        endorsement = cls(
            root=fields.digest("root"),
            certificate=fields.digest("cert"),
            identity=TPMIdentity(*make),
            not_after=fields.unsigned("exp"),
            path=tuple(map(_link, fields.array("path", at_most=MAX_CHAIN))),
            tolerated=frozenset(map(Tolerance, odd)),
        )
        fields.end()
        return endorsement

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        return cbor.encode(self.wire())


def _link(value: object) -> Link:
    if isinstance(value, list | tuple) and len(value) == _LINK_PARTS:
        issuer, serial = value
        if (
            type(issuer) is type(serial) is bytes
            and len(issuer) == DIGEST_SIZE
            and 0 < len(serial) <= _MAX_SERIAL
        ):
            return Link(issuer, serial)
    raise MalformedError("endorsement has something in its path that is no certificate's name")


@dataclass(frozen=True, slots=True)
class VerifiedEndorsement:
    """An endorsement with what is worth noting about it.

    Attributes:
        endorsement: The manufacturer's word.
        notes: Findings that refuse nothing: each deviation that was tolerated.
    """

    endorsement: Endorsement
    notes: tuple[Finding, ...]


def verify_ek_chain(
    chain: Sequence[bytes], roots: TrustedRoots, ek: EndorsementKey, *, now: int
) -> VerifiedEndorsement:
    """Verify that a pinned root vouches for this endorsement key.

    Proves: a CA under one of ``roots`` certified exactly this key as the endorsement key of a
    TPM 2.0 of the stated make. Does not prove that the sender holds that TPM (credential
    activation does), nor that the CA was careful: it is as good as the roots the operator pinned.
    The caller must still judge what policy has a say in: the make, ``Tolerance.SHA1_SIGNATURE``,
    and the revocation lists in ``roots``.

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
    findings = [*_validity(leaf, now), *_profile(leaf, ek)]
    if roots:
        path, wrong = find_path(leaf, intermediates, roots.by_subject, now=now)
    else:
        path, wrong = None, (_no_roots(),)
    findings += wrong
    if findings or path is None or leaf.identity is None:
        raise VerificationError(*findings)
    endorsement = _endorsement(path, leaf.identity)
    notes = [each.finding() for each in Tolerance if each in endorsement.tolerated]
    return VerifiedEndorsement(endorsement, tuple(notes))


def _endorsement(path: Path, identity: TPMIdentity) -> Endorsement:
    links = zip(path.certificates, path.certificates[1:], strict=False)
    tolerated = path.tolerated
    if path.leaf.extensions.key_usage is None:
        tolerated |= {Tolerance.NO_KEY_USAGE}
    return Endorsement(
        root=path.anchor.fingerprint,
        certificate=path.leaf.fingerprint,
        identity=identity,
        not_after=path.not_after,
        path=tuple(Link(issuer.issuer_id, each.serial) for each, issuer in links),
        tolerated=tolerated,
    )


def _no_roots() -> Finding:
    return Finding(
        "endorsement.roots.none",
        "No manufacturer's root is trusted; import one before nodes can enrol.",
    )


def _validity(leaf: Certificate, now: int) -> Iterator[Finding]:
    if leaf.not_before <= now <= leaf.not_after:
        return
    over = now > leaf.not_after
    yield Finding(
        "endorsement.certificate.expired" if over else "endorsement.certificate.not-yet-valid",
        f"The EK certificate {'has expired' if over else 'is not valid yet'}.",
        expected=f"{leaf.not_before} to {leaf.not_after}",
        seen=str(now),
    )


def _profile(leaf: Certificate, ek: EndorsementKey) -> Iterator[Finding]:
    """Demand what the EK Credential Profile says of an EK certificate."""
    # B5: EK, certificate and TPM are three statements; a real certificate beside another key
    # would endorse that key.
    if leaf.public_key is None or leaf.public_key != ek.key:
        yield Finding(
            "endorsement.key.mismatch",
            "The EK certificate is for another key than the EK presented.",
        )
    yield from _purpose(leaf)
    if leaf.is_ca:
        yield Finding("endorsement.certificate.is-ca", "The EK certificate is a CA certificate.")
    if leaf.identity is None:
        yield Finding(
            "endorsement.identity.missing",
            "The EK certificate does not name the TPM's manufacturer, model and version.",
        )
    family = leaf.extensions.family
    if family is not None and family != _FAMILY:
        yield Finding(
            "endorsement.family.mismatch",
            "The EK certificate is for a TPM of another specification than TPM 2.0.",
            expected=_FAMILY,
            seen=legible(family, at_most=32),
        )
    yield from weak_key(ek.key)


def _purpose(leaf: Certificate) -> Iterator[Finding]:
    # B10: without it, any certificate under the root, an AK's or a web server's, endorses a TPM.
    purposes = leaf.extensions.extended_key_usage or frozenset()
    if EK_CERTIFICATE_EKU not in purposes:
        yield Finding(
            "endorsement.eku.missing",
            "The certificate was not issued for an endorsement key: its extended key usage lacks"
            " tcg-kp-EKCertificate.",
            expected=EK_CERTIFICATE_EKU,
            seen=", ".join(sorted(purposes)[:8]) or "no extended key usage",
        )
    usage = leaf.extensions.key_usage
    elliptic = not isinstance(leaf.public_key, rsa.RSAPublicKey)
    needed = KeyUsage.KEY_AGREEMENT if elliptic else KeyUsage.KEY_ENCIPHERMENT
    # Google certifies signing keys with the EK's purpose: only the key usage tells them apart.
    if usage is not None and not usage & needed:
        yield Finding(
            "endorsement.key-usage.mismatch",
            "The certificate is for a key that signs, not for an endorsement key that decrypts.",
            expected="key agreement" if elliptic else "key encipherment",
            seen=usage.name or "none of the usages known here",
        )
