"""The ``LedgerReader`` on SQL; see ``bootlease.ports`` for what each method promises."""

from __future__ import annotations

from collections.abc import Sequence

from bootlease.ports import Shard
from bootlease.store import ledgerreads
from bootlease.store.aside import Aside
from bootlease.store.writer import Writer


class SQLLedger:
    """What the ledger publishes.

    Args:
        aside: Reads.
        writer: Keeps cosignatures.
    """

    def __init__(self, aside: Aside, writer: Writer) -> None:
        self._aside = aside
        self._writer = writer

    async def shards(self) -> Sequence[Shard]:
        """See ``LedgerReader``."""
        return await self._aside.read(ledgerreads.all_shards)

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
