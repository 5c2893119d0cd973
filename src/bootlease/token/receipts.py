"""Receipts in a CWT: proof that the ledger holds what the token says.

Specification: RFC 9942 §5 (header parameter ``receipts``, 394). A receipt names the token's
claims, so it is made after them and rides in the unprotected header. It proves something by
its own signature (``bootlease.ledger``), or nothing: a token is no less valid without it.
"""

from __future__ import annotations

from typing import Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.token.cose import parse_sign1
from bootlease.token.verified import MAX_TOKEN_BYTES

RECEIPTS: Final = 394
_NO_HEADER: Final = b"\xa0"
_HEADER: Final = b"\xa1" + cbor.encode(RECEIPTS) + b"\x81"
_SIGN1: Final = b"\xd2\x84"
_MAX_RECEIPTS: Final = 8


def attach_receipt(token: bytes, receipt: bytes) -> bytes:
    """Return the CWT with a receipt in its unprotected header.

    Args:
        token: As ``sign_cwt`` made it, without unprotected header.
        receipt: An encoded COSE receipt.

    Raises:
        ValueError: The token has another form.
    """
    if not token.startswith(_SIGN1):
        raise ValueError("a receipt is attached to a tagged COSE_Sign1")
    _, head = cbor.cut_bytes(token, len(_SIGN1))
    if token[head : head + 1] != _NO_HEADER:
        raise ValueError("the token has an unprotected header already")
    return b"".join((token[:head], _HEADER, cbor.encode_bytes(receipt), token[head + 1 :]))


def receipts_of(token: bytes) -> tuple[bytes, ...]:
    """Return the receipts that a CWT carries, unverified.

    Raises:
        MalformedError: Not a COSE_Sign1, or its ``receipts`` are not an array of bytes.
    """
    receipts = parse_sign1(token, max_bytes=MAX_TOKEN_BYTES).unprotected.get(RECEIPTS, ())
    if (
        not isinstance(receipts, list | tuple)
        or len(receipts) > _MAX_RECEIPTS
        or any(type(receipt) is not bytes for receipt in receipts)
    ):
        raise MalformedError("the token's receipts are not an array of byte strings")
    return tuple(receipts)
