"""Reading the ledger: shards, checkpoints, tiles, entries, proofs, places.

Specification: C2SP tlog-tiles (tiles of 256 hashes; a partial tile is the beginning of a full one).
A tile that is not full is made from what is below it: leaves, or the roots of tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, insert, select

from bootlease.ledger import Receipt, SealedRoot, consistency_path, inclusion_path
from bootlease.ledger.merkle import HASH_SIZE
from bootlease.ledger.tiles import MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, nodes_from_tiles
from bootlease.ports import Shard, StoreUnavailableError
from bootlease.store.tables import (
    checkpoints,
    cosignatures,
    decisions,
    delegations,
    entries,
    governance,
    shards,
    tiles,
)
from bootlease.store.tail import row_hashes

if TYPE_CHECKING:
    from bootlease.ledger.merkle import Node
    from bootlease.store.connection import Connection

MAX_ENTRIES: Final = 64 * 1024
"""Entries that one question is answered with."""

_SHARDS: Final = (
    select(
        shards.c.number,
        shards.c.name,
        shards.c.origin,
        select(func.coalesce(func.max(checkpoints.c.size), 0))
        .where(checkpoints.c.shard == shards.c.number)
        .scalar_subquery(),
    )
    .select_from(shards)
    .order_by(shards.c.number)
)
_SIZE: Final = select(func.coalesce(func.max(checkpoints.c.size), 0)).where(
    checkpoints.c.shard == bindparam("of")
)
_NOTE: Final = select(checkpoints.c.note).where(
    checkpoints.c.shard == bindparam("of"), checkpoints.c.size == bindparam("leaves")
)
_COSIGNED: Final = select(func.max(cosignatures.c.size)).where(
    cosignatures.c.shard == bindparam("of")
)
_LINES: Final = (
    select(cosignatures.c.line)
    .where(cosignatures.c.shard == bindparam("of"), cosignatures.c.size == bindparam("leaves"))
    .order_by(cosignatures.c.name)
)
_SEALED: Final = (
    select(
        shards.c.origin,
        *(checkpoints.c.size, checkpoints.c.root, checkpoints.c.note),
        *(checkpoints.c.protected, checkpoints.c.signature),
    )
    .join_from(checkpoints, shards, shards.c.number == checkpoints.c.shard)
    .where(checkpoints.c.shard == bindparam("of"), checkpoints.c.size > bindparam("place"))
    .order_by(checkpoints.c.size)
    .limit(1)
)
_HAS_LINE: Final = select(cosignatures.c.name).where(
    cosignatures.c.shard == bindparam("of"),
    cosignatures.c.size == bindparam("leaves"),
    cosignatures.c.name == bindparam("by"),
)
_ADD_LINE: Final = insert(cosignatures).inline()
_TILE: Final = select(tiles.c.hashes).where(
    tiles.c.shard == bindparam("of"),
    tiles.c.level == bindparam("height"),
    tiles.c.number == bindparam("place"),
)
_ENTRIES: Final = (
    select(entries.c.leaf)
    .where(
        entries.c.shard == bindparam("of"),
        entries.c.position >= bindparam("start"),
        entries.c.position < bindparam("end"),
    )
    .order_by(entries.c.position)
)
_DECISION_PLACE: Final = select(
    decisions.c.shard, decisions.c.position, func.length(decisions.c.claims)
).where(decisions.c.digest == bindparam("record"))
_DELEGATION_PLACE: Final = select(delegations.c.shard, delegations.c.position).where(
    delegations.c.digest == bindparam("record")
)
_GOVERNANCE_PLACE: Final = select(governance.c.shard, governance.c.position).where(
    governance.c.digest == bindparam("record")
)
_GOVERNANCE: Final = select(governance.c.record).where(governance.c.digest == bindparam("named"))
_GOVERNANCE_ABOUT: Final = (
    select(governance.c.record)
    .where(governance.c.subject == bindparam("named"))
    .order_by(governance.c.number)
)
_OPENING: Final = (
    select(governance.c.record)
    .where(governance.c.shard == bindparam("of"), governance.c.position == 0)
    .order_by(governance.c.number)
)


def all_shards(db: Connection) -> tuple[Shard, ...]:
    """Return every shard, the oldest first."""
    rows = db.rows(_SHARDS)
    return tuple(
        Shard(number, name, origin, size, final=at < len(rows))
        for at, (number, name, origin, size) in enumerate(rows, 1)
    )


def size_of(db: Connection, shard: int) -> int:
    """Return how many leaves of a shard are sealed."""
    row = db.one(_SIZE, {"of": shard})
    return 0 if row is None else int(row[0])


def checkpoint(db: Connection, shard: int, *, size: int | None = None) -> bytes | None:
    """Return the checkpoint of a size, or the latest, with its cosignatures."""
    leaves = size_of(db, shard) if size is None else size
    row = db.one(_NOTE, {"of": shard, "leaves": leaves})
    if row is None:
        return None
    lines = db.rows(_LINES, {"of": shard, "leaves": leaves})
    return b"".join((row[0], *(line[0] for line in lines)))


def cosigned_checkpoint(db: Connection, shard: int) -> bytes | None:
    """Return the largest checkpoint that has a cosignature, with all it has."""
    row = db.one(_COSIGNED, {"of": shard})
    return None if row is None or row[0] is None else checkpoint(db, shard, size=row[0])


def add_cosignature(db: Connection, shard: int, size: int, *, name: str, line: bytes) -> None:
    """Keep a witness's cosignature of a checkpoint, the first of each witness.

    Raises:
        ValueError: There is no such checkpoint.
    """
    where = {"of": shard, "leaves": size}
    if db.one(_NOTE, where) is None:
        raise ValueError(f"shard {shard} has no checkpoint of size {size}")
    if db.one(_HAS_LINE, {**where, "by": name}) is None:
        ended = line if line.endswith(b"\n") else line + b"\n"
        db.run(_ADD_LINE, {"shard": shard, "size": size, "name": name, "line": ended})


def tile(db: Connection, shard: int, level: int, number: int, width: int) -> bytes | None:
    """Return the first hashes of a tile, or None where there are fewer."""
    if not (0 <= level <= MAX_LEVEL and number >= 0 and 0 < width <= TILE_WIDTH):
        return None
    # What is not sealed is not committed either; the sizes of checkpoints are those of the tree.
    if (number * TILE_WIDTH + width) << TILE_HEIGHT * level > size_of(db, shard):
        return None
    return b"".join(_tile(db, shard, level, number, width))


def _tile(db: Connection, shard: int, level: int, number: int, width: int) -> Sequence[bytes]:
    row = db.one(_TILE, {"of": shard, "height": level, "place": number})
    if row is not None:
        hashes: bytes = row[0][: width * HASH_SIZE]
        return [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]
    start = number * TILE_WIDTH
    made = row_hashes(db, shard, level, start, start + width)
    if len(made) != width:
        raise StoreUnavailableError("the ledger has gaps")
    return made


def entries_between(db: Connection, shard: int, start: int, end: int) -> tuple[bytes, ...]:
    """Return leaves, those that there are, at most ``MAX_ENTRIES``."""
    bounded = min(end, start + MAX_ENTRIES, size_of(db, shard))
    if not 0 <= start < bounded:
        return ()
    rows = db.rows(_ENTRIES, {"of": shard, "start": start, "end": bounded})
    return tuple(row[0] for row in rows)


def _nodes(db: Connection, shard: int, size: int) -> Node:
    return nodes_from_tiles(size, lambda *place: _tile(db, shard, *place))


def inclusion(db: Connection, shard: int, index: int, size: int) -> tuple[bytes, ...] | None:
    """Return the path of a leaf in the tree of a size, or None where there is no such leaf."""
    if not 0 <= index < size <= size_of(db, shard):
        return None
    return tuple(inclusion_path(index, size, _nodes(db, shard, size)))


def receipt(db: Connection, shard: int, index: int) -> Receipt | None:
    """Return the receipt that was given for a leaf: under the first checkpoint that covers it."""
    row = db.one(_SEALED, {"of": shard, "place": index})
    if row is None:
        return None
    sealed = SealedRoot(*row)
    path = inclusion(db, shard, index, sealed.size)
    leaves = entries_between(db, shard, index, index + 1)
    return Receipt(leaves[0], index, path, sealed) if leaves and path is not None else None


def consistency(db: Connection, shard: int, old: int, new: int) -> tuple[bytes, ...] | None:
    """Return the proof that one tree begins another, or None where there are no such trees."""
    if not 0 <= old <= new <= size_of(db, shard):
        return None
    return tuple(consistency_path(old, new, _nodes(db, shard, new)))


def position(db: Connection, record: bytes) -> tuple[int, int, int] | None:
    """Return shard, index of the first leaf and number of leaves of a record."""
    row = db.one(_DECISION_PLACE, {"record": record})
    if row is not None:
        return row[0], row[1], max(1, row[2] // HASH_SIZE)
    row = db.one(_DELEGATION_PLACE, {"record": record})
    row = row or db.one(_GOVERNANCE_PLACE, {"record": record})
    return None if row is None else (row[0], row[1], 1)


def governance_record(db: Connection, digest: bytes) -> bytes | None:
    """Return a governance record."""
    row = db.one(_GOVERNANCE, {"named": digest})
    return None if row is None else row[0]


def governance_about(db: Connection, subject: bytes) -> tuple[bytes, ...]:
    """Return the governance records about an enrolment, a policy, a root…, by its digest."""
    return tuple(row[0] for row in db.rows(_GOVERNANCE_ABOUT, {"named": subject}))


def opening(db: Connection, shard: int) -> bytes | None:
    """Return the governance record that opened a shard."""
    row = db.one(_OPENING, {"of": shard})
    return None if row is None else row[0]
