"""What one transaction appends to the ledger, and the one seal over all of it.

Leaves are collected while jobs run and written once: entries, tiles that became full, and one
checkpoint whose signatures serve every receipt of the group. A job that is rolled back takes its
leaves with it.

A shard is opened when the month (UTC) of the time given has moved on, by a governance record that
holds the whole final checkpoint of the shard before: so the shards are one chain, and each can be
handed on alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert

from bootlease.ledger import (
    Extension,
    Frontier,
    GovernanceDetail,
    GovernanceRecord,
    Receipt,
    SealedRoot,
    encode_leaf,
    extend,
    leaf_hash,
)
from bootlease.ledger.governance import CHECKPOINT, LEDGER_OPENED, SHARD_OPENED
from bootlease.ports import Sealer, StoreUnavailableError
from bootlease.store.connection import Bulk
from bootlease.store.tables import checkpoints, entries, governance, shards, tiles
from bootlease.store.tail import OpenShard, Tail, fill_tiles

if TYPE_CHECKING:
    from bootlease.store.connection import Connection

AUTHOR: Final = "verifier"
"""Who opens shards."""

_ADD_GOVERNANCE: Final = (
    insert(governance)
    .values({name: None for name in governance.c.keys() if name != "number"})  # noqa: SIM118 - a column collection's keys
    .inline()
)
_ADD_SHARD: Final = insert(shards).inline()
_ADD_ENTRIES: Final = Bulk.into(entries)
_ADD_TILES: Final = Bulk.into(tiles)
_ADD_CHECKPOINT: Final = Bulk.into(checkpoints)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A group's leaves in the tree, signed.

    Attributes:
        tail: The end of the ledger after them.
        root: The signed tree.
        extension: The tree's growth.
        leaves: The new leaves.
    """

    tail: Tail
    root: SealedRoot
    extension: Extension
    leaves: tuple[bytes, ...]

    def receipts(self, start: int, count: int) -> tuple[Receipt, ...]:
        """Return the receipts of some of the group's leaves, by their positions in the shard."""
        first = self.extension.start
        return tuple(
            Receipt(self.leaves[at], first + at, self.extension.path(at), self.root)
            for at in range(start - first, start - first + count)
        )


class Appender:
    """Collects the leaves of one transaction.

    Args:
        db: The writing connection, inside the transaction.
        tail: The end of the ledger before it.
    """

    __slots__ = ("_db", "_leaves", "_tail")

    def __init__(self, db: Connection, tail: Tail) -> None:
        self._db = db
        self._tail = tail
        self._leaves: list[bytes] = []

    @property
    def tail(self) -> Tail:
        """The end of the ledger, leaves of this transaction not counted."""
        return self._tail

    @property
    def shard(self) -> OpenShard:
        """The shard that grows."""
        if self._tail.shard is None:
            raise RuntimeError("no shard was opened for this transaction")
        return self._tail.shard

    def open_shard_of(self, now: int, prefix: str) -> None:
        """Open the shard of the time's month where that has not been done; never an earlier one."""
        month = month_of(now)
        self._tail.demand_of(prefix)
        shard = self._tail.shard
        if shard is None or month > shard.name[: len(month)]:
            self.open_shard(month, prefix, now=now)

    def open_shard(self, name: str, prefix: str, *, now: int) -> None:
        """Close the shard that grows, if there is one, and open another."""
        if self._leaves:
            raise RuntimeError("a shard is opened before anything is appended")
        before, checkpoint = self._tail.shard, self._tail.checkpoint
        shard = OpenShard(1 if before is None else before.number + 1, name, f"{prefix}/{name}")
        self._db.run(
            _ADD_SHARD,
            {
                "number": shard.number,
                "name": shard.name,
                "origin": shard.origin,
                "opened_at": now,
            },
        )
        self._tail = replace(
            self._tail, shard=shard, frontier=Frontier(), unfinished=(), checkpoint=b""
        )
        details: dict[str, GovernanceDetail] = {"origin": shard.origin}
        if before is not None:
            details |= {"previous": before.origin, CHECKPOINT: checkpoint}
        kind = LEDGER_OPENED if before is None else SHARD_OPENED
        self.record(kind, details, author=AUTHOR, now=now)

    def append(self, leaves: Sequence[bytes]) -> int:
        """Append leaves and return the position of the first."""
        position = self._tail.frontier.size + len(self._leaves)
        self._leaves += leaves
        return position

    def record(
        self,
        kind: str,
        details: Mapping[str, GovernanceDetail],
        *,
        author: str,
        now: int,
        subject: bytes | None = None,
    ) -> bytes:
        """Append a governance record and return its digest.

        Args:
            kind: What was done.
            details: With what.
            author: By whom.
            now: When.
            subject: Digest of what the record is about, to find it by.
        """
        made = GovernanceRecord(now, author, kind, details, self._tail.governance)
        position = self.append([encode_leaf(made.digest)])
        self._db.run(
            _ADD_GOVERNANCE,
            {
                "digest": made.digest,
                "subject": subject,
                "kind": kind,
                "record": made.encoded,
                "shard": self.shard.number,
                "position": position,
            },
        )
        self._tail = replace(self._tail, governance=made.digest)
        return made.digest

    def mark(self) -> tuple[int, Tail]:
        """Return what to go back to when a job fails."""
        return len(self._leaves), self._tail

    def back_to(self, mark: tuple[int, Tail]) -> None:
        """Forget what was appended since the mark."""
        count, self._tail = mark
        del self._leaves[count:]

    def seal(self, sealer: Sealer) -> Sealed | None:
        """Write what was appended under one checkpoint; None where nothing was.

        Raises:
            StoreUnavailableError: The sealer cannot sign; nothing may be committed.
        """
        if not self._leaves:
            return None
        tail, shard, leaves = self._tail, self.shard, tuple(self._leaves)
        hashes = [leaf_hash(leaf) for leaf in leaves]
        extension = extend(tail.frontier, hashes)
        frontier = extension.frontier
        try:
            root = sealer.seal(shard.origin, frontier.size, extension.root)
        except Exception as exc:  # a signer may be anything; whatever it says, nothing is signed
            raise StoreUnavailableError(f"the ledger could not be sealed: {exc}") from exc
        unfinished, full = fill_tiles(tail.unfinished, extension, hashes)
        start, number = extension.start, shard.number
        self._db.many(_ADD_ENTRIES, [(number, at, leaf) for at, leaf in enumerate(leaves, start)])
        if full:
            self._db.many(
                _ADD_TILES,
                [(number, one.level, one.number, one.root, b"".join(one.hashes)) for one in full],
            )
        signed = (root.checkpoint, root.protected, root.signature)
        self._db.many(_ADD_CHECKPOINT, [(number, frontier.size, extension.root, *signed)])
        after = replace(tail, frontier=frontier, unfinished=unfinished, checkpoint=root.checkpoint)
        return Sealed(after, root, extension, leaves)


def month_of(now: int) -> str:
    """Return the month of a time, ``YYYY-MM`` (UTC)."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")
