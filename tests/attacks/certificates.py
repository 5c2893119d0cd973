"""EK certificates as vendors should not have made them, and as attackers would.

What a library would not build is put together from DER here: the malformed certificates of real
TPMs, each with the one deviation that a test is about, rightly signed over the bytes as they are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bootlease.testing.local_ca import (
    EK_CERTIFICATE_EKU,
    TPM_MANUFACTURER,
    TPM_MODEL,
    TPM_VERSION,
    LocalCA,
)

AK_CERTIFICATE_EKU: Final = x509.ObjectIdentifier("2.23.133.8.3")
SERVER_AUTH_EKU: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")
SAN_OID: Final = x509.ObjectIdentifier("2.5.29.17")
RSAES_OAEP: Final = bytes.fromhex("06092a864886f70d010107")

Builder = x509.CertificateBuilder
Alter = Callable[[Builder], Builder]

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_BIT_STRING: Final = 0x03
_UTF8: Final = 0x0C
_DIRECTORY_NAME: Final = 0xA4


def element(tag: int, *parts: bytes) -> bytes:
    """Return one DER element around ``parts``."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def elements(data: bytes) -> list[bytes]:
    """Return the elements within one DER element."""
    found, at = [], _content(data, 0)[0]
    while at < len(data):
        end = sum(_content(data, at))
        found.append(data[at:end])
        at = end
    return found


def _content(data: bytes, at: int) -> tuple[int, int]:
    size = data[at + 1]
    if size < 0x80:
        return at + 2, size
    start = at + 2 + (size & 0x7F)
    return start, int.from_bytes(data[at + 2 : start], "big")


def name_attribute(oid: x509.ObjectIdentifier, text: str) -> bytes:
    """Return an AttributeTypeAndValue."""
    body = [int(part) for part in oid.dotted_string.split(".")]
    encoded = bytes([body[0] * 40 + body[1]])
    for part in body[2:]:
        groups = [part & 0x7F]
        while part := part >> 7:
            groups.insert(0, 0x80 | part & 0x7F)
        encoded += bytes(groups)
    return element(_SEQUENCE, element(0x06, encoded), element(_UTF8, text.encode()))


def make_san(*, in_order: bool = True) -> bytes:
    """Return a subjectAltName with the make in one SET, sorted as DER demands or the other way."""
    attributes = [
        name_attribute(oid, text)
        for oid, text in (
            (TPM_MANUFACTURER, "id:00001014"),
            (TPM_MODEL, "swtpm"),
            (TPM_VERSION, "id:20191023"),
        )
    ]
    ordered = sorted(attributes, reverse=not in_order)
    name = element(_SEQUENCE, element(_SET, *ordered))
    return element(_SEQUENCE, element(_DIRECTORY_NAME, name))


def ek_certificate(
    ca: LocalCA,
    public_key: Any,
    *,
    alter: Alter = lambda builder: builder,
    san: bytes | None = None,
    eku: x509.ObjectIdentifier = EK_CERTIFICATE_EKU,
    key: Any = None,
    issuer: x509.Name | None = None,
) -> bytes:
    """Return an EK certificate, DER.

    Args:
        ca: Issues it.
        public_key: What it certifies.
        alter: Changes it before it is signed.
        san: Its subjectAltName, encoded.
        eku: Its extended key usage.
        key: Signs it in place of the CA's intermediate.
        issuer: Who is said to have issued it.
    """
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    is_ecc = isinstance(public_key, ec.EllipticCurvePublicKey)
    builder = (
        Builder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer or ca.intermediate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.UnrecognizedExtension(SAN_OID, san or make_san()), critical=True)
        .add_extension(x509.ExtendedKeyUsage([eku]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(agreement=is_ecc, encipherment=not is_ecc), critical=True)
    )
    certificate = alter(builder).sign(key or ca.intermediate_key, hashes.SHA256())
    return certificate.public_bytes(Encoding.DER)


def key_usage(
    *, agreement: bool = False, encipherment: bool = False, cert_sign: bool = False
) -> x509.KeyUsage:
    """Return a key usage."""
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=agreement,
        key_cert_sign=cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def ca_certificate(
    subject: str,
    public_key: Any,
    issuer: x509.Name,
    issuer_key: Any,
    *,
    ca: bool = True,
    path_length: int | None = None,
    cert_sign: bool = True,
    days: tuple[int, int] = (-1, 365),
) -> x509.Certificate:
    """Return an intermediate certificate."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    begin, end = (now + dt.timedelta(days=day) for day in days)
    return (
        Builder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(
            x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True
        )
        .add_extension(key_usage(cert_sign=cert_sign, agreement=not cert_sign), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def signed_again(certificate: bytes, tbs: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate around another to-be-signed part, signed by ``key``."""
    algorithm = elements(certificate)[1]
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return element(_SEQUENCE, tbs, algorithm, element(_BIT_STRING, b"\0", signature))


def with_oaep_key(certificate: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return an RSA certificate whose key is said to be one for RSAES-OAEP (STM, Nuvoton)."""
    tbs = elements(certificate)[0]
    members = elements(tbs)
    place = 6
    algorithm, bits = elements(members[place])
    assert bytes.fromhex("2a864886f70d010101") in algorithm
    members[place] = element(_SEQUENCE, element(_SEQUENCE, RSAES_OAEP, b"\x30\0"), bits)
    return signed_again(certificate, element(_SEQUENCE, *members), key)


def in_nv_frame(certificate: bytes) -> bytes:
    """Return a certificate as old TPMs hold it: TCG_PCCLIENT_STORED_CERT, then filled up."""
    size = (len(certificate) + 2).to_bytes(2, "big")
    return b"\x10\x01\0" + size + b"\x10\x02" + certificate
