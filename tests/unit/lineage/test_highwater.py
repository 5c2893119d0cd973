"""The high-water mark of a TPM's counters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.lineage import HighWaterMark
from bootlease.model import ClockInfo

MARKS = st.builds(
    HighWaterMark,
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 64) - 1),
)


def test_a_later_boot_is_further_whatever_its_clock() -> None:
    """Resets come before restarts, and restarts before the clock."""
    assert (
        HighWaterMark() < HighWaterMark(0, 0, 1) < HighWaterMark(0, 1, 0) < HighWaterMark(1, 0, 0)
    )


def test_a_mark_is_where_the_counters_stand() -> None:
    """That a clock calls itself safe is no counter."""
    assert HighWaterMark.of(ClockInfo(7, 2, 3, safe=False)) == HighWaterMark(2, 3, 7)


@given(MARKS, MARKS)
def test_encoded_marks_compare_as_marks_do(one: HighWaterMark, other: HighWaterMark) -> None:
    """The database compares bytes."""
    assert (one < other) == (one.encode() < other.encode())
    assert HighWaterMark.parse(one.encode()) == one


@given(st.binary(max_size=40).filter(lambda data: len(data) != 16))
def test_bytes_of_another_length_are_malformed(data: bytes) -> None:
    """A mark has 16 bytes."""
    with pytest.raises(MalformedError):
        HighWaterMark.parse(data)
