"""The text forms that C2SP's documents share: numbers, base64, hashes.

Specifications: C2SP signed-note, tlog-checkpoint and tlog-proof, which take base64 from RFC 4648 §4
and write numbers in decimal without leading zeroes.

One value has one text form. What is signed is the text, so a second spelling of a number or of
a hash would be a second document that says the same.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Final

from bootlease.errors import MalformedError
from bootlease.ledger.merkle import HASH_SIZE

_MAX_DIGITS: Final = 19
"""Of 2 ** 63 - 1; also bounds what ``int`` is given to do."""
_HASH_TEXT: Final = 44


def encode_base64(data: bytes) -> bytes:
    """Return ``data`` as base64 with padding."""
    return b2a_base64(data, newline=False)


def decode_base64(text: bytes) -> bytes:
    """Decode base64; ``encode_base64(decode_base64(text)) == text`` for all that is accepted.

    Raises:
        MalformedError: ``text`` is not base64 in its only form.
    """
    try:
        data = a2b_base64(text, strict_mode=True)
    except Base64Error as exc:
        raise MalformedError("text is not base64") from exc
    if b2a_base64(data, newline=False) != text:
        raise MalformedError("base64 text ends in bits that encode nothing")
    return data


def decode_hash(text: bytes) -> bytes:
    """Decode the base64 of one hash.

    Raises:
        MalformedError: It is not the base64 of 32 bytes.
    """
    data = decode_base64(text) if len(text) == _HASH_TEXT else b""
    if len(data) != HASH_SIZE:
        raise MalformedError("a hash is the base64 of 32 bytes")
    return data


def decode_number(text: bytes) -> int:
    """Decode a decimal number of at most 63 bits.

    Raises:
        MalformedError: It has a sign, a leading zero or another character, or is too large.
    """
    if (
        not 0 < len(text) <= _MAX_DIGITS
        or not text.isdigit()
        or (text[:1] == b"0" and text != b"0")
    ):
        raise MalformedError("a number is written in decimal digits, without leading zeroes")
    number = int(text)
    if number >= 1 << 63:
        raise MalformedError("a number has at most 63 bits")
    return number
