"""The ledger as those see it who read it: shards, checkpoints, tiles and entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bootlease.ledger import SealedRoot


class Sealer(Protocol):
    """Signs for the ledger."""

    def seal(self, origin: str, size: int, root: bytes) -> SealedRoot:
        """Sign a tree: its checkpoint, and its root for receipts."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One tree of the ledger.

    Attributes:
        number: 1 for the first.
        name: Its period, such as ``2026-11``.
        origin: First line of its checkpoints.
        size: Leaves so far.
        final: Another shard has followed; this one never grows again.
    """

    number: int
    name: str
    origin: str
    size: int
    final: bool


class LedgerReader(Protocol):
    """What the ledger publishes: digests and signatures, nothing that is secret.

    Every method may raise ``StoreUnavailableError``. A shard is named by its number.
    """

    async def shards(self) -> Sequence[Shard]:
        """Return every shard, the oldest first."""

    async def checkpoint(self, shard: int, *, size: int | None = None) -> bytes | None:
        """Return the checkpoint of a size, the latest by default, with its cosignatures."""

    async def cosigned_checkpoint(self, shard: int) -> bytes | None:
        """Return the largest checkpoint that a witness cosigned, with its cosignatures."""

    async def tile(self, shard: int, level: int, number: int, width: int) -> bytes | None:
        """Return the first ``width`` hashes of a tile, or None where there are fewer."""

    async def entries(self, shard: int, start: int, end: int) -> Sequence[bytes]:
        """Return leaves ``start`` to ``end`` (not included), those that there are."""

    async def inclusion(self, shard: int, index: int, size: int) -> Sequence[bytes] | None:
        """Return the path of a leaf in the tree of a size, or None where there is no such leaf."""

    async def consistency(self, shard: int, old: int, new: int) -> Sequence[bytes] | None:
        """Return the proof that the tree of one size begins that of another."""

    async def position(self, record: bytes) -> tuple[int, int, int] | None:
        """Return shard, index of the first leaf and number of leaves of a record."""

    async def add_cosignature(self, shard: int, size: int, *, name: str, line: bytes) -> None:
        """Keep a witness's cosignature line of a checkpoint."""

    async def governance_record(self, digest: bytes) -> bytes | None:
        """Return a governance record."""
