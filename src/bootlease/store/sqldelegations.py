"""``DelegationStore`` on SQL: one child for each grant."""

from __future__ import annotations

from collections.abc import Sequence

from bootlease.ports import (
    LiveDelegation,
    NewDelegation,
    StoredDelegation,
    StoreUnavailableError,
)
from bootlease.store import delegations
from bootlease.store.aside import Aside
from bootlease.store.writer import Writer


class SQLDelegations:
    """Implements ``bootlease.ports.DelegationStore``; see there for what each method promises.

    Args:
        reader: Reads on a thread of its own.
        writer: Commits.
    """

    def __init__(self, reader: Aside, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def given(self, use: bytes) -> StoredDelegation | None:
        """See ``DelegationStore``."""
        return await self._reader.read(delegations.given, use)

    async def commit(self, new: NewDelegation) -> StoredDelegation:
        """See ``DelegationStore``."""
        await self._writer.submit_recorded(new.now, lambda db, to: delegations.add(db, to, new))
        # The receipt follows from the seal, which is made when all jobs of the group are done.
        stored = await self.given(new.use)
        if stored is None:
            raise StoreUnavailableError("a delegation that was recorded is not there")
        return stored

    async def live(self, *, now: int) -> Sequence[LiveDelegation]:
        """See ``DelegationStore``."""
        return await self._reader.read(delegations.live, now=now)
