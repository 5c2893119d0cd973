"""Appraisal beside a loop that serves others: what takes long is judged on another thread.

Steps 4 and 5 of ``leasing``. How long is estimated from what came, before anything is done: the
length of the lists, and what policy is asked about. Only a few are judged aside at once, so that
threads are left for whatever else needs one. What runs there is pure; it shares nothing but the
memo of verdicts, which has a lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from bootlease.appraisal import (
    AppraisalCache,
    AttestationResult,
    BootLog,
    appraise,
    boot_log_of,
    verdict_known,
)
from bootlease.appraisal.leases import request_effort
from bootlease.evidence import IMA_LIST, TCG_LOG, VerifiedEvidence
from bootlease.ports import Store
from bootlease.verifier.answers import Case
from bootlease.verifier.bootlogs import BootLogs
from bootlease.verifier.registry import Snapshot

T = TypeVar("T")

_LONG_LIST: Final = 8 * 1024
"""Longest IMA list that is judged on the loop: some 60 entries take half a millisecond."""
_LONG_REQUEST: Final = 2000
"""Longest that policy may be asked there, in microseconds: as many wildcards as fit into evidence
take seconds where many policies look at the scope."""
_AT_ONCE: Final = 2


async def aside(work: Callable[[], T], *, when: bool) -> T:
    """Do ``work`` here, or on another thread where it may take long."""
    return await asyncio.to_thread(work) if when else work()


class Judging:
    """Judges verified evidence.

    Args:
        store: Has the boot logs that evidence names.
    """

    def __init__(self, store: Store) -> None:
        self._logs = BootLogs(store)
        self._verdicts = AppraisalCache(lock=threading.Lock())
        self._long = asyncio.Semaphore(_AT_ONCE)

    async def log(
        self, verified: VerifiedEvidence, snapshot: Snapshot, now: int, *, large: bool
    ) -> BootLog | None:
        """Return the boot log that evidence names; None where ``appraised`` needs none.

        Args:
            verified: The evidence.
            snapshot: What the operator has decided.
            now: Seconds since the epoch.
            large: The document is long.

        Raises:
            ProblemError: It did not come along, and is not in the store.
        """
        digest = verified.log_digests.get(TCG_LOG)
        if digest is None:
            return None
        banks = snapshot.policy.policy.quote.banks
        if large:
            return await asyncio.to_thread(boot_log_of, verified, banks)
        if verdict_known(self._verdicts, verified, snapshot.accepted, snapshot.policy, now=now):
            return None
        return await self._logs.of(verified, digest, banks)

    async def appraised(
        self, case: Case, log: BootLog | None, snapshot: Snapshot, *, large: bool
    ) -> AttestationResult:
        """Appraise evidence; see ``appraise``.

        Args:
            case: What is decided about.
            log: What ``log`` returned.
            snapshot: As given to ``log``.
            large: As given to ``log``.
        """

        def work() -> AttestationResult:
            return appraise(
                case.verified,
                log,
                challenge=case.challenge,
                prior=case.lineage.prior,
                high_water=case.node.high_water,
                enrolment=case.node.enrolment,
                roots=case.roots,
                references=snapshot.accepted,
                policy=snapshot.policy,
                now=case.now,
                ima_references=snapshot.accepted_ima,
                # A long document is judged aside, without the cache of verdicts.
                cache=None if large else self._verdicts,
            )

        rules, most = snapshot.policy.policy, _LONG_REQUEST
        short = (
            len(case.evidence.logs.get(IMA_LIST, b"")) <= _LONG_LIST
            and request_effort(case.verified.leases, rules, at_most=most) <= most
        )
        if short:
            return await aside(work, when=large)
        async with self._long:
            return await asyncio.to_thread(work)
