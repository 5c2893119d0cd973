"""The ``LedgerReader`` on SQL; see ``bootlease.ports`` for what each method promises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.ports import Shard
from bootlease.store import ledgerreads
from bootlease.store.aside import Aside
from bootlease.store.connection import Connection
from bootlease.store.writer import Writer

_LASTS: Final = 1.0
"""Seconds after which the list of shards is read again though nothing was written here."""


@dataclass(frozen=True, slots=True)
class _Listed:
    shards: Sequence[Shard]
    commits: int
    until: float


class SQLLedger:
    """What the ledger publishes.

    Args:
        aside: Reads, for nothing else.
        writer: Keeps cosignatures.
    """

    def __init__(self, aside: Aside, writer: Writer) -> None:
        self._aside = aside
        self._writer = writer
        self._listed: _Listed | None = None

    async def shards(self) -> Sequence[Shard]:
        """See ``LedgerReader``."""
        # Every request names a shard: the list is read once for all of them until a commit.
        known = self._known()
        return await self._aside.read(self._list) if known is None else known

    async def checkpoint(self, shard: int, *, size: int | None = None) -> bytes | None:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.checkpoint, shard, size=size)

    async def cosigned_checkpoint(self, shard: int) -> bytes | None:
        """Return the largest checkpoint that a witness has signed, with all its cosignatures."""
        return await self._aside.read(ledgerreads.cosigned_checkpoint, shard)

    async def tile(self, shard: int, level: int, number: int, width: int) -> bytes | None:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.tile, shard, level, number, width)

    async def entries(self, shard: int, start: int, end: int) -> Sequence[bytes]:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.entries_between, shard, start, end)

    async def inclusion(self, shard: int, index: int, size: int) -> Sequence[bytes] | None:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.inclusion, shard, index, size)

    async def consistency(self, shard: int, old: int, new: int) -> Sequence[bytes] | None:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.consistency, shard, old, new)

    async def position(self, record: bytes) -> tuple[int, int, int] | None:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.position, record)

    async def add_cosignature(self, shard: int, size: int, *, name: str, line: bytes) -> None:
        """See ``LedgerReader``."""
        await self._writer.submit(ledgerreads.add_cosignature, shard, size, name=name, line=line)

    async def governance_record(self, digest: bytes) -> bytes | None:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.governance_record, digest)

    def _known(self) -> Sequence[Shard] | None:
        listed = self._listed
        if listed is None or listed.commits != self._writer.commits:
            return None
        return listed.shards if time.monotonic() < listed.until else None

    def _list(self, db: Connection) -> Sequence[Shard]:
        # Whoever waited meanwhile finds what the first one has read.
        known = self._known()
        if known is None:
            commits, until = self._writer.commits, time.monotonic() + _LASTS
            known = ledgerreads.all_shards(db)
            self._listed = _Listed(known, commits, until)
        return known
