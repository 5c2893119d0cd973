"""Signature databases as certificates and hashes."""

from __future__ import annotations

import hashlib
import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate.sigdb import (
    CERT_SHA256,
    CERT_X509_SHA256,
    MAX_DATABASE,
    parse_signature_database,
)
from bootlease.errors import MalformedError
from bootlease.testing import efi
from bootlease.testing.boot_certificates import boot_certificate

VENDOR = boot_certificate("Vendor CA")
UNHEARD = uuid.UUID("11111111-2222-3333-4444-555555555555")


def signature_list(kind: uuid.UUID, *contents: bytes, header: bytes = b"") -> bytes:
    """An EFI_SIGNATURE_LIST of any type."""
    body = b"".join(efi.signature_data(content) for content in contents)
    size = len(body) // len(contents)
    total = 28 + len(header) + len(body)
    return kind.bytes_le + struct.pack("<III", total, len(header), size) + header + body


def test_certificates_and_hashes() -> None:
    """Lists of several types share a database; a signature given twice counts once."""
    value = (
        efi.x509_signature_list(VENDOR)
        + efi.x509_signature_list(VENDOR)
        + efi.sha256_signature_list([b"a" * 32, b"b" * 32])
        + signature_list(CERT_X509_SHA256, b"t" * 32 + bytes(16))
        + signature_list(UNHEARD, b"1", b"2", header=b"header")
    )
    database = parse_signature_database(value)
    (certificate,) = database.certificates
    assert certificate.der == VENDOR
    assert certificate.sha256 == hashlib.sha256(VENDOR).digest()
    assert certificate.subject == certificate.issuer == "CN=Vendor CA,O=Simulated boot"
    assert database.hashes == {b"a" * 32, b"b" * 32}
    assert database.certificate_hashes == {b"t" * 32}
    assert database.others == ((UNHEARD, 2),)
    assert {VENDOR, b"a" * 32, b"1"} <= database.signatures
    assert database.digest == hashlib.sha256(value).digest()
    assert not database.empty


def test_an_empty_variable_is_an_empty_database() -> None:
    """A variable that does not exist is measured without data."""
    assert parse_signature_database(b"").empty


def test_bytes_that_are_no_certificate_are_kept() -> None:
    """What a list calls a certificate is kept by its bytes, unnamed."""
    (certificate,) = parse_signature_database(efi.x509_signature_list(b"no DER")).certificates
    assert (certificate.der, certificate.subject) == (b"no DER", None)


@pytest.mark.parametrize(
    "value",
    [
        b"\0" * 27,
        CERT_SHA256.bytes_le + struct.pack("<III", 28 + 48, 0, 0) + bytes(48),
        CERT_SHA256.bytes_le + struct.pack("<III", 28 + 48, 0, 16) + bytes(48),
        CERT_SHA256.bytes_le + struct.pack("<III", 28 + 48, 0, 47) + bytes(48),
        CERT_SHA256.bytes_le + struct.pack("<III", 28 + 49, 0, 48) + bytes(48),
        CERT_SHA256.bytes_le + struct.pack("<III", 27, 0, 48) + bytes(48),
        CERT_SHA256.bytes_le + struct.pack("<III", 28 + 48, 2**32 - 1, 48) + bytes(48),
        CERT_SHA256.bytes_le + struct.pack("<III", 0, 0, 48) + bytes(48),
        CERT_SHA256.bytes_le + struct.pack("<III", 0, 0, 28) + bytes(48),
    ],
    ids=[
        "truncated",
        "signature-size-zero",
        "no-room-for-a-signature",
        "no-whole-number",
        "beyond-the-variable",
        "smaller-than-its-header",
        "huge-header",
        "list-size-zero",
        "never-ending",
    ],
)
def test_malformed_lists(value: bytes) -> None:
    """Sizes that contradict each other are refused, not followed (D23)."""
    with pytest.raises(MalformedError):
        parse_signature_database(value)


def test_an_oversized_database() -> None:
    """No variable store holds a megabyte of keys."""
    with pytest.raises(MalformedError, match="more than"):
        parse_signature_database(bytes(MAX_DATABASE + 1))


def test_keys_for_tests_are_told_by_their_names() -> None:
    """Names that say so, in any case, mark a key as one for tests."""
    leaked = boot_certificate("do not ship - Test PK")
    value = efi.x509_signature_list(VENDOR) + efi.x509_signature_list(leaked)
    (found,) = parse_signature_database(value).test_certificates
    assert found.der == leaked


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(raw: bytes) -> None:
    """Bytes are a database or malformed, never another error."""
    for value in (raw, efi.x509_signature_list(VENDOR)[: len(raw)] + raw):
        try:
            parse_signature_database(value)
        except MalformedError:
            continue
