"""The record of an enrolled node."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.endorsement import Endorsement, Enrolment, TPMIdentity
from bootlease.errors import MalformedError
from bootlease.model import Effect, Finding
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.tpm import accept_attestation_key, parse_public


def record() -> Enrolment:
    """Return a node's record."""
    node = SimulatedNode(LocalCA.create())
    ak = accept_attestation_key(parse_public(node.ak_public()))
    endorsement = Endorsement(bytes(32), bytes(32), TPMIdentity("id:01", "m", "v"), 1)
    return Enrolment(
        bytes(32),
        node.ek_public(),
        bytes(32),
        node.ak_public(),
        ak.name,
        endorsement,
        1_800_000_000,
    )


def test_a_record_survives_its_encoding() -> None:
    """Store and decision see the same record."""
    endorsed = record()
    for each in (endorsed, dataclasses.replace(endorsed, endorsement=None)):
        again = Enrolment.parse(each.encode())
        assert again == each
        assert again.digest == each.digest


def test_every_member_is_in_the_digest() -> None:
    """Two records of one digest are one record."""
    one = record()
    changed = [
        dataclasses.replace(one, endorsement=None),
        dataclasses.replace(one, enrolled_at=1),
        dataclasses.replace(one, ek_digest=b"\1" * 32),
        dataclasses.replace(one, node=b"\1" * 32),
    ]
    assert len({each.digest for each in (one, *changed)}) == 5


def test_the_qualified_name_is_the_tpms() -> None:
    """A primary of the endorsement hierarchy is named as the TPM names it."""
    one = record()
    ak = accept_attestation_key(parse_public(one.ak_public))
    assert one.ak_qualified_name == ak.qualified_name


@pytest.mark.parametrize("name", [b"", b"\0\x0b" + bytes(31), b"\xff\xff" + bytes(32)])
def test_a_name_that_is_none_is_malformed(name: bytes) -> None:
    """A record cannot hold an AK that nothing could be compared with."""
    with pytest.raises(MalformedError):
        dataclasses.replace(record(), ak_name=name)


def test_what_was_noted_is_in_the_record() -> None:
    """What was tolerated when a node was let in is told for good, and only what refused nothing."""
    note = Finding("endorsement.tolerated.padding", "Bytes.", effect=Effect.NOTES, seen="9")
    noted = dataclasses.replace(record(), notes=(note, dataclasses.replace(note, seen=None)))
    again = Enrolment.parse(noted.encode())
    assert again.notes == noted.notes
    assert again.digest != dataclasses.replace(noted, notes=()).digest
    with pytest.raises(ValueError, match="refuses"):
        dataclasses.replace(noted, notes=(Finding("a.b", "No."),))


@pytest.mark.parametrize(
    "note", [[], ["a", "b"], ["a", "b", 1], ["a", 1, None], [[], "b", None], ["a", "x" * 513, None]]
)
def test_a_note_that_is_none_is_malformed(note: list[object]) -> None:
    """A record's notes are what was found, and nothing else."""
    members = cbor.decode(record().encode(), max_bytes=10_000)
    with pytest.raises(MalformedError, match="note"):
        Enrolment.parse(cbor.encode({**members, "notes": [note]}))


@given(st.binary(max_size=256))
def test_random_bytes_are_malformed(data: bytes) -> None:
    """The parser raises MalformedError and nothing else."""
    with pytest.raises(MalformedError):
        Enrolment.parse(data)
