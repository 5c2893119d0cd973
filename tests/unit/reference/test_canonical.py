"""The canonical form of a reference set: what its digest is taken over, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.model import HashAlg
from bootlease.reference import EventsReference, KnownEvent, ReferenceSet, ValueReference
from bootlease.reference.canonical import parse_canonical_reference

EVENT = KnownEvent(4, b"\x01" * 32, "a separator", required=True)
REFERENCE = ReferenceSet(
    name="golden",
    version="1",
    bank=HashAlg.SHA256,
    pcrs={
        7: EventsReference((EVENT,)),
        0: ValueReference((b"\x03" * 32, b"\x02" * 32), (EVENT,)),
    },
    not_before=5,
    not_after=9,
)
MEMBERS: dict[str, Any] = cbor.decode(REFERENCE.encode(), max_bytes=10_000)


def test_a_reference_survives_its_canonical_form() -> None:
    """What is read back is the set, with its digest."""
    assert parse_canonical_reference(REFERENCE.encode()) == REFERENCE


def test_limits_may_be_absent() -> None:
    """A set without validity dates has none."""
    bare = ReferenceSet("golden", "1", HashAlg.SHA256, {0: ValueReference((b"\x02" * 32,))})
    assert parse_canonical_reference(bare.encode()) == bare


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("type", "bootlease/reference/2"),
        ("bank", 4),
        ("bank", 9999),
        ("pcrs", {}),
        ("pcrs", {"0": ["events", []]}),
        ("pcrs", {0: ["value", [b"\x03" * 32, b"\x02" * 32], []]}),
        ("pcrs", {0: ["value", ["text"], []]}),
        ("pcrs", {0: ["value", [b"short"], []]}),
        ("pcrs", {0: ["other", []]}),
        ("pcrs", {0: ["events", [[4, b"\x01" * 32, "x"]]]}),
        ("pcrs", {0: ["events", [[4, b"\x01" * 32, "x", 1]]]}),
        ("pcrs", {0: ["events", [[4, b"\x01" * 32, "x" * 3000, True]]]}),
        ("exp", 1),
        ("more", 1),
    ],
)
def test_another_form_is_malformed(member: str, value: object) -> None:
    """Unsorted, unknown or impossible members are no canonical reference set."""
    with pytest.raises(MalformedError):
        parse_canonical_reference(cbor.encode({**MEMBERS, member: value}))


@given(st.binary(max_size=100) | st.binary(max_size=40).map(cbor.encode))
def test_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Any bytes parse, or raise the one error."""
    with pytest.raises(MalformedError):
        parse_canonical_reference(data)
