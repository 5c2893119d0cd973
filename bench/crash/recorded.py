"""What a verifier's database holds in the end, read without its store."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bootlease.evidence import Challenge
from bootlease.ledger import DecisionRecord

_DIGEST = 32


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded decision.

    Attributes:
        digest: Of its record.
        nonce: The challenge that it spent.
        claims: Digests of the claims that it granted; none for a refusal.
        record: The record.
        shard: Number of the shard with its leaves.
        position: Where in the shard the first of them stands.
    """

    digest: bytes
    nonce: bytes
    claims: tuple[bytes, ...]
    record: DecisionRecord
    shard: int
    position: int


@dataclass(frozen=True, slots=True)
class Shard:
    """One tree of the ledger.

    Attributes:
        origin: Its name in checkpoints.
        leaves: Its leaves by position.
        roots: Root of each checkpoint by size.
    """

    origin: str
    leaves: tuple[tuple[int, bytes], ...]
    roots: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Database:
    """What is compared with what clients were told.

    Attributes:
        sound: SQLite's own verdict about the file.
        nodes: Ids of enrolled nodes.
        decisions: Every decision in the order of recording.
        spent: Nonces of challenges that are marked as spent.
        shards: The ledger's trees by number.
    """

    sound: str
    nodes: frozenset[bytes]
    decisions: tuple[Recorded, ...]
    spent: frozenset[bytes]
    shards: dict[int, Shard]


def read_database(path: Path) -> Database:
    """Read the database of a verifier that does not run."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        (sound,) = database.execute("PRAGMA integrity_check").fetchone()
        nodes = frozenset(row[0] for row in database.execute("SELECT node FROM nodes"))
        spent = frozenset(
            row[0]
            for row in database.execute("SELECT nonce FROM challenges WHERE spent_at IS NOT NULL")
        )
        rows = database.execute(
            "SELECT digest, record, claims, shard, position FROM decisions ORDER BY number"
        )
        decisions = tuple(_recorded(*row) for row in rows)
        shards = _read_shards(database)
    return Database(str(sound), nodes, decisions, spent, shards)


def _recorded(digest: bytes, record: bytes, claims: bytes, shard: int, position: int) -> Recorded:
    parsed = DecisionRecord.parse(record)
    each = tuple(claims[at : at + _DIGEST] for at in range(0, len(claims), _DIGEST))
    nonce = Challenge.parse(parsed.challenge).nonce
    return Recorded(digest, nonce, each, parsed, shard, position)


def _read_shards(database: sqlite3.Connection) -> dict[int, Shard]:
    leaves: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for number, position, leaf in database.execute(
        "SELECT shard, position, leaf FROM entries ORDER BY shard, position"
    ):
        leaves[number].append((position, leaf))
    roots: dict[int, dict[int, bytes]] = defaultdict(dict)
    for number, size, root in database.execute("SELECT shard, size, root FROM checkpoints"):
        roots[number][size] = root
    return {
        number: Shard(origin, tuple(leaves[number]), roots[number])
        for number, origin in database.execute("SELECT number, origin FROM shards")
    }
