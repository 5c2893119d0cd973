"""The proof file's form: one encoding for one content, and nothing else parses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger.prooffile import (
    Place,
    ProofFile,
    ProvenDecision,
    ProvenEnrolment,
    ProvenShard,
    parse_proof,
)

ONE, TWO = b"\x01" * 32, b"\x02" * 32


def pool(*pieces: bytes) -> tuple[bytes, ...]:
    """Return pieces in the order that a file has them in."""
    return tuple(sorted(pieces, key=lambda piece: hashlib.sha256(piece).digest()))


PROOF = ProofFile(
    token=b"token",
    receipt=None,
    claims=b"claims",
    shards=(ProvenShard(b"first"), ProvenShard(b"second", b"opening", (ONE,))),
    witnesses=("a+1+x", "b+2+y"),
    decisions=(
        ProvenDecision(b"record", b"evidence", (ONE, TWO), Place(0, 1, (ONE, TWO))),
        ProvenDecision(b"record 2", b"evidence 2", (ONE,), Place(1, 7, ())),
    ),
    enrolment=ProvenEnrolment(b"enrolment", (b"ek",), b"governance", Place(0, 0, (TWO,))),
    policies=pool(b"p", b"q"),
    references=pool(b"r"),
    roots=((ONE, TWO), (TWO,)),
    certificates=pool(b"c", b"d"),
    logs=(),
)
MEMBERS: dict[str, Any] = cbor.decode(PROOF.encode(), max_bytes=10_000)


def test_a_proof_survives_its_encoding() -> None:
    """Reading a file gives the proof, and writing that gives the file."""
    again = parse_proof(PROOF.encode())
    assert again == PROOF
    assert again.encode() == PROOF.encode()


def test_an_enrolment_without_governance_record_survives() -> None:
    """What may be absent is an explicit null."""
    bare = ProofFile(**{**_fields(), "enrolment": ProvenEnrolment(b"enrolment", ())})
    assert parse_proof(bare.encode()) == bare


def _fields() -> dict[str, Any]:
    return {name: getattr(PROOF, name) for name in ProofFile.__dataclass_fields__}


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.update(type="bootlease/proof/2"),
        lambda file: file.update(more=1),
        lambda file: file.pop("logs"),
        lambda file: file.update(token="text"),
        lambda file: file.update(claims=None),
        lambda file: file.update(shards=[]),
        lambda file: file.update(decisions=[]),
        lambda file: file["shards"].append([b"checkpoint"]),
        lambda file: file["shards"].append([b"checkpoint", [b"opening"]]),
        lambda file: file["witnesses"].reverse(),
        lambda file: file["witnesses"].append("b+2+y"),
        lambda file: file["witnesses"].append("z" * 5000),
        lambda file: file["policies"].reverse(),
        lambda file: file["certificates"].append(file["certificates"][-1]),
        lambda file: file["roots"].reverse(),
        lambda file: file["roots"][0].reverse(),
        lambda file: file["roots"].append([b"short"]),
        lambda file: file["decisions"][0].pop(),
        lambda file: file["decisions"][0].__setitem__(2, []),
        lambda file: file["decisions"][0][3].__setitem__(0, -1),
        lambda file: file["decisions"][0][3].__setitem__(1, 1 << 63),
        lambda file: file["decisions"][0][3].__setitem__(2, [ONE] * 64),
        lambda file: file["decisions"][0][3].__setitem__(2, [b"short"]),
        lambda file: file.__setitem__("enrolment", [file["enrolment"]]),
        lambda file: file["enrolment"].__setitem__(2, [b"governance"]),
        lambda file: file.update(logs={}),
    ],
)
def test_each_rule_of_the_form_is_kept(change: Change) -> None:
    """A file that breaks one rule of the layout is malformed."""
    members = cbor.decode(PROOF.encode(), max_bytes=10_000)
    change(members)
    with pytest.raises(MalformedError):
        parse_proof(cbor.encode(members))


def test_what_is_no_map_is_malformed() -> None:
    """CBOR of another kind is no proof."""
    others: tuple[object, ...] = ([], 1, "bootlease/proof/1", None)
    for value in others:
        with pytest.raises(MalformedError):
            parse_proof(cbor.encode(value))


@given(st.binary(max_size=200))
def test_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Any bytes parse, or raise the one error."""
    with pytest.raises(MalformedError):
        parse_proof(data)


_values = st.recursive(
    st.none() | st.integers(0, 70) | st.binary(max_size=40) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@given(st.sampled_from(sorted(MEMBERS)), _values)
def test_members_of_any_shape_parse_or_are_malformed(name: str, value: object) -> None:
    """A member of any other shape parses, or raises the one error; what parses encodes the same."""
    data = cbor.encode({**MEMBERS, name: value})
    try:
        proof = parse_proof(data)
    except MalformedError:
        return
    assert proof.encode() == data
