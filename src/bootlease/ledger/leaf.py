"""A leaf of the ledger: what one entry of the Merkle tree says.

    [record digest, claims digest / null]

in deterministic CBOR (RFC 8949 §4.2.1); digests are SHA-256. The record digest is that of a
decision record (``record``), of a delegation record (``delegation``) or of a governance record
(``governance``). The claims digest is that of a token's claims: a grant has one leaf for each
token, a delegation has one, a refusal and a governance record have one leaf with null. Leaves hold
digests alone, so publishing the whole tree reveals nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError
from bootlease.ledger.merkle import HASH_SIZE

_HEAD: Final = b"\x82\x58\x20"
_DIGEST: Final = b"\x58\x20"
_NULL: Final = b"\xf6"
_SHORT: Final = len(_HEAD) + HASH_SIZE + len(_NULL)
_LONG: Final = len(_HEAD) + HASH_SIZE + len(_DIGEST) + HASH_SIZE


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf, unverified.

    Attributes:
        record: Digest of a decision, delegation or governance record.
        claims: Digest of the claims of one token that was given, if any.
    """

    record: bytes
    claims: bytes | None


def encode_leaf(record: bytes, claims: bytes | None = None) -> bytes:
    """Return the leaf that says ``record`` and ``claims``.

    Raises:
        ValueError: A digest is not 32 bytes long.
    """
    if len(record) != HASH_SIZE or (claims is not None and len(claims) != HASH_SIZE):
        raise ValueError("a leaf holds digests of 32 bytes")
    if claims is None:
        return _HEAD + record + _NULL
    return b"".join((_HEAD, record, _DIGEST, claims))


def parse_leaf(data: bytes) -> Leaf:
    """Parse a leaf.

    Raises:
        MalformedError: The bytes are no leaf; deterministic encoding leaves only two layouts.
    """
    end = len(_HEAD) + HASH_SIZE
    record, rest = data[len(_HEAD) : end], data[end:]
    if data[: len(_HEAD)] == _HEAD:
        if len(data) == _SHORT and rest == _NULL:
            return Leaf(record, None)
        if len(data) == _LONG and rest[: len(_DIGEST)] == _DIGEST:
            return Leaf(record, rest[len(_DIGEST) :])
    raise MalformedError("a ledger leaf is a record digest, and a claims digest or null")
