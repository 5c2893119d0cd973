"""The ``Store`` on SQL: which connection and which thread each question goes to.

Point reads of the hot path run on the caller's thread: in WAL mode they take microseconds and wait
for nobody. Reads that may be large go to a thread of their own. Writes go to the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from bootlease.endorsement import Enrolment
from bootlease.evidence import Challenge
from bootlease.ports import (
    Activated,
    CommitOutcome,
    DecisionCommit,
    EnrolledNode,
    Governance,
    PendingEnrolment,
    StoredAnswer,
    StoredChallenge,
    StoredDecision,
    StoredLineage,
    StoredPolicy,
    StoredReference,
    StoreUnavailableError,
)
from bootlease.store import decisions, enrolments, registry
from bootlease.store.connection import Connection
from bootlease.store.database import Database
from bootlease.store.writer import Writer

T = TypeVar("T")
P = ParamSpec("P")
Job = Callable[Concatenate[Connection, P], T]


class SQLStore:
    """Implements ``bootlease.ports.Store``; see there for what each method promises.

    Args:
        database: A migrated database.
    """

    def __init__(self, database: Database) -> None:
        self._reader = database.connect(read_only=True)
        self._slow_reader = database.connect(read_only=True)
        self._slow_lock = threading.Lock()
        self._writer = Writer(partial(database.connect, read_only=False))

    @classmethod
    def open(cls, path: Path) -> SQLStore:
        """Open the database at ``path``, made or migrated as needed.

        Raises:
            StoreUnavailableError: It cannot be opened, or a newer version wrote it.
        """
        database = Database(path)
        database.migrate()
        return cls(database)

    def close(self) -> None:
        """Finish the writes that wait and close the connections."""
        self._writer.close()
        self._reader.close()
        with self._slow_lock:
            self._slow_reader.close()

    def _read(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return job(self._reader, *args, **kwargs)
        except sqlite3.Error as exc:
            raise StoreUnavailableError(f"the database refused: {exc}") from exc

    async def _read_aside(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> T:
            with self._slow_lock:
                return job(self._slow_reader, *args, **kwargs)

        try:
            return await asyncio.to_thread(run)
        except sqlite3.Error as exc:
            raise StoreUnavailableError(f"the database refused: {exc}") from exc

    async def _write(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._writer.submit(lambda db: job(db, *args, **kwargs))

    async def add_pending(self, pending: PendingEnrolment, *, now: int, at_most: int) -> None:
        """See ``Store``."""
        await self._write(enrolments.add_pending, pending, now=now, at_most=at_most)

    async def activate(
        self, enrolment: bytes, secret_digest: bytes, *, now: int
    ) -> tuple[Activated, bytes | None]:
        """See ``Store``."""
        return await self._write(enrolments.activate, enrolment, secret_digest, now=now)

    async def node(self, node: bytes) -> EnrolledNode | None:
        """See ``Store``."""
        return self._read(enrolments.node, node)

    async def enrolment(self, digest: bytes) -> Enrolment | None:
        """See ``Store``."""
        return await self._read_aside(enrolments.record, digest)

    async def nodes(self, *, after: bytes, at_most: int) -> Sequence[EnrolledNode]:
        """See ``Store``."""
        return await self._read_aside(enrolments.all_nodes, after=after, at_most=at_most)

    async def add_challenge(self, challenge: Challenge, *, now: int, at_most: int) -> bool:
        """See ``Store``."""
        return await self._write(decisions.add_challenge, challenge, now=now, at_most=at_most)

    async def challenge(self, nonce: bytes) -> StoredChallenge | None:
        """See ``Store``."""
        return self._read(decisions.challenge, nonce)

    async def lineage(self, node: bytes) -> StoredLineage:
        """See ``Store``."""
        return self._read(decisions.lineage, node)

    async def log(self, digest: bytes) -> bytes | None:
        """See ``Store``."""
        return await self._read_aside(decisions.blob, digest)

    async def evidence(self, digest: bytes) -> bytes | None:
        """See ``Store``."""
        return await self._read_aside(decisions.evidence_document, digest)

    async def answer(self, node: bytes, evidence: bytes, *, now: int) -> StoredAnswer | None:
        """See ``Store``."""
        return self._read(decisions.answer, node, evidence, now=now)

    async def commit_decision(self, commit: DecisionCommit) -> CommitOutcome:
        """See ``Store``."""
        packed: dict[bytes, bytes] = {}
        if commit.logs:
            packed = await self._read_aside(decisions.packed_logs, commit)
        return await self._write(decisions.commit, commit, packed)

    async def decision(self, digest: bytes) -> StoredDecision | None:
        """See ``Store``."""
        return await self._read_aside(decisions.decision, digest)

    async def decisions_of(self, node: bytes, *, at_most: int) -> Sequence[StoredDecision]:
        """See ``Store``."""
        return await self._read_aside(decisions.decisions_of, node, at_most=at_most)

    async def governance(self) -> Governance:
        """See ``Store``."""
        return self._read(registry.governance)

    async def activate_policy(self, policy: StoredPolicy) -> bool:
        """See ``Store``."""
        return await self._write(registry.activate_policy, policy)

    async def policy(self) -> StoredPolicy | None:
        """See ``Store``."""
        return self._read(registry.policy)

    async def add_reference(self, reference: StoredReference) -> bool:
        """See ``Store``."""
        return await self._write(registry.add_reference, reference)

    async def references(self) -> Sequence[StoredReference]:
        """See ``Store``."""
        return await self._read_aside(registry.references)

    async def add_root(self, certificate: bytes, *, now: int) -> bool:
        """See ``Store``."""
        return await self._write(registry.add_root, certificate, now=now)

    async def roots(self) -> Sequence[bytes]:
        """See ``Store``."""
        return self._read(registry.roots_of)

    async def add_join_token(self, digest: bytes, *, now: int, expires_at: int) -> None:
        """See ``Store``."""
        await self._write(enrolments.add_join_token, digest, now=now, expires_at=expires_at)

    async def join_token_admits(self, digest: bytes, node: bytes, *, now: int) -> bool:
        """See ``Store``."""
        return self._read(enrolments.join_token_admits, digest, node, now=now)

    async def add_credential(self, digest: bytes, *, label: str, now: int) -> None:
        """See ``Store``."""
        await self._write(registry.add_credential, digest, label=label, now=now)

    async def credentials(self) -> Sequence[bytes]:
        """See ``Store``."""
        return self._read(registry.credential_digests)

    async def check(self) -> None:
        """See ``Store``."""
        self._writer.check()
        self._read(registry.policy)

    async def sweep(self, *, now: int) -> None:
        """See ``Store``."""
        await self._write(enrolments.sweep, now=now)
        await self._write(decisions.sweep, now=now)
