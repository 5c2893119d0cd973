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


def der(r: bytes, s: bytes) -> bytes:
    """Return the DER form of a signature.

    Args:
        r: Unsigned, big-endian, of any length below ``MAX_NUMBER`` bytes.
        s: Likewise.
    """
    # Nearly always both are full numbers, without a zero in front.
    body = _HEADS[r[0] >> 7][len(r)] + r if r and r[0] else _integer(r)
    body += _HEADS[s[0] >> 7][len(s)] + s if s and s[0] else _integer(s)
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
    r_end = 4 + signature[3]
    r, s = signature[4:r_end], signature[r_end + 2 :]
    if len(r) != size:
        r = r[-size:].rjust(size, b"\0")
    if len(s) != size:
        s = s[-size:].rjust(size, b"\0")
    return r + s
