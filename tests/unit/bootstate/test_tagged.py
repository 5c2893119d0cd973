"""Tags that boot loaders and the kernel write beside a digest."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate.tagged import Tag, read_tag
from bootlease.eventlog import EventType

EVENT_TAG = EventType.EV_EVENT_TAG


def body(tag: int, data: bytes) -> bytes:
    """TCG_PCClientTaggedEvent."""
    return struct.pack("<II", tag, len(data)) + data


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (body(0x8F3B22EC, b"Linux initrd\0"), (Tag.LINUX_INITRD, "Linux initrd")),
        (body(0x13AED6DB, "1\0".encode("utf-16-le")), (Tag.UKI_PROFILE, "1")),
        (body(0xF5BC582A, b""), (Tag.LOADER_CONF, "")),
        (b"Linux initrd\0", (Tag.LINUX_INITRD, "Linux initrd")),
        (body(0x12345678, b"x"), None),
        (body(0x8F3B22EC, b"Linux initrd\0") + b"\0", None),
        (struct.pack("<II", 0x8F3B22EC, 0xFFFFFFFF), None),
        (b"\xec\x22\x3b", None),
        (b"", None),
    ],
)
def test_tags(raw: bytes, expected: tuple[Tag, str] | None) -> None:
    """A known tag whose size is right is named; kernels without a header are understood."""
    assert read_tag(EVENT_TAG, raw) == expected


def test_only_tagged_events_have_tags() -> None:
    """The same bytes in an event of another type are no tag."""
    assert read_tag(EventType.EV_IPL, body(0x8F3B22EC, b"Linux initrd\0")) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_read(raw: bytes) -> None:
    """No bytes make the reader raise."""
    read_tag(EVENT_TAG, raw)
