"""Where the ledger ends: all that the writer must know to append, made from what is stored.

The writer keeps it between transactions. After a failure, or when somebody else wrote to the file,
it is made again from the rows and compared with the last checkpoint: a ledger that does not lead to
the root that was signed has been altered, and nothing is appended to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, select

from bootlease.ledger import Extension, Frontier, leaf_hash, node_hash
from bootlease.ledger.tiles import TILE_HEIGHT, TILE_WIDTH
from bootlease.ports import InForce, StoreUnavailableError
from bootlease.store.inforce import numbers_in_force
from bootlease.store.tables import (
    IMPORTED,
    checkpoints,
    decisions,
    entries,
    governance,
    settings,
    shards,
    tiles,
)

if TYPE_CHECKING:
    from bootlease.store.connection import Connection

Unfinished = tuple[tuple[bytes, ...], ...]
"""For each level of tiles, the hashes that do not fill one yet."""


@dataclass(frozen=True, slots=True)
class OpenShard:
    """The shard that grows.

    Attributes:
        number: 1 for the first.
        name: Its period.
        origin: First line of its checkpoints.
    """

    number: int
    name: str
    origin: str


@dataclass(frozen=True, slots=True)
class FullTile:
    """A tile that became full.

    Attributes:
        level: Of tiles, 0 for leaf hashes.
        number: Place in its level.
        hashes: Its 256 hashes.
        root: The hash over them.
    """

    level: int
    number: int
    hashes: tuple[bytes, ...]
    root: bytes


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of the ledger.

    Attributes:
        shard: The shard that grows, or None before the first.
        frontier: Its tree.
        unfinished: Its tiles that are not full.
        checkpoint: Its last checkpoint; empty before the first.
        governance: Digest of the last governance record.
        decisions: Number of the last decision.
        in_force: What the operator has decided.
    """

    shard: OpenShard | None
    frontier: Frontier
    unfinished: Unfinished
    checkpoint: bytes
    governance: bytes | None
    decisions: int
    in_force: InForce

    def demand_of(self, prefix: str) -> None:
        """Demand that the ledger is that of ``prefix``.

        Raises:
            StoreUnavailableError: Its last shard is of another one.
        """
        if self.shard is not None and self.shard.origin != f"{prefix}/{self.shard.name}":
            theirs = self.shard.origin.rpartition("/")[0]
            raise StoreUnavailableError(f"this is the ledger of {theirs}, not of {prefix}")

    def after(self, decisions: int, in_force: InForce) -> Tail:
        """Return the tail with so many more decisions, under what the operator decided by now."""
        return replace(self, decisions=self.decisions + decisions, in_force=in_force)


_LAST_SHARD: Final = (
    select(shards.c.number, shards.c.name, shards.c.origin)
    .order_by(shards.c.number.desc())
    .limit(1)
)
_SIZE: Final = select(func.max(entries.c.position)).where(entries.c.shard == bindparam("of"))
_CHECKPOINT: Final = (
    select(checkpoints.c.size, checkpoints.c.root, checkpoints.c.note)
    .where(checkpoints.c.shard == bindparam("of"))
    .order_by(checkpoints.c.size.desc())
    .limit(1)
)
_LEAVES: Final = (
    select(entries.c.leaf)
    .where(
        entries.c.shard == bindparam("of"),
        entries.c.position >= bindparam("start"),
        entries.c.position < bindparam("end"),
    )
    .order_by(entries.c.position)
)
_ROOTS: Final = (
    select(tiles.c.root)
    .where(
        tiles.c.shard == bindparam("of"),
        tiles.c.level == bindparam("height"),
        tiles.c.number >= bindparam("start"),
        tiles.c.number < bindparam("end"),
    )
    .order_by(tiles.c.number)
)
_LAST_GOVERNANCE: Final = select(governance.c.digest).order_by(governance.c.number.desc()).limit(1)
_IMPORTED: Final = select(settings.c.value).where(settings.c.name == IMPORTED)
_DECISIONS: Final = select(func.coalesce(func.max(decisions.c.number), 0))


def load_tail(db: Connection) -> Tail:
    """Make the tail from the rows, all of one moment.

    Raises:
        StoreUnavailableError: The rows do not lead to the root that was signed last, or were made
            of an export, which has no nodes.
    """
    # A verifier that commits between two of these reads would look like a ledger cut short.
    with db.snapshot():
        return _load(db)


def _load(db: Connection) -> Tail:
    if db.one(_IMPORTED) is not None:
        raise StoreUnavailableError(
            "the database was made of an export, to be audited; no verifier continues it"
        )
    in_force = numbers_in_force(db)
    count = db.one(_DECISIONS)
    last = db.one(_LAST_GOVERNANCE)
    decided = 0 if count is None else count[0]
    previous = None if last is None else last[0]
    row = db.one(_LAST_SHARD)
    if row is None:
        if decided or previous is not None:
            raise StoreUnavailableError("the ledger is gone, but not what it recorded")
        return Tail(None, Frontier(), (), b"", None, 0, in_force)
    shard = OpenShard(*row)
    size = _size(db, shard.number)
    unfinished = unfinished_of(db, shard.number, size)
    frontier = _frontier(size, unfinished)
    note = _signed(db, shard, frontier)
    return Tail(shard, frontier, unfinished, note, previous, decided, in_force)


def _size(db: Connection, shard: int) -> int:
    row = db.one(_SIZE, {"of": shard})
    return 0 if row is None or row[0] is None else row[0] + 1


def _signed(db: Connection, shard: OpenShard, frontier: Frontier) -> bytes:
    """Return the last checkpoint, which must be this tree's."""
    row = db.one(_CHECKPOINT, {"of": shard.number})
    if row is None or (row[0], row[1]) != (frontier.size, frontier.root()):
        raise StoreUnavailableError(
            f"shard {shard.name} of the ledger has {frontier.size} entries that do not lead to its"
            " last checkpoint: the database was altered or cut short, and nothing is added to it"
        )
    note: bytes = row[2]
    return note


def unfinished_of(db: Connection, shard: int, size: int) -> Unfinished:
    """Return the hashes of a shard that fill no tile, by level.

    Raises:
        StoreUnavailableError: Rows are missing.
    """
    levels = []
    level = 0
    while count := size >> TILE_HEIGHT * level:
        start = count - count % TILE_WIDTH
        hashes = row_hashes(db, shard, level, start, count)
        if len(hashes) != count - start:
            raise StoreUnavailableError("the ledger has gaps: nothing is added to it")
        levels.append(hashes)
        level += 1
    return tuple(levels)


def row_hashes(db: Connection, shard: int, level: int, start: int, end: int) -> tuple[bytes, ...]:
    """Return hashes of a level of tiles, made from what stands below it."""
    where = {"of": shard, "start": start, "end": end}
    if level == 0:
        return tuple(leaf_hash(row[0]) for row in db.rows(_LEAVES, where))
    return tuple(row[0] for row in db.rows(_ROOTS, {**where, "height": level - 1}))


def _frontier(size: int, unfinished: Unfinished) -> Frontier:
    """Cut the unfinished tiles into complete subtrees, the largest first."""
    hashes: list[bytes] = []
    for row in reversed(unfinished):
        at = 0
        for bit in reversed(range(TILE_HEIGHT)):
            if len(row) >> bit & 1:
                hashes.append(_fold(row[at : at + (1 << bit)]))
                at += 1 << bit
    return Frontier(size, tuple(hashes))


def _fold(row: Sequence[bytes]) -> bytes:
    while len(row) > 1:
        row = [node_hash(*pair) for pair in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def fill_tiles(
    unfinished: Unfinished, extension: Extension, hashes: Sequence[bytes]
) -> tuple[Unfinished, list[FullTile]]:
    """Sort a tree's new leaf hashes into its tiles.

    Args:
        unfinished: The tiles that were not full.
        extension: What the leaves did to the tree.
        hashes: The new leaf hashes.

    Returns:
        The tiles that are not full now, and those that became full.
    """
    kept: list[tuple[bytes, ...]] = []
    full: list[FullTile] = []
    level = 0
    while hashes or level < len(unfinished):
        row = (*unfinished[level], *hashes) if level < len(unfinished) else tuple(hashes)
        number = (extension.start >> TILE_HEIGHT * level) // TILE_WIDTH
        roots: list[bytes] = []
        height = TILE_HEIGHT * (level + 1)
        while len(row) >= TILE_WIDTH:
            root = extension.rows[height][number - extension.row_starts[height]]
            full.append(FullTile(level, number, row[:TILE_WIDTH], root))
            roots.append(root)
            row = row[TILE_WIDTH:]
            number += 1
        kept.append(row)
        hashes = roots
        level += 1
    return tuple(kept), full
