"""``ContinuityStore`` on SQL: what ended before its time."""

from __future__ import annotations

from collections.abc import Sequence

from bootlease.ports import RecentGrants, StoredGrant, StoredPolicy, StoredRevocation
from bootlease.store import revocations
from bootlease.store.aside import Aside
from bootlease.store.writer import Writer


class SQLContinuity:
    """Implements ``bootlease.ports.ContinuityStore``; see there for what each method promises.

    Args:
        reader: Reads on a thread of its own.
        writer: Commits.
    """

    def __init__(self, reader: Aside, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def reserve_block(self) -> int:
        """See ``ContinuityStore``."""
        return await self._writer.submit(revocations.reserve_block)

    async def add_revocation(self, revocation: StoredRevocation) -> bool:
        """See ``ContinuityStore``."""
        return await self._writer.submit_recorded(
            revocation.at, lambda db, to: revocations.add(db, to, revocation)
        )

    async def revocations(self) -> Sequence[StoredRevocation]:
        """See ``ContinuityStore``."""
        return await self._reader.read(revocations.revocations_of)

    async def end_lineages(self, lineages: Sequence[tuple[bytes, bytes | None]]) -> None:
        """See ``ContinuityStore``."""
        if lineages:
            await self._writer.submit(revocations.end_lineages, lineages)

    async def latest_policies(self, *, at_most: int) -> Sequence[StoredPolicy]:
        """See ``ContinuityStore``."""
        return await self._reader.read(revocations.latest_policies, at_most=at_most)

    async def recent_grants(self, *, kept: int, step: int) -> RecentGrants:
        """See ``ContinuityStore``."""
        return await self._reader.read(revocations.recent_grants, kept=kept, step=step)

    async def live_grants(self, *, since: int, now: int) -> Sequence[StoredGrant]:
        """See ``ContinuityStore``."""
        return await self._reader.read(revocations.live_grants, since=since, now=now)
