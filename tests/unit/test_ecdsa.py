"""The two forms of an ECDSA signature, held against the library's own conversions."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import example, given
from hypothesis import strategies as st

from bootlease import ecdsa

numbers = st.binary(max_size=66)


@given(numbers, numbers)
@example(b"", b"\0\0")
@example(b"\x7f" * 32, b"\x80" * 32)
@example(b"\0" * 31 + b"\x80", b"\xff" * 66)
def test_der_is_what_the_library_writes(r: bytes, s: bytes) -> None:
    """Numbers of any size, with and without zeros in front, have their one DER form."""
    expected = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    assert ecdsa.der(r, s) == expected


@pytest.mark.parametrize("size", [32, 48])
@given(st.data())
def test_fixed_size_numbers_survive_both_forms(size: int, data: st.DataObject) -> None:
    """What the library writes is read back as r and s of full size, also where they are small."""
    small = st.integers(0, 300) | st.integers(0, (1 << 8 * size) - 1)
    r, s = data.draw(small), data.draw(small)
    both = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    written = encode_dss_signature(r, s)
    assert ecdsa.fixed(written, size) == both
    assert decode_dss_signature(ecdsa.der(both[:size], both[size:])) == (r, s)


@pytest.mark.parametrize(
    ("curve", "scheme", "plain", "hasher"),
    [
        (ec.SECP256R1(), ecdsa.SHA256, hashes.SHA256(), hashlib.sha256),
        (ec.SECP384R1(), ecdsa.SHA384, hashes.SHA384(), hashlib.sha384),
        (ec.SECP384R1(), ecdsa.SHA512, hashes.SHA512(), hashlib.sha512),
    ],
)
def test_a_digest_is_signed_as_its_message_is(
    curve: ec.EllipticCurve, scheme: ec.ECDSA, plain: hashes.HashAlgorithm, hasher: object
) -> None:
    """Hashing before signing and verifying changes nothing that another implementation sees."""
    key = ec.derive_private_key(7, curve)
    digest = hasher(b"message").digest()  # type: ignore[operator]  # a hash of hashlib
    key.public_key().verify(key.sign(digest, scheme), b"message", ec.ECDSA(plain))
    key.public_key().verify(key.sign(b"message", ec.ECDSA(plain)), digest, scheme)
