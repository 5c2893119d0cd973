"""The boot logs that evidence names: those read before, those that came along, those in the store.

Nodes that booted alike name the same log, and a renewal names it without sending it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from bootlease.appraisal import BootLog, boot_log_of, read_boot_log
from bootlease.evidence import VerifiedEvidence
from bootlease.model import Finding, HashAlg
from bootlease.ports import Store
from bootlease.verifier.problems import ProblemError, ProblemKind

ASIDE: Final = 256 * 1024
"""Longer documents are parsed, hashed and replayed on another thread: the loop serves renewals."""
_REMEMBERED: Final = 256


class BootLogs:
    """Reads boot logs, and remembers some.

    Args:
        store: Where they are kept.
    """

    __slots__ = ("_known", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[bytes, tuple[HashAlg, ...]], BootLog] = OrderedDict()

    async def of(
        self, verified: VerifiedEvidence, digest: bytes, banks: tuple[HashAlg, ...]
    ) -> BootLog:
        """Return the log that evidence names.

        Args:
            verified: The evidence.
            digest: SHA-256 of the log, as it names it.
            banks: The banks to replay it in.

        Raises:
            ProblemError: It did not come along, and is not in the store.
        """
        known = self._known.get((digest, banks))
        if known is not None:
            self._known.move_to_end((digest, banks))
            return known
        log = boot_log_of(verified, banks)
        return await self._stored(digest, banks) if log is None else self._remember(log, banks)

    async def _stored(self, digest: bytes, banks: tuple[HashAlg, ...]) -> BootLog:
        data = await self._store.log(digest)
        if data is None:
            raise ProblemError(
                ProblemKind.LOG_WANTED,
                "The log that the evidence names is not at hand; send it in full.",
                findings=[
                    Finding(
                        "eventlog.unavailable",
                        "The event log that the evidence names is not at hand; send it in full.",
                        seen=digest.hex(),
                    )
                ],
            )
        if len(data) > ASIDE:
            return await asyncio.to_thread(read_boot_log, data, banks)
        return self._remember(read_boot_log(data, banks), banks)

    def _remember(self, log: BootLog, banks: tuple[HashAlg, ...]) -> BootLog:
        self._known[log.digest, banks] = log
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return log
