"""Certificates, read far enough to judge whether they endorse a TPM.

Specifications: RFC 5280 §4.1 (certificates), §4.2 (extensions, see ``extensions``); TCG EK
Credential Profile for TPM Family 2.0 §3; ITU-T X.690 (DER).

Everything is read from the certificate's own bytes, which are the bytes its signature covers:
nothing is repaired and re-encoded (attack B13). About a quarter of the real EK certificates and CAs
break DER or RFC 5280 somewhere; what of it is read all the same has a name each (``tolerance``).

Not handled on purpose: X.509 v2's unique identifiers mean nothing; a CA of version 1 is no CA.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bootlease.endorsement import der
from bootlease.endorsement.der import Element, Reader
from bootlease.endorsement.extensions import Extensions, KeyUsage, parse_extensions
from bootlease.endorsement.make import TPMIdentity
from bootlease.endorsement.names import name_key, shown
from bootlease.endorsement.publickey import (
    EKPublicKey,
    SignatureScheme,
    parse_public_key,
    parse_scheme,
)
from bootlease.endorsement.tolerance import Tolerance, unframed
from bootlease.errors import MalformedError

MAX_CERTIFICATE: Final = 8 * 1024
"""NV indices of EK certificates hold below 4 kB; the largest in the recorded corpus has 2.2 kB."""

EK_CERTIFICATE_EKU: Final = "2.23.133.8.1"
"""tcg-kp-EKCertificate."""

_V3: Final = 2
_MAX_SERIAL: Final = 32
_PEM: Final = re.compile(
    rb"-----BEGIN (CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\s]*+)-----END \1-----"
)
_PEM_BEGIN: Final = re.compile(rb"-----BEGIN (?:CERTIFICATE|X509 CRL)-----")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as presented: well formed, unverified.

    Attributes:
        der: Its bytes, without frame and padding.
        fingerprint: SHA-256 of them.
        signed: The part that the signature covers.
        scheme: How it is signed; ``None`` where that is not known here.
        signature: The signature.
        serial: The serial number's bytes.
        issuer: Who signed it: the Name's DER.
        issuer_name: The same as ``name_key`` has it.
        subject: Whose it is: the Name's DER.
        subject_name: The same as ``name_key`` has it.
        not_before: First second of validity.
        not_after: Last second of validity.
        key_info: The SubjectPublicKeyInfo's DER.
        public_key: The certified key; ``None`` if it is neither RSA nor on a NIST curve.
        extensions: What its extensions say.
        tolerated: What it gets wrong.
    """

    der: bytes
    fingerprint: bytes
    signed: bytes
    scheme: SignatureScheme | None
    signature: bytes
    serial: bytes
    issuer: bytes
    issuer_name: bytes
    subject: bytes
    subject_name: bytes
    not_before: int
    not_after: int
    key_info: bytes
    public_key: EKPublicKey | None
    extensions: Extensions
    tolerated: frozenset[Tolerance]

    @property
    def issuer_id(self) -> bytes:
        """What names this certificate as an issuer: SHA-256 of its subject and key."""
        return hashlib.sha256(self.subject_name + self.key_info).digest()

    @property
    def is_ca(self) -> bool:
        """It may issue certificates."""
        return self.extensions.ca

    @property
    def identity(self) -> TPMIdentity | None:
        """The TPM's make, where the certificate states all of it."""
        return self.extensions.identity

    @property
    def subject_text(self) -> str:
        """The subject, for people."""
        return shown(self.subject)

    @property
    def issuer_text(self) -> str:
        """The issuer, for people."""
        return shown(self.issuer)

    def may(self, usage: KeyUsage) -> bool:
        """Tell whether its key usage is stated and has this bit."""
        stated = self.extensions.key_usage
        return stated is not None and bool(stated & usage)

    def signed_by(self, key: EKPublicKey | None) -> bool:
        """Tell whether this key signed it; over the original bytes (attack B13)."""
        return self.scheme is not None and self.scheme.signed_by(key, self.signature, self.signed)


def parse_certificate(data: bytes) -> Certificate:
    """Parse an X.509 certificate, as DER or as an NV index holds it.

    Args:
        data: Unverified bytes.

    Returns:
        The unverified certificate.

    Raises:
        MalformedError: The bytes are no certificate that this program can read.
    """
    if len(data) > MAX_CERTIFICATE:
        raise MalformedError(f"a certificate of {len(data)} bytes, more than {MAX_CERTIFICATE}")
    encoded, framing = unframed(data)
    tolerated = set(framing)
    outer = der.parse_one(encoded, der.SEQUENCE, "the certificate").inside()
    signed = outer.take(der.SEQUENCE, "the certificate's content")
    algorithm = outer.take(der.SEQUENCE, "the signature algorithm")
    signature = outer.take(der.BIT_STRING, "the signature")
    outer.finish("the certificate")
    return _certificate(encoded, signed, algorithm, signature, tolerated)


def _certificate(
    encoded: bytes,
    signed: Element,
    algorithm: Element,
    signature: Element,
    tolerated: set[Tolerance],
) -> Certificate:
    content = signed.inside()
    version = _version(content)
    serial = content.take(der.INTEGER, "the serial number")
    der.integer(serial, "the serial number")
    if len(serial.value) > _MAX_SERIAL:
        raise MalformedError("a serial number is longer than any")
    # RFC 5280 §4.1.1.2: what nothing signs must say what is signed.
    if content.take(der.SEQUENCE, "the signature algorithm").encoded != algorithm.encoded:
        raise MalformedError("a certificate names two signature algorithms")
    issuer = content.take(der.SEQUENCE, "the issuer")
    validity = content.take(der.SEQUENCE, "the validity").inside()
    not_before = der.time(validity.any("notBefore"), "notBefore")
    not_after = der.time(validity.any("notAfter"), "notAfter")
    validity.finish("the validity")
    subject = content.take(der.SEQUENCE, "the subject")
    key_info = content.take(der.SEQUENCE, "the certified key")
    extensions = _extensions(content, version, tolerated)
    scheme = parse_scheme(algorithm, tolerated, "the signature algorithm")
    return Certificate(
        der=encoded,
        fingerprint=hashlib.sha256(encoded).digest(),
        signed=signed.encoded,
        scheme=scheme,
        signature=der.whole_bytes(signature, "the signature"),
        serial=serial.value,
        issuer=issuer.encoded,
        issuer_name=name_key(issuer, tolerated, "the issuer"),
        subject=subject.encoded,
        subject_name=name_key(subject, tolerated, "the subject"),
        not_before=not_before,
        not_after=not_after,
        key_info=key_info.encoded,
        public_key=parse_public_key(key_info, tolerated),
        extensions=extensions,
        tolerated=frozenset(tolerated),
    )


def _version(content: Reader) -> int:
    stated = content.optional(0xA0, "the version")
    if stated is None:
        return 0
    inner = stated.inside()
    version = der.integer(inner.take(der.INTEGER, "the version"), "the version")
    inner.finish("the version")
    # The default is not written down in DER, and X.509 ends at version 3.
    if not 0 < version <= _V3:
        raise MalformedError("a certificate is of a version that there is not")
    return version


def _extensions(content: Reader, version: int, tolerated: set[Tolerance]) -> Extensions:
    for tag in (0x81, 0x82):
        content.optional(tag, "a unique identifier")
    stated = content.optional(0xA3, "the extensions")
    content.finish("the certificate's content")
    if stated is None:
        return Extensions()
    if version != _V3:
        raise MalformedError("a certificate has extensions and is not of version 3")
    inner = stated.inside()
    listed = inner.take(der.SEQUENCE, "the extensions")
    inner.finish("the extensions")
    return parse_extensions(listed.inside(), tolerated)


def pem_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield label and bytes of each certificate and revocation list of a PEM bundle.

    Text around the blocks is skipped, other kinds of block too.

    Raises:
        MalformedError: A block does not end, or is not base64.
    """
    blocks = list(_PEM.finditer(data))
    if len(blocks) != len(_PEM_BEGIN.findall(data)):
        raise MalformedError("a PEM block does not end, or holds something else than base64")
    for block in blocks:
        try:
            decoded = base64.b64decode(b"".join(block[2].split()), validate=True)
        except binascii.Error as exc:
            raise MalformedError("a PEM block is not base64") from exc
        yield block[1].decode(), decoded


def is_pem(data: bytes) -> bool:
    """Tell whether the bytes hold a PEM block of a certificate or revocation list."""
    return _PEM_BEGIN.search(data) is not None
