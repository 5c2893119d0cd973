"""Secure Boot certificates that come out the same for the same name.

Specifications: RFC 5280; RFC 6979 (deterministic ECDSA).

A reference learned from one boot must fit the next one, in another process too; so keys are
derived from names. They are public knowledge and sign nothing that anybody relies on.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NOT_BEFORE: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER: Final = dt.datetime(2049, 12, 31, tzinfo=dt.UTC)
_SERIAL_BITS: Final = 120


@functools.lru_cache(maxsize=256)
def boot_certificate(common_name: str) -> bytes:
    """Return the self-signed X.509 certificate of ``common_name``, DER."""
    seed = hashlib.sha512(b"bootlease simulated boot key\0" + common_name.encode()).digest()
    key = ec.derive_private_key(int.from_bytes(seed[:31], "big") + 1, ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Simulated boot"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number((int.from_bytes(seed[31:], "big") >> 8) % (1 << _SERIAL_BITS) + 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return certificate.public_bytes(serialization.Encoding.DER)
