"""The reader never passes the end of what it reads."""

from __future__ import annotations

import pytest

from bootlease.errors import MalformedError
from bootlease.tpm.wire import Reader, sized, u16, u32


def test_integers_are_big_endian() -> None:
    """Each width is read in its order and moves on by its size."""
    reader = Reader(bytes(range(1, 8)))
    assert (reader.u8(), reader.u16(), reader.u32()) == (1, 0x0203, 0x04050607)
    reader.finish()
    assert (u16(0x0203), u32(0x04050607)) == (b"\x02\x03", b"\x04\x05\x06\x07")


@pytest.mark.parametrize("size", [3, 4, 1 << 40])
def test_more_bytes_than_there_are_cannot_be_taken(size: int) -> None:
    """A short read is malformed; it never gives fewer bytes."""
    reader = Reader(b"ab")
    with pytest.raises(MalformedError) as caught:
        reader.take(size)
    assert caught.value.offset == 0
    assert reader.take(2) == b"ab"


def test_an_integer_past_the_end_tells_where() -> None:
    """The offset is where reading stopped."""
    reader = Reader(b"\0\0\0")
    assert reader.u16() == 0
    with pytest.raises(MalformedError, match="at byte 2") as caught:
        reader.u16()
    assert caught.value.offset == 2


def test_a_tpm2b_is_bounded_by_its_limit_and_by_what_there_is() -> None:
    """A length counts only if it is within both."""
    assert Reader(sized(b"abc")).sized(3) == b"abc"
    for data, limit in ((sized(b"abc"), 2), (b"\xff\xffabc", 0xFFFF), (b"\0", 9)):
        with pytest.raises(MalformedError):
            Reader(data).sized(limit)


def test_trailing_bytes_are_malformed_unless_taken() -> None:
    """What is left over is either asked for or an error (A19)."""
    reader = Reader(b"ab")
    with pytest.raises(MalformedError, match="2 bytes after"):
        reader.finish()
    assert reader.rest() == b"ab"
    reader.finish()
