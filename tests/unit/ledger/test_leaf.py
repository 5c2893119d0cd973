"""Leaves: digests, in deterministic CBOR."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger.leaf import Leaf, encode_leaf, parse_leaf

digests = st.binary(min_size=32, max_size=32)


@given(digests, st.none() | digests)
def test_a_leaf_is_deterministic_cbor(record: bytes, claims: bytes | None) -> None:
    """A leaf is the CBOR array of its digests, and survives its encoding."""
    data = encode_leaf(record, claims)
    assert data == cbor.encode([record, claims])
    assert parse_leaf(data) == Leaf(record, claims)


@given(
    st.binary(max_size=80)
    | st.tuples(digests, st.none() | digests, st.data()).map(
        lambda parts: encode_leaf(parts[0], parts[1])[: parts[2].draw(st.integers(0, 70))]
    )
)
def test_other_bytes_are_malformed(data: bytes) -> None:
    """Bytes are a leaf that encodes to them, or malformed, never any other."""
    try:
        leaf = parse_leaf(data)
    except MalformedError:
        return
    assert encode_leaf(leaf.record, leaf.claims) == data


@pytest.mark.parametrize(
    "value",
    [
        [b"\1" * 32],
        [b"\1" * 32, None, None],
        [b"\1" * 31, None],
        [b"\1" * 32, b"\1" * 31],
        [None, b"\1" * 32],
        [b"\1" * 32, False],
        ["1" * 32, None],
    ],
)
def test_other_arrays_are_malformed(value: list[object]) -> None:
    """Another length or type in the array makes it no leaf."""
    with pytest.raises(MalformedError):
        parse_leaf(cbor.encode(value))


@pytest.mark.parametrize(("record", "claims"), [(b"\1" * 31, None), (b"\1" * 32, b"\1" * 33)])
def test_digests_of_another_length_are_our_misuse(record: bytes, claims: bytes | None) -> None:
    """A leaf is made of digests of 32 bytes."""
    with pytest.raises(ValueError, match="32"):
        encode_leaf(record, claims)
