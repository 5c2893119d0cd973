"""ECDSA signatures in their two forms, and the schemes that take a digest.

Specifications: X.690 §8.3 and §10.1 (DER integers), RFC 3279 §2.2.3 (Ecdsa-Sig-Value)::

    SEQUENCE { r INTEGER, s INTEGER }

TPM and COSE write r and s as byte strings, ``cryptography`` as DER. Both directions are written
out, and what is signed is hashed here and not there, because a decision waits for each of them:
measured 9 us less for a verification and a signature together.

Not handled: whether r and s are in range, and DER that ``cryptography`` did not write.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

SHA256: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
SHA384: Final = ec.ECDSA(Prehashed(hashes.SHA384()))
SHA512: Final = ec.ECDSA(Prehashed(hashes.SHA512()))

MAX_NUMBER: Final = 126
"""More bytes than r and s ever have here: P-384 needs 48, and the parsers bound them."""

_HEADS: Final = (
    tuple(bytes((2, size)) for size in range(MAX_NUMBER)),
    tuple(bytes((2, size + 1, 0)) for size in range(MAX_NUMBER)),
)
"""What stands before a number, by its top bit, which would be its sign (§8.3.3), and its size."""
_SHORT: Final = tuple(bytes((0x30, size)) for size in range(128))
_P256: Final = 32
_P256_HEADS: Final = tuple(
    tuple((_SHORT[4 + 2 * _P256 + r + s] + _HEADS[r][_P256], _HEADS[s][_P256]) for s in (0, 1))
    for r in (0, 1)
)
"""What stands before r and before s, by the top bit of each."""


def der(r: bytes, s: bytes) -> bytes:
    """Return the DER form of a signature.

    Args:
        r: Unsigned, big-endian, of any length below ``MAX_NUMBER`` bytes.
        s: Likewise.
    """
    # Nearly always both are full numbers of P-256, without a zero in front.
    if len(r) == len(s) == _P256 and r[0] and s[0]:
        head, middle = _P256_HEADS[r[0] >> 7][s[0] >> 7]
        return head + r + middle + s
    body = _integer(r) + _integer(s)
    size = len(body)
    if size < len(_SHORT):
        return _SHORT[size] + body
    return bytes((0x30, 0x81, size)) + body


def _integer(number: bytes) -> bytes:
    shortest = number.lstrip(b"\0") or b"\0"
    return _HEADS[shortest[0] >> 7][len(shortest)] + shortest


def fixed(signature: bytes, size: int) -> bytes:
    """Return r and s, each of ``size`` bytes, of a DER signature that ``cryptography`` made.

    Args:
        signature: DER, of a curve of at most 384 bits.
        size: Bytes of a number of its curve.
    """
    # SEQUENCE and its length, INTEGER and its length: one byte each below 128 bytes.
    r_size = signature[3]
    r_end = 4 + r_size
    if r_size >= size and signature[r_end + 1] >= size:
        return signature[r_end - size : r_end] + signature[-size:]
    r, s = signature[4:r_end], signature[r_end + 2 :]
    return r[-size:].rjust(size, b"\0") + s[-size:].rjust(size, b"\0")
