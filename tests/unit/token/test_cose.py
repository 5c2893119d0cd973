"""The short layouts of a COSE_Sign1 beside the general decoder: one grammar, two parsers."""

from __future__ import annotations

import pytest

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.token.cose import Sign1, parse_sign1

MAX = 16 * 1024


def head(major: int, length: int, size: int) -> bytes:
    """Return the head of a string, its length in ``size`` bytes, be that the fewest or not."""
    return bytes((major << 5 | {1: 24, 2: 25}[size],)) + length.to_bytes(size, "big")


def string(length: int, size: int = 2, major: int = 2) -> bytes:
    """Return a string of zeros under such a head: bytes, or with ``major`` 3 text."""
    return head(major, length, size) + bytes(length)


def message(
    protected: bytes, payload: bytes, receipt: bytes | None = None, signature: bytes = string(64, 1)
) -> bytes:
    """Return a tagged COSE_Sign1 of these encoded parts."""
    outside = b"\xa0" if receipt is None else b"\xa1\x19\x01\x8a\x81" + receipt
    return b"".join((b"\xd2\x84", protected, outside, payload, signature))


def by_the_general_decoder(data: bytes) -> Sign1 | None:
    """Return what the codec makes of a message; None where it refuses it."""
    try:
        fields = cbor.decode(data[1:], max_bytes=MAX)
    except MalformedError:
        return None
    types = [type(field) for field in fields]
    return Sign1(*fields) if types == [bytes, dict, bytes, bytes] else None


PROTECTED, PAYLOAD, RECEIPT = string(100, 1), string(300), string(300)

LAYOUTS = {
    "plain": message(PROTECTED, PAYLOAD),
    "with a receipt": message(PROTECTED, PAYLOAD, RECEIPT),
    "shortest": message(string(24, 1), string(256)),
    "shortest with a receipt": message(string(24, 1), string(256), string(256)),
    "longest header": message(string(255, 1), PAYLOAD),
    "text for the receipt": message(PROTECTED, PAYLOAD, string(300, major=3)),
}

OTHER_HEADS = {
    "receipt of a shorter head": message(PROTECTED, PAYLOAD, string(255)),
    "payload of a shorter head": message(PROTECTED, string(255)),
    "payload of a shorter head, with a receipt": message(PROTECTED, string(255), RECEIPT),
    "header of a shorter head": message(string(23, 1), PAYLOAD),
    "header of a shorter head, with a receipt": message(string(23, 1), PAYLOAD, RECEIPT),
    "text for the payload": message(PROTECTED, string(300, major=3)),
    "text for the payload, with a receipt": message(PROTECTED, string(300, major=3), RECEIPT),
    "text for the signature": message(PROTECTED, PAYLOAD, None, string(64, 1, major=3)),
    "a byte behind": message(PROTECTED, PAYLOAD) + b"\0",
    "a byte behind, with a receipt": message(PROTECTED, PAYLOAD, RECEIPT) + b"\0",
    "a byte too few": message(PROTECTED, PAYLOAD)[:-1],
    "nothing behind the tag": b"\xd2\x84\x58",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_parses_as_the_general_decoder_says(name: str) -> None:
    """Being fast changes nothing in what a token says."""
    parsed = by_the_general_decoder(LAYOUTS[name])
    assert parsed is not None
    assert parse_sign1(LAYOUTS[name], max_bytes=MAX) == parsed


@pytest.mark.parametrize("name", OTHER_HEADS)
def test_what_the_general_decoder_refuses_is_malformed(name: str) -> None:
    """One token has one spelling: no head longer than it must be, no text for bytes."""
    assert by_the_general_decoder(OTHER_HEADS[name]) is None
    with pytest.raises(MalformedError):
        parse_sign1(OTHER_HEADS[name], max_bytes=MAX)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_bounded(name: str) -> None:
    """A token longer than its reader takes is refused, whichever way it would be parsed."""
    data = LAYOUTS[name]
    with pytest.raises(MalformedError):
        parse_sign1(data, max_bytes=len(data) - 2)
