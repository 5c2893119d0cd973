"""Certificates put together byte by byte, with whatever is wrong in them signed.

Specifications: RFC 5280 §4.1; ITU-T X.690. No library writes what vendors have shipped, so what
tests the reading of it is written here.

Deliberately not handled: anything that the tests do not need.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.endorsement import EK_CERTIFICATE_EKU
from bootlease.node.tpm.ek_templates import ek_profiles
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.tpm import (
    EndorsementKey,
    TPMSECCPoint,
    TPMTPublic,
    accept_endorsement_key,
    parse_public,
)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
ECDSA_SHA1: Final = "1.2.840.10045.4.1"
RSA_SHA1: Final = "1.2.840.113549.1.1.5"
RSAES_OAEP: Final = "1.2.840.113549.1.1.7"
MAKE: Final = ("id:53544D20", "ST33HTPH", "id:00490004")
NULL: Final = b"\x05\x00"

_SHORT: Final = 0x80
_FIRST_ARC: Final = 40
_SEVEN_BITS: Final = 0x7F
_TPM_ATTRIBUTES: Final = ("2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3")


def tlv(tag: int, *values: bytes) -> bytes:
    """Return one DER element."""
    value = b"".join(values)
    if len(value) < _SHORT:
        return bytes([tag, len(value)]) + value
    length = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes([tag, _SHORT | len(length)]) + length + value


def sequence(*values: bytes) -> bytes:
    """Return a SEQUENCE."""
    return tlv(0x30, *values)


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    encoded = b""
    for arc in (first * _FIRST_ARC + second, *rest):
        octets = [arc & _SEVEN_BITS]
        while arc := arc >> 7:
            octets.append(arc & _SEVEN_BITS | _SHORT)
        encoded += bytes(reversed(octets))
    return tlv(0x06, encoded)


def integer(value: int) -> bytes:
    """Return an INTEGER."""
    # -128 fits where 128 does not.
    bits = (value if value >= 0 else ~value).bit_length()
    return tlv(0x02, value.to_bytes(bits // 8 + 1, "big", signed=True))


def utf8(text: str, tag: int = 0x0C) -> bytes:
    """Return a UTF8String, or another string type."""
    return tlv(tag, text.encode())


def name(*parts: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a Name of parts, each of attributes in the order given."""
    return sequence(
        *(tlv(0x31, *(sequence(oid(kind), value) for kind, value in part)) for part in parts)
    )


def common_name(text: str) -> bytes:
    """Return a Name that is a common name."""
    return name([("2.5.4.3", utf8(text))])


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """Return an Extension."""
    return sequence(oid(dotted), tlv(0x01, b"\xff") if critical else b"", tlv(0x04, value))


def basic_constraints(*, ca: bool = True, path_length: int | None = None) -> bytes:
    """Return basic constraints."""
    length = b"" if path_length is None else integer(path_length)
    value = sequence(tlv(0x01, b"\xff") if ca else b"", length)
    return extension("2.5.29.19", value, critical=True)


def key_usage(*bits: int) -> bytes:
    """Return a key usage with these bits of RFC 5280 §4.2.1.3."""
    octet = sum(0x80 >> bit for bit in bits)
    unused = 8 if not octet else (octet & -octet).bit_length() - 1
    value = tlv(0x03, b"\0" if unused == 8 else bytes([unused, octet]))  # noqa: PLR2004 - no bit
    return extension("2.5.29.15", value, critical=True)


def extended_key_usage(*dotted: str) -> bytes:
    """Return an extended key usage, the EK's if nothing is given."""
    return extension("2.5.29.37", sequence(*map(oid, dotted or (EK_CERTIFICATE_EKU,))))


def alternative_name(
    make: Sequence[str] = MAKE, *, critical: bool = True, directory: bytes | None = None
) -> bytes:
    """Return a subject alternative name that states a TPM's make, or another directory name."""
    stated = directory or name(
        *([(kind, utf8(text))] for kind, text in zip(_TPM_ATTRIBUTES, make, strict=True))
    )
    return extension("2.5.29.17", sequence(tlv(0xA4, stated)), critical=critical)


def specification(family: str) -> bytes:
    """Return subject directory attributes with the TPM's specification."""
    stated = sequence(utf8(family), integer(0), integer(116))
    return extension("2.5.29.9", sequence(sequence(oid("2.23.133.2.16"), tlv(0x31, stated))))


EK_EXTENSIONS: Final = (
    alternative_name(),
    extended_key_usage(),
    basic_constraints(ca=False),
    key_usage(4),
)
"""What an ECC EK's certificate has."""
CA_EXTENSIONS: Final = (basic_constraints(), key_usage(5, 6))


@dataclass(frozen=True, slots=True)
class Handmade:
    """A certificate to be signed; every part can be another's.

    Attributes:
        key: The certified key.
        issuer: The issuer's Name.
        subject: The subject's Name.
        extensions: Each encoded.
        algorithm: How it says it is signed.
        parameters: The algorithm's parameters, encoded.
        inner_algorithm: What it says within, where that is something else.
        serial: Serial number.
        start: First day of validity.
        end: Last day of validity.
        version: X.509 version, counted from 0.
        key_info: Another SubjectPublicKeyInfo than the key's own.
    """

    key: PublicKey
    issuer: bytes
    subject: bytes = sequence()
    extensions: Sequence[bytes] = EK_EXTENSIONS
    algorithm: str = ECDSA_SHA256
    parameters: bytes = b""
    inner_algorithm: bytes | None = None
    serial: int = 4711
    start: dt.date = dt.date(2020, 1, 1)
    end: dt.date = dt.date(2040, 1, 1)
    version: int = 2
    key_info: bytes | None = None

    def signed(self, signer: PrivateKey) -> bytes:
        """Return the certificate."""
        algorithm = sequence(oid(self.algorithm), self.parameters)
        extensions = tlv(0xA3, sequence(*self.extensions)) if self.extensions else b""
        content = sequence(
            tlv(0xA0, integer(self.version)) if self.version else b"",
            integer(self.serial),
            self.inner_algorithm or algorithm,
            self.issuer,
            sequence(
                *(tlv(0x17, f"{day:%y%m%d}000000Z".encode()) for day in (self.start, self.end))
            ),
            self.subject,
            self.key_info or key_info(self.key),
            extensions,
        )
        signature = _sign(signer, content, self.algorithm)
        return sequence(content, algorithm, tlv(0x03, b"\0", signature))


def key_info(key: PublicKey) -> bytes:
    """Return a key's SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _sign(signer: PrivateKey, content: bytes, algorithm: str) -> bytes:
    weak = algorithm in (ECDSA_SHA1, RSA_SHA1)
    digest: hashes.HashAlgorithm = hashes.SHA1() if weak else hashes.SHA256()  # noqa: S303 - to be refused
    if isinstance(signer, rsa.RSAPrivateKey):
        return signer.sign(content, padding.PKCS1v15(), digest)
    return signer.sign(content, ec.ECDSA(digest))


def endorsement_key(key: PublicKey) -> EndorsementKey:
    """Return a public key as the EK of the TCG's template for it."""
    if isinstance(key, rsa.RSAPublicKey):
        algorithm = EKAlgorithm.RSA_2048
        unique: bytes | TPMSECCPoint = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
    else:
        p256 = isinstance(key.curve, ec.SECP256R1)
        algorithm = EKAlgorithm.ECC_P256 if p256 else EKAlgorithm.ECC_P384
        point, size = key.public_numbers(), (key.key_size + 7) // 8
        unique = TPMSECCPoint(point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big"))
    template = ek_profiles(algorithm)[0].template
    public = TPMTPublic(
        template.name_alg,
        template.object_attributes,
        template.auth_policy,
        template.parameters,
        unique,
    )
    return accept_endorsement_key(parse_public(public.marshal()))
