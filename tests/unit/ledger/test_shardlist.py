"""The list of shards."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.ledger.shardlist import (
    ListedShard,
    encode_shard_list,
    is_shard_name,
    parse_shard_list,
)

SHARDS = (
    ListedShard(1, "2026-11", "verifier.example/ledger/2026-11", 17, final=True),
    ListedShard(2, "2026-11.2", "verifier.example/ledger/2026-11.2", 0, final=False),
)


def test_what_is_written_is_read() -> None:
    """Every member, in order; an empty list too."""
    assert parse_shard_list(encode_shard_list(SHARDS)) == SHARDS
    assert parse_shard_list(encode_shard_list(())) == ()


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("2026-11", True),
        ("2026-11.2", True),
        ("2026-11.02", False),
        ("2026-11.", False),
        ("2026-1", False),
        ("../2026-11", False),
        ("2026-11\n", False),
        ("", False),
    ],
)
def test_names_of_shards(name: str, *, good: bool) -> None:
    """They become parts of URLs and origins, so they have one form."""
    assert is_shard_name(name) is good


def change(place: int, **members: Any) -> bytes:
    """Return the list with members of one shard changed."""
    value = json.loads(encode_shard_list(SHARDS))
    value["shards"][place].update(members)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{}",
        b'{"schema": 2, "shards": []}',
        b'{"schema": 1, "shards": {}}',
        b'{"schema": 1, "shards": [1]}',
        change(0, number=2),
        change(1, number=1),
        change(1, name="2026-11"),
        change(0, name="x"),
        change(0, size=-1),
        change(0, size=1 << 63),
        change(0, size=True),
        change(0, final=1),
        change(0, origin="x" * 2000),
    ],
)
def test_each_fault_is_refused(data: bytes) -> None:
    """Another form, order, name or number."""
    with pytest.raises(MalformedError):
        parse_shard_list(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Never another error than MalformedError."""
    with contextlib.suppress(MalformedError):
        parse_shard_list(data)
