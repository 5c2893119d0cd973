"""Ids of leases, each with a place in the status list of its own for as long as it may live.

A lease id is 12 random bytes and the index, 4 bytes big-endian. Indexes are taken in turn from a
ring; a block of them is counted in the store before the first is used, so that a verifier that
starts again takes none that one before it may have given away. What a killed verifier had left of
its block is never used.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from bootlease.ports import Store
from bootlease.token.claimparts import STATUS_INDEX_BYTES
from bootlease.token.statuslist import STATUS_RING
from bootlease.verifier.continuity.live import LiveLeases
from bootlease.verifier.problems import ProblemError, ProblemKind

BLOCK: Final = 16_384
"""Indexes in a block: one write to the store for so many leases."""
_RANDOM_BYTES: Final = 12
_BATCH: Final = 256
"""Ids for which the system is asked for randomness at once."""


class Indexes:
    """Hands out lease ids.

    Args:
        store: Counts blocks.
        live: Knows which indexes are taken.
    """

    def __init__(self, store: Store, live: LiveLeases) -> None:
        self._store = store
        self._live = live
        self._next = self._end = 0
        self._reserving = asyncio.Lock()
        self._random = b""
        self._drawn = 0

    async def lease_ids(self, count: int, now: int) -> list[bytes]:
        """Return fresh lease ids.

        Args:
            count: How many.
            now: Seconds since the epoch.

        Raises:
            ProblemError: The ring has come round to a lease that may still live.
        """
        self._live.tidy(now)
        lease_ids = []
        for _ in range(count):
            while self._next == self._end:
                await self._reserve()
            lease_ids.append(self._lease_id())
        return lease_ids

    def _lease_id(self) -> bytes:
        index = self._next % STATUS_RING
        # A bit that stood for two leases would end the one with the other.
        if not self._live.is_free(index):
            raise ProblemError(
                ProblemKind.BUSY,
                "More leases live than the status list has places for.",
                retry_after=1,
            )
        self._next += 1
        start = self._drawn
        if start == len(self._random):
            start, self._random = 0, secrets.token_bytes(_RANDOM_BYTES * _BATCH)
        self._drawn = start + _RANDOM_BYTES
        return self._random[start : self._drawn] + index.to_bytes(STATUS_INDEX_BYTES)

    async def _reserve(self) -> None:
        # Those who come with the first one wait for its block, and count none of their own.
        async with self._reserving:
            if self._next == self._end:
                block = await self._store.continuity.reserve_block()
                self._next, self._end = block * BLOCK, (block + 1) * BLOCK
