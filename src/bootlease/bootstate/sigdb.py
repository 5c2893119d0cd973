"""Signature databases: PK, KEK, db, dbx, dbt and dbr as certificates and hashes.

Specification: UEFI 2.11 §32.4.1 (EFI_SIGNATURE_LIST, EFI_SIGNATURE_DATA, signature types).

    EFI_SIGNATURE_LIST  GUID type, UINT32 listSize, UINT32 headerSize, UINT32 signatureSize,
                        BYTE header[headerSize], EFI_SIGNATURE_DATA[…]
    EFI_SIGNATURE_DATA  GUID owner, BYTE data[signatureSize - 16]

Certificates are kept as the bytes that were measured; they are read only to name them, so one that
strict readers refuse is kept all the same (attack D24). Nothing here checks a signature: firmware
did that, or policy refuses the certificate.
Not handled: signature types that no machine uses, which are counted by their GUID.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections import Counter
from functools import lru_cache
from typing import Final

from bootlease.bootstate.keyfacts import MeasuredCertificate, SignatureDatabase
from bootlease.bootstate.names import parse_names
from bootlease.errors import MalformedError

CERT_X509: Final = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
CERT_SHA256: Final = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
CERT_X509_SHA256: Final = uuid.UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")

MAX_DATABASE: Final = 1024 * 1024
"""Bytes of a database. The largest recorded dbx has 25 kB; all variables of a PC share 1 MB."""

_LIST: Final = struct.Struct("<16sIII")
_OWNER_SIZE: Final = 16
_SHA256_SIZE: Final = 32
_CACHED_CERTIFICATES: Final = 1024

TEST_KEY_WORDS: Final = ("DO NOT TRUST", "DO NOT SHIP", "SNAKEOIL")
"""What names of keys that must not reach production say (CVE-2024-8105, "PKfail", and the keys
that distributions ship for testing OVMF)."""


def parse_signature_database(value: bytes) -> SignatureDatabase:
    """Parse the value of a signature database; an empty value is an empty database.

    Raises:
        MalformedError: A list's sizes contradict each other or the value, or it is oversized.
    """
    if len(value) > MAX_DATABASE:
        raise MalformedError(f"a signature database of more than {MAX_DATABASE} bytes")
    certificates: dict[bytes, MeasuredCertificate] = {}
    hashes: set[bytes] = set()
    certificate_hashes: set[bytes] = set()
    others: Counter[uuid.UUID] = Counter()
    signatures: set[bytes] = set()
    position = 0
    while position < len(value):
        kind, start, end, size = _list_at(value, position)
        found = [value[at + _OWNER_SIZE : at + size] for at in range(start, end, size)]
        signatures.update(found)
        if kind == CERT_X509:
            certificates.update((der, measured_certificate(der)) for der in found)
        elif kind == CERT_SHA256 and size == _OWNER_SIZE + _SHA256_SIZE:
            hashes.update(found)
        elif kind == CERT_X509_SHA256 and size > _OWNER_SIZE + _SHA256_SIZE:
            # The time of revocation follows the digest.
            certificate_hashes.update(each[:_SHA256_SIZE] for each in found)
        else:
            others[kind] += len(found)
        position = end
    return SignatureDatabase(
        digest=hashlib.sha256(value).digest(),
        certificates=tuple(certificates.values()),
        hashes=frozenset(hashes),
        certificate_hashes=frozenset(certificate_hashes),
        others=tuple(sorted(others.items())),
        signatures=frozenset(signatures),
        test_certificates=tuple(filter(is_test_key, certificates.values())),
        listed=frozenset(hashes | certificate_hashes).union(
            certificate.sha256 for certificate in certificates.values()
        ),
    )


def _list_at(value: bytes, position: int) -> tuple[uuid.UUID, int, int, int]:
    """Return the type of a list, where its signatures start and end, and the size of each."""
    if position + _LIST.size > len(value):
        raise MalformedError("a signature list is truncated", offset=position)
    kind, list_size, header_size, size = _LIST.unpack_from(value, position)
    start, end = position + _LIST.size + header_size, position + list_size
    if end > len(value) or start > end:
        raise MalformedError("a signature list ends beyond its variable", offset=position)
    # A size of 0 would divide by zero, one below the owner's would read nothing (attack D23).
    if size <= _OWNER_SIZE or (end - start) % size:
        raise MalformedError("a signature list is no whole number of signatures", offset=position)
    return uuid.UUID(bytes_le=kind), start, end, size


@lru_cache(maxsize=_CACHED_CERTIFICATES)
def measured_certificate(der: bytes) -> MeasuredCertificate:
    """Return a certificate with its names, where they can be read; never raises."""
    sha256 = hashlib.sha256(der).digest()
    try:
        subject, issuer = parse_names(der)
    except MalformedError:
        return MeasuredCertificate(der, sha256, None, None)
    return MeasuredCertificate(der, sha256, subject, issuer)


def is_test_key(certificate: MeasuredCertificate) -> bool:
    """Tell whether a certificate's own names say that nobody may trust it."""
    names = f"{certificate.subject} {certificate.issuer}".upper()
    return any(words in names for words in TEST_KEY_WORDS)
