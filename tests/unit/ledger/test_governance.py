"""Governance records: complete, chained, and of one encoding."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger.governance import GOVERNANCE_TYPE, MAX_GOVERNANCE, GovernanceRecord

RECORD = GovernanceRecord(
    time=5,
    author="operator:alice",
    kind="policy.activated",
    details={"policy": b"\x01" * 32, "epoch": 2, "id": "default"},
    previous=b"\x02" * 32,
)


def test_a_record_survives_its_encoding() -> None:
    """Reading a record gives the record, its bytes and its digest."""
    again = GovernanceRecord.parse(RECORD.encoded)
    assert again == RECORD
    assert (again.encoded, again.digest) == (RECORD.encoded, RECORD.digest)
    assert RECORD.digest == hashlib.sha256(RECORD.encoded).digest()


def test_the_encoding_is_the_documented_array() -> None:
    """The bytes are the array that the module documents."""
    assert cbor.decode(RECORD.encoded, max_bytes=1000) == [
        "bootlease/governance/1",
        5,
        "operator:alice",
        "policy.activated",
        {"id": "default", "epoch": 2, "policy": b"\x01" * 32},
        b"\x02" * 32,
    ]


def test_the_order_of_details_does_not_count() -> None:
    """The same details in another order give the same bytes."""
    turned = dict(reversed(list(RECORD.details.items())))
    assert dataclasses.replace(RECORD, details=turned).encoded == RECORD.encoded


def test_details_cannot_be_changed_afterwards() -> None:
    """Changing the mapping a record was made from changes nothing in the record."""
    details: dict[str, str | bytes | int] = {"epoch": 1}
    record = dataclasses.replace(RECORD, details=details)
    details["epoch"] = 2
    assert record.details["epoch"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"time": -1},
        {"time": True},
        {"time": 1 << 63},
        {"author": ""},
        {"author": "a" * 256},
        {"author": "operator:\x1b[2J"},
        {"kind": "opened"},
        {"kind": "Policy.Activated"},
        {"kind": "policy.activated\n"},
        {"details": {"": 1}},
        {"details": {1: 1}},
        {"details": {"flag": True}},
        {"details": {"none": None}},
        {"details": {"big": 1 << 64}},
        {"details": {f"n{number}": 1 for number in range(65)}},
        {"details": {"long": b"\0" * MAX_GOVERNANCE}},
        {"previous": b"\x02" * 31},
    ],
)
def test_impossible_records_are_our_misuse(changes: dict[str, Any]) -> None:
    """Each member has its bounds, and what breaks one cannot be made."""
    with pytest.raises(ValueError, match=r"."):
        dataclasses.replace(RECORD, **changes)


@pytest.mark.parametrize(
    "members",
    [
        ["bootlease/governance/2", 5, "a", "b.c", {}, None],
        [GOVERNANCE_TYPE, 5, "a", "b.c", {}],
        [GOVERNANCE_TYPE, "5", "a", "b.c", {}, None],
        [GOVERNANCE_TYPE, 5, b"a", "b.c", {}, None],
        [GOVERNANCE_TYPE, 5, "a", 7, {}, None],
        [GOVERNANCE_TYPE, 5, "a", "b.c", [], None],
        [GOVERNANCE_TYPE, 5, "a", "b.c", {"x": []}, None],
        [GOVERNANCE_TYPE, 5, "a", "b.c", {1: 1}, None],
        [GOVERNANCE_TYPE, 5, "a", "b.c", {}, "x" * 32],
        {"type": GOVERNANCE_TYPE},
    ],
)
def test_other_arrays_are_malformed(members: object) -> None:
    """Another type, version or number of members makes it no governance record."""
    with pytest.raises(MalformedError):
        GovernanceRecord.parse(cbor.encode(members))


def test_unknown_kinds_are_read() -> None:
    """A record of a kind that this version does not know is read as it is."""
    record = dataclasses.replace(RECORD, kind="moon.landed")
    assert GovernanceRecord.parse(record.encoded).kind == "moon.landed"


@given(st.binary(max_size=200))
def test_other_bytes_are_malformed(data: bytes) -> None:
    """Bytes are a record that encodes to them, or malformed, never any other."""
    try:
        record = GovernanceRecord.parse(data)
    except MalformedError:
        return
    assert record.encoded == data


@given(st.integers(0, len(RECORD.encoded) - 1), st.integers(1, 255))
def test_altered_bytes_give_another_digest_or_are_malformed(place: int, flip: int) -> None:
    """A changed byte never yields a record with the old digest."""
    data = bytearray(RECORD.encoded)
    data[place] ^= flip
    try:
        record = GovernanceRecord.parse(bytes(data))
    except MalformedError:
        return
    assert record.digest != RECORD.digest
