"""EK certificates, read far enough to judge them.

Specifications: RFC 5280; TCG EK Credential Profile for TPM 2.0 2.6 §3 (EKU, subject alternative
name with the TPM's manufacturer, model and version, empty subject); TCG Vendor ID Registry.

Everything is read from the certificate's own bytes, which are the bytes its signature covers:
nothing is repaired and re-encoded (attack B13).

Not handled on purpose: DER that X.690 forbids, keys named RSAES-OAEP, and the framing that some
vendors leave around a certificate in NV memory. Such a certificate is malformed here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootlease.errors import MalformedError

MAX_CERTIFICATE: Final = 8 * 1024
"""NV indices of EK certificates hold below 4 kB; the largest in the recorded corpus has 2.2 kB."""

EK_CERTIFICATE_EKU: Final = x509.ObjectIdentifier("2.23.133.8.1")
"""tcg-kp-EKCertificate."""

_MANUFACTURER: Final = x509.ObjectIdentifier("2.23.133.2.1")
_MODEL: Final = x509.ObjectIdentifier("2.23.133.2.2")
_VERSION: Final = x509.ObjectIdentifier("2.23.133.2.3")
_MAX_ATTRIBUTE: Final = 128

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""All that ``cryptography`` raises for bytes it cannot read as a certificate."""

EKPublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class TPMIdentity:
    """What a certificate says of the TPM's make (EK Credential Profile §3.1.2).

    Attributes:
        manufacturer: Vendor id as registered, for example ``id:53544D20`` for STMicroelectronics.
        model: The vendor's part name.
        version: Firmware version, for example ``id:00490004``.
    """

    manufacturer: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as presented: well formed, unverified.

    Attributes:
        parsed: As ``cryptography`` has it.
        fingerprint: SHA-256 of its DER.
        public_key: The certified key; ``None`` if it is neither RSA nor ECC.
        identity: The TPM's make, ``None`` where the certificate does not state all of it.
        extended_key_usage: Purposes it is good for.
        is_ca: It may issue certificates.
        not_before: First second of validity.
        not_after: Last second of validity.
    """

    parsed: x509.Certificate
    fingerprint: bytes
    public_key: EKPublicKey | None
    identity: TPMIdentity | None
    extended_key_usage: frozenset[x509.ObjectIdentifier]
    is_ca: bool
    not_before: int
    not_after: int


def parse_certificate(der: bytes) -> Certificate:
    """Parse an X.509 certificate.

    Args:
        der: Unverified bytes.

    Returns:
        The unverified certificate.

    Raises:
        MalformedError: The bytes are no certificate that this program can read.
    """
    if len(der) > MAX_CERTIFICATE:
        raise MalformedError(f"a certificate of {len(der)} bytes, more than {MAX_CERTIFICATE}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Every signature is whole bytes. The library skips unused bits of the BIT STRING that are
        # zero, so one certificate would have several forms; nothing signs the count of them.
        if der[: -len(certificate.signature)][-1:] != b"\0":
            raise MalformedError("a certificate does not end in a signature of whole bytes")
        key = certificate.public_key()
        extensions = certificate.extensions
        return Certificate(
            parsed=certificate,
            fingerprint=hashlib.sha256(der).digest(),
            public_key=key
            if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
            else None,
            identity=_identity(extensions),
            extended_key_usage=_extended_key_usage(extensions),
            is_ca=_is_ca(extensions),
            not_before=int(certificate.not_valid_before_utc.timestamp()),
            not_after=int(certificate.not_valid_after_utc.timestamp()),
        )
    except _UNREADABLE as exc:
        raise MalformedError(f"a certificate does not parse: {_reason(exc)}") from exc


def _reason(exc: BaseException) -> str:
    text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return "".join(char for char in text if char.isprintable())[:160]


def _identity(extensions: x509.Extensions) -> TPMIdentity | None:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    for name in names.get_values_for_type(x509.DirectoryName):
        values = [_attribute(name, oid) for oid in (_MANUFACTURER, _MODEL, _VERSION)]
        manufacturer, model, version = values
        if manufacturer is not None and model is not None and version is not None:
            return TPMIdentity(manufacturer, model, version)
    return None


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    # Two values for one attribute would leave the choice to the reader: that states nothing.
    found = name.get_attributes_for_oid(oid)
    if len(found) != 1:
        return None
    value = found[0].value
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ATTRIBUTE:
        return None
    return value if value.isprintable() else None


def _extended_key_usage(extensions: x509.Extensions) -> frozenset[x509.ObjectIdentifier]:
    try:
        return frozenset(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return frozenset()


def _is_ca(extensions: x509.Extensions) -> bool:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
