"""Records of Windows' boot log, of any shape."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate.sipa import (
    LOADED_MODULE,
    MAX_DEPTH,
    SIPAReader,
    fields_of,
    is_container_start,
    is_sipa_container,
)

BOUNDARY = 0x40010001


def sipa(kind: int, data: bytes) -> bytes:
    """A SIPA event."""
    return struct.pack("<II", kind, len(data)) + data


def read(data: bytes, budget: int = 1000) -> list[tuple[int, bytes | None]]:
    """All events of a container."""
    return list(SIPAReader(budget).events(data))


def test_events_of_a_container() -> None:
    """Containers are opened, modules are not, and the order is kept."""
    module = sipa(0x70001, b"x")
    inner = sipa(BOUNDARY, sipa(2, b"b") + sipa(3, b""))
    data = sipa(BOUNDARY, sipa(1, b"a") + inner + sipa(LOADED_MODULE, module) + sipa(4, b"d"))
    assert read(data) == [(1, b"a"), (2, b"b"), (3, b""), (LOADED_MODULE, module), (4, b"d")]


def test_events_that_were_not_measured_are_skipped() -> None:
    """TrustPoint's quote and its like are flagged as not measured and never come out."""
    trust_point = sipa(0xC0010004, sipa(0x80080001, b"quote"))
    assert read(sipa(BOUNDARY, trust_point + sipa(0x80000005, b"x") + sipa(1, b"a"))) == [(1, b"a")]


@pytest.mark.parametrize(
    "data",
    [
        sipa(BOUNDARY, sipa(1, b"a"))[:-1],
        sipa(BOUNDARY, sipa(1, b"a") + b"\0\0\0"),
        sipa(BOUNDARY, sipa(1, b"a") + struct.pack("<II", 2, 0xFFFFFFFF)),
        struct.pack("<II", BOUNDARY, 0xFFFFFFFF),
        b"\1\0\1",
    ],
)
def test_impossible_lengths_end_the_reading(data: bytes) -> None:
    """What reaches beyond its container is said not to be readable, and nothing follows."""
    events = read(data)
    assert events[-1] == (0, None)
    assert None not in [value for _, value in events[:-1]]


@pytest.mark.parametrize(("depth", "readable"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_depth_is_bounded(depth: int, readable: bool) -> None:  # noqa: FBT001 - as given
    """Containers within containers are followed as far as Windows goes and a little further."""
    data = sipa(1, b"a")
    for _ in range(depth):
        data = sipa(BOUNDARY, data)
    assert read(data) == ([(1, b"a")] if readable else [(0, None)])


@pytest.mark.parametrize("kind", [1, BOUNDARY, 0x40010002])
def test_a_flood_of_headers_costs_little(kind: int) -> None:
    """Sixteen MiB of headers, side by side or nested, end at once (attack C15)."""
    count = 2 * 1024 * 1024
    flat = struct.pack("<II", kind, 0) * count
    nested = b"".join(struct.pack("<II", kind, 8 * left) for left in range(2000, 0, -1))
    started = time.perf_counter()
    for data in (flat, nested):
        events = read(data, budget=20_000)
        assert events == [] or len(events) <= 20_001
    assert time.perf_counter() - started < 1


def test_a_budget_is_for_all_containers() -> None:
    """The budget counts over all events of a log."""
    reader = SIPAReader(3)
    assert list(reader.events(sipa(BOUNDARY, sipa(1, b"")))) == [(1, b"")]
    assert list(reader.events(sipa(BOUNDARY, sipa(1, b"")))) == [(0, None)]


def test_fields_of_a_module() -> None:
    """A field that is given twice counts once; what is cut off does not count."""
    data = sipa(1, b"a") + sipa(1, b"b") + sipa(2, b"c") + sipa(3, b"d")[:-1]
    assert fields_of(data) == {1: b"a", 2: b"c"}


@pytest.mark.parametrize(
    ("data", "is_container"),
    [
        (sipa(BOUNDARY, b""), True),
        (sipa(BOUNDARY, bytes(0xFFFF)), True),
        (sipa(BOUNDARY, bytes(0x10000)), False),
        (sipa(BOUNDARY, b"") + b"\0", False),
        (sipa(0x40010002, b""), False),
        (b"\1\0\1", False),
    ],
)
def test_containers_are_told_from_text(data: bytes, is_container: bool) -> None:  # noqa: FBT001 - as given
    """Only one container that its size fills passes for none of a boot loader's strings."""
    assert is_sipa_container(data) is is_container


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    """No bytes make a reader raise, and every value lies within them."""
    for _, value in read(sipa(BOUNDARY, data)):
        assert value is None or value in data
    fields_of(data)
    is_container_start(data)
