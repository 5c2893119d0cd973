"""Subject and issuer of certificates, read for showing them."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate.names import parse_names
from bootlease.errors import MalformedError
from bootlease.testing.boot_certificates import boot_certificate

VENDOR = boot_certificate("Vendor CA")
KEY = ec.derive_private_key(7, ec.SECP256R1())


def element(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    value = b"".join(parts)
    size = len(value)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + value


def name(*attributes: bytes) -> bytes:
    """A Name with one attribute in each relative name."""
    return element(0x30, *(element(0x31, attribute) for attribute in attributes))


def attribute(oid: bytes, tag: int, value: bytes) -> bytes:
    """One attribute of a name."""
    return element(0x30, element(0x06, oid), element(tag, value))


COMMON_NAME = b"\x55\x04\x03"


def certificate(subject: bytes, serial: bytes = b"\x01") -> bytes:
    """The skeleton of a certificate of version 1."""
    none = element(0x30)
    return element(
        0x30, element(0x30, element(0x02, serial), none, name(), none, subject, none), none
    )


def test_agrees_with_a_library() -> None:
    """For a sound certificate, the names are those that a library of X.509 gives."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Ä, B+C="D"; <E>'),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.org"),
            x509.NameAttribute(NameOID.COMMON_NAME, "#first and last "),
        ]
    )
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root")])
    der = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2034, 1, 1, tzinfo=dt.UTC))
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    assert parse_names(der) == (subject.rfc4514_string(), issuer.rfc4514_string())


@pytest.mark.parametrize("serial", [b"\x00", b"\xff"])
def test_what_strict_readers_refuse(serial: bytes) -> None:
    """A serial number of zero, or below, takes no name away (D24)."""
    subject = name(attribute(COMMON_NAME, 0x0C, b"Odd"))
    assert parse_names(certificate(subject, serial)) == ("CN=Odd", "")


@pytest.mark.parametrize(
    ("tag", "value", "text"),
    [
        (0x13, b"Plain", "Plain"),
        (0x1E, "Wide".encode("utf-16-be"), "Wide"),
        (0x0C, b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (0x03, b"\x00\x01", "#0001"),
        (0x0C, b"a\0b", "a\\00b"),
    ],
)
def test_kinds_of_strings(tag: int, value: bytes, text: str) -> None:
    """Every kind of string has a text; what is no string is shown in hex."""
    der = certificate(name(attribute(COMMON_NAME, tag, value)))
    assert parse_names(der)[0] == f"CN={text}"


def test_bounds() -> None:
    """A name of very many attributes is malformed, a long one is cut."""
    with pytest.raises(MalformedError, match="attributes"):
        parse_names(certificate(name(*[attribute(COMMON_NAME, 0x0C, b"x")] * 65)))
    long = parse_names(certificate(name(attribute(COMMON_NAME, 0x0C, b"x" * 5000))))[0]
    assert len(long) == 1024


@given(st.integers(0, len(VENDOR) - 1), st.integers(0, 255), st.booleans())
def test_any_bytes_have_names_or_are_malformed(at: int, byte: int, cut: bool) -> None:  # noqa: FBT001 - drawn
    """A certificate with a byte changed, or cut, gives names or is malformed."""
    der = VENDOR[:at] if cut else VENDOR[:at] + bytes([byte]) + VENDOR[at + 1 :]
    try:
        parse_names(der)
    except MalformedError:
        return


def test_a_certificate_stands_alone() -> None:
    """Bytes behind a certificate are no part of it."""
    with pytest.raises(MalformedError, match="behind"):
        parse_names(VENDOR + b"\0")
