"""The list of a ledger's shards, as a verifier publishes it and a monitor reads it.

    {"schema": 1, "shards": [{"number": 1, "name": "2026-11", "origin": "…", "size": 17,
                              "final": false}, …]}

The list is not signed: it says where to look. What is found there is signed, and shards are
chained, so a list that leaves one out is caught by its successor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.ledger.checkpoint import MAX_ORIGIN
from bootlease.ledger.merkle import MAX_SIZE
from bootlease.token import strictjson

MAX_LIST: Final = 4 * 1024 * 1024
MAX_SHARDS: Final = 10_000
"""More than eight hundred years of months."""

_SCHEMA: Final = 1
_NAME: Final = re.compile(r"[0-9]{4}-[0-9]{2}(?:\.[1-9][0-9]{0,15})?")
_MEMBERS: Final = {"number": int, "name": str, "origin": str, "size": int, "final": bool}


@dataclass(frozen=True, slots=True)
class ListedShard:
    """A shard as it is listed: unverified.

    Attributes:
        number: 1 for the first.
        name: Its period, such as ``2026-11``.
        origin: First line of its checkpoints.
        size: Leaves so far.
        final: Another shard has followed.
    """

    number: int
    name: str
    origin: str
    size: int
    final: bool


def is_shard_name(text: str) -> bool:
    """Tell whether ``text`` can name a shard: ``YYYY-MM`` or ``YYYY-MM.N``."""
    return _NAME.fullmatch(text) is not None


def encode_shard_list(shards: Iterable[ListedShard]) -> bytes:
    """Return the list as JSON."""
    listed = [{name: getattr(shard, name) for name in _MEMBERS} for shard in shards]
    return json.dumps({"schema": _SCHEMA, "shards": listed}).encode()


def parse_shard_list(data: bytes) -> tuple[ListedShard, ...]:
    """Parse the list.

    Raises:
        MalformedError: It is not a list of shards numbered from 1, each once.
    """
    if len(data) > MAX_LIST:
        raise MalformedError(f"a list of shards is at most {MAX_LIST} bytes long")
    members = strictjson.parse_object(data)
    listed = members.get("shards")
    if members.get("schema") != _SCHEMA or not isinstance(listed, list):
        raise MalformedError(f"the list of shards is not of schema {_SCHEMA}")
    if len(listed) > MAX_SHARDS:
        raise MalformedError(f"a ledger has at most {MAX_SHARDS} shards")
    shards = tuple(map(_parse_shard, listed))
    if [shard.number for shard in shards] != list(range(1, len(shards) + 1)):
        raise MalformedError("the list of shards is not numbered from 1 in order")
    if len({shard.name for shard in shards}) != len(shards):
        raise MalformedError("the list of shards names one twice")
    return shards


def _parse_shard(value: Any) -> ListedShard:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(value, dict) or any(
        type(value.get(name)) is not kind for name, kind in _MEMBERS.items()
    ):
        raise MalformedError("a shard is listed with number, name, origin, size and final")
    shard = ListedShard(**{name: value[name] for name in _MEMBERS})
    if not is_shard_name(shard.name):
        raise MalformedError(f"shard name {shard.name!r:.40} is not YYYY-MM or YYYY-MM.N")
    if not 0 <= shard.size <= MAX_SIZE or len(shard.origin) > MAX_ORIGIN:
        raise MalformedError(f"shard {shard.name} is listed with an impossible size or origin")
    return shard
