"""The text forms of numbers, base64 and hashes: one for each value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.ledger.text import decode_base64, decode_hash, decode_number, encode_base64


@given(st.binary(max_size=80))
def test_base64_survives(data: bytes) -> None:
    """Bytes survive their text form."""
    assert decode_base64(encode_base64(data)) == data


@given(st.binary(max_size=80) | st.text("AQgw=+/ \n", max_size=12).map(str.encode))
def test_base64_has_one_form(text: bytes) -> None:
    """What decodes encodes to the same text; all else is malformed."""
    try:
        assert encode_base64(decode_base64(text)) == text
    except MalformedError:
        return


@pytest.mark.parametrize(
    "text", [b"QQ", b"QQ=", b"QR==", b"QQ==\n", b" QQ==", b"QQ==QQ==", b"-_=="]
)
def test_other_spellings_are_refused(text: bytes) -> None:
    """Missing or stray padding, white space, the other alphabet and unused bits are refused."""
    with pytest.raises(MalformedError):
        decode_base64(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_hash_has_32_bytes(size: int) -> None:
    """Base64 of another length is no hash."""
    with pytest.raises(MalformedError):
        decode_hash(encode_base64(bytes(size)))


@given(st.integers(0, (1 << 63) - 1))
def test_numbers_survive(number: int) -> None:
    """A number survives its text form."""
    assert decode_number(b"%d" % number) == number


@pytest.mark.parametrize(
    "text", [b"", b"01", b"00", b"+1", b"-1", b"1_0", b" 1", b"1\n", b"\xb2", b"%d" % (1 << 63)]
)
def test_other_numbers_are_refused(text: bytes) -> None:
    """Signs, leading zeroes, separators, white space, other digits and 64 bits are refused."""
    with pytest.raises(MalformedError):
        decode_number(text)


@given(st.binary(max_size=24))
def test_numbers_have_one_form(text: bytes) -> None:
    """What decodes is written the same; all else is malformed."""
    try:
        assert b"%d" % decode_number(text) == text
    except MalformedError:
        return
