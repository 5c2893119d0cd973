"""Decision records: complete, and of one encoding."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger import DecisionRecord, GrantedLease
from bootlease.ledger.record import parse_granted
from bootlease.model import Effect, Finding

LEASE = GrantedLease(b"\x01" * 16, ("tool:search",), "https://tools.example", b"\x02" * 32, 9)
GRANT = DecisionRecord(
    issuer="https://verifier.example",
    node=b"\x03" * 32,
    time=5,
    challenge=b"\xa0",
    evidence=b"\x05" * 32,
    enrolment=b"\x06" * 32,
    prior=b"\x80",
    high_water=b"\x0d" * 16,
    granted=True,
    findings=(Finding("a.b", "A note.", Effect.NOTES, pcr=0, event=0, expected="x", seen="y"),),
    lineage_root=b"\x07" * 32,
    lineage_previous=b"\x08" * 32,
    sequence=1,
    references=(b"\x09" * 32,),
    policy_id="default",
    policy_digest=b"\x0a" * 32,
    policy_epoch=1,
    roots=b"\x0b" * 32,
    code_version="0.1.0",
    code=b"\x0e" * 32,
    leases=(LEASE,),
    previous=b"\x0c" * 32,
)
REFUSAL = dataclasses.replace(
    GRANT,
    granted=False,
    leases=(),
    prior=None,
    previous=None,
    lineage_previous=None,
    findings=(Finding("c.d", "A refusal."),),
)


@pytest.mark.parametrize("record", [GRANT, REFUSAL], ids=["grant", "refusal"])
def test_a_record_survives_its_encoding(record: DecisionRecord) -> None:
    """Reading a record gives the record, its bytes and its digest."""
    again = DecisionRecord.parse(record.encoded)
    assert again == record
    assert (again.encoded, again.digest) == (record.encoded, record.digest)


@pytest.mark.parametrize("record", [GRANT, REFUSAL], ids=["grant", "refusal"])
def test_the_written_out_encoding_is_the_deterministic_one(record: DecisionRecord) -> None:
    """A record's bytes are those of the general encoder for its members."""
    members = cbor.decode(record.encoded, max_bytes=1 << 16)
    assert cbor.encode(members) == record.encoded
    assert members[0] == "bootlease/decision/2"
    assert len(members) == 23


@pytest.mark.parametrize("record", [GRANT, REFUSAL], ids=["grant", "refusal"])
def test_what_was_granted_is_read_as_with_the_whole_record(record: DecisionRecord) -> None:
    """Leases and reference sets alone are those of the record that is parsed whole."""
    whole = DecisionRecord.parse(record.encoded)
    assert parse_granted(record.encoded) == (whole.leases, whole.references)


@pytest.mark.parametrize("number", [0, 14, 21])
def test_what_was_granted_is_read_from_records_alone(number: int) -> None:
    """Another type, another length, and leases or references of another kind are malformed."""
    members = cbor.decode(GRANT.encoded, max_bytes=1 << 16)
    for member in ([], [7]):
        with pytest.raises(MalformedError):
            parse_granted(cbor.encode([*members[:number], *member, *members[number + 1 :]]))


def test_every_member_is_in_the_digest() -> None:
    """Nothing of a record can be exchanged under its digest."""
    changed = [
        dataclasses.replace(GRANT, **{field.name: _other(getattr(GRANT, field.name))})  # type: ignore[arg-type]  # any field
        for field in dataclasses.fields(GRANT)
        if field.init and field.name != "granted"
    ]
    digests = {record.digest for record in changed}
    assert len(digests | {GRANT.digest}) == len(changed) + 1


def _other(value: object) -> object:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return bytes(len(value))
    if value == (LEASE,):
        return (LEASE, LEASE)
    return ()


def test_verdict_and_leases_agree() -> None:
    """A refusal grants nothing and a grant something."""
    with pytest.raises(ValueError, match="a grant has leases"):
        dataclasses.replace(GRANT, granted=False)
    with pytest.raises(ValueError, match="a grant has leases"):
        dataclasses.replace(REFUSAL, granted=True)


@given(st.binary(max_size=128))
def test_random_bytes_are_malformed(data: bytes) -> None:
    """The parser raises MalformedError and nothing else."""
    with pytest.raises(MalformedError):
        DecisionRecord.parse(data)


@given(
    st.integers(0, 22),
    st.sampled_from([-1, "x", True, [], [[]], {}, [{}], [None] * 3, [{"id": 1, "effect": 2}]]),
)
def test_a_member_of_another_kind_is_malformed(number: int, value: object) -> None:
    """A mutated record is malformed, or another record of its own encoding."""
    members = cbor.decode(GRANT.encoded, max_bytes=1 << 16)
    members[number] = value
    data = cbor.encode(members)
    try:
        record = DecisionRecord.parse(data)
    except MalformedError:
        return
    assert record.encoded == data


@pytest.mark.parametrize(
    "member",
    ["node", "evidence", "enrolment", "lineage_root", "lineage_previous", "previous", "high_water"],
)
@pytest.mark.parametrize("size", [0, 31])
def test_a_digest_of_another_size_is_no_records(member: str, size: int) -> None:
    """Members of fixed size have it, in a record that is made and in one that is read."""
    with pytest.raises(ValueError, match="another size"):
        dataclasses.replace(GRANT, **{member: bytes(size)})  # type: ignore[arg-type]  # all bytes
    members = cbor.decode(GRANT.encoded, max_bytes=1 << 16)
    place = members.index(getattr(GRANT, member))
    members[place] = bytes(size)
    with pytest.raises(MalformedError, match="another size"):
        DecisionRecord.parse(cbor.encode(members))
