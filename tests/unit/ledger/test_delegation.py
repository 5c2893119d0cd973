"""The record of a delegation."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger import DelegationRecord
from bootlease.ledger.delegation import DELEGATION_TYPE

RECORD: Final = DelegationRecord(
    issuer="https://verifier.example",
    node=b"n" * 32,
    time=1_900_000_000,
    decision=b"d" * 32,
    parent=b"p" * 16,
    parent_claims=b"c" * 32,
    lease_id=b"l" * 16,
    scope=("tool:search", "repo:acme/*"),
    audience="https://tools.example",
    thumbprint=b"t" * 32,
    expires_at=1_900_000_120,
    grants=(b"g" * 32, b"h" * 32),
    policy_digest=b"q" * 32,
    policy_epoch=3,
)


def test_a_record_comes_back_as_it_was() -> None:
    """Encoded in the layout that is documented, under its SHA-256."""
    assert DelegationRecord.parse(RECORD.encoded) == RECORD
    assert RECORD.digest == hashlib.sha256(RECORD.encoded).digest()
    assert cbor.decode(RECORD.encoded, max_bytes=1 << 16) == [
        *("bootlease/delegation/1", "https://verifier.example", b"n" * 32, 1_900_000_000),
        *(b"d" * 32, b"p" * 16, b"c" * 32, b"l" * 16, ["tool:search", "repo:acme/*"]),
        *("https://tools.example", b"t" * 32, 1_900_000_120, [b"g" * 32, b"h" * 32]),
        *(b"q" * 32, 3),
    ]


@pytest.mark.parametrize(
    "change",
    [
        *({name: b"x"} for name in ("node", "decision", "parent_claims", "thumbprint")),
        *({name: b"x"} for name in ("parent", "lease_id", "policy_digest")),
        *({"grants": ()}, {"grants": (b"x",)}, {"scope": ()}),
        {"scope": tuple(f"{'x' * 4000}{number}" for number in range(5))},
    ],
)
def test_a_record_that_names_nothing_is_none(change: dict[str, Any]) -> None:
    """Digests and ids have their sizes, and a lease has a scope and a grant."""
    with pytest.raises(ValueError, match=r"delegat|digest|lease"):
        replace(RECORD, **change)


@pytest.mark.parametrize("place", range(15))
@pytest.mark.parametrize("value", [None, True, {}, [None]])
def test_a_member_of_another_kind_makes_it_none(place: int, value: object) -> None:
    """Parse, or MalformedError."""
    members = cbor.decode(RECORD.encoded, max_bytes=1 << 16)
    members[place] = value
    with pytest.raises(MalformedError):
        DelegationRecord.parse(cbor.encode(members))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_record_or_malformed(data: bytes) -> None:
    """Parse, or MalformedError, never any other."""
    with pytest.raises(MalformedError):
        DelegationRecord.parse(data)


def test_another_type_or_length_is_refused() -> None:
    """A decision's record is no delegation's, and what follows a record is not ignored."""
    members = cbor.decode(RECORD.encoded, max_bytes=1 << 16)
    assert members[0] == DELEGATION_TYPE
    for other in ([*members, 1], members[:-1], ["bootlease/delegation/2", *members[1:]], "x"):
        with pytest.raises(MalformedError):
            DelegationRecord.parse(cbor.encode(other))
