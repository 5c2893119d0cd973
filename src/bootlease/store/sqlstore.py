"""The ``Store`` on SQL: which connection and which thread each question goes to.

Point reads of the hot path run on the caller's thread: in WAL mode they take microseconds and wait
for nobody. Reads that may be large go to a thread of their own. Writes go to the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from bootlease.endorsement import Enrolment
from bootlease.evidence import Challenge
from bootlease.explain import LookingBack, gather
from bootlease.ledger import GovernanceDetail
from bootlease.ports import (
    Activated,
    Committed,
    DecisionCommit,
    EnrolledNode,
    InForce,
    PendingEnrolment,
    Role,
    Sealer,
    Standing,
    StoredAnswer,
    StoredChallenge,
    StoredCredential,
    StoredDecision,
    StoredLineage,
    StoredPolicy,
    StoredReference,
    StoreUnavailableError,
)
from bootlease.store import (
    backup,
    credentials,
    decisions,
    enrolments,
    operators,
    proposals,
    registry,
    retention,
    transfer,
)
from bootlease.store.aside import Aside, Job, P
from bootlease.store.auditreader import AuditReader, lease_proof
from bootlease.store.commits import Prepared, packed_logs
from bootlease.store.connection import Connection
from bootlease.store.database import Database
from bootlease.store.inforce import numbers_in_force
from bootlease.store.retention import Pruned
from bootlease.store.sqlcontinuity import SQLContinuity
from bootlease.store.sqldelegations import SQLDelegations
from bootlease.store.sqlledger import SQLLedger
from bootlease.store.sqloperators import SQLOperators
from bootlease.store.streams import SQLEventStreams, drop_aged
from bootlease.store.tail import load_tail
from bootlease.store.wal import WALKeeper
from bootlease.store.writer import Writer

T = TypeVar("T")


class SQLStore:
    """Implements ``bootlease.ports.Store``; see there for what each method promises.

    Args:
        database: A migrated database.
        sealer: Signs for the ledger.
        prefix: What the origins of the ledger's shards begin with.
    """

    def __init__(self, database: Database, sealer: Sealer, prefix: str) -> None:
        self._database = database
        self._reader = database.connect(read_only=True)
        try:
            # A ledger that was altered is refused here, not at the first decision.
            self._read(load_tail).demand_of(prefix)
        except StoreUnavailableError:
            self._reader.close()
            raise
        self._aside = Aside(database.connect(read_only=True))
        writable = partial(database.connect, read_only=False)
        self._wal = WALKeeper(writable)
        self._writer = Writer(writable, sealer, prefix, after_commit=self._wal.after_commit)
        self._published = Aside(database.connect(read_only=True))
        self._ledger = SQLLedger(self._published, self._writer)
        self._streams = SQLEventStreams(self._published, self._writer)
        self._operators = SQLOperators(self._aside, self._writer)
        self._continuity = SQLContinuity(self._aside, self._writer)
        self._delegations = SQLDelegations(self._aside, self._writer)

    @classmethod
    def open(cls, path: Path, sealer: Sealer, prefix: str) -> SQLStore:
        """Open the database at ``path``, made or migrated as needed.

        Args:
            path: The file.
            sealer: Signs for the ledger.
            prefix: What the origins of the ledger's shards begin with: the issuer without scheme,
                and ``/ledger``.

        Raises:
            StoreUnavailableError: It cannot be opened, a newer version wrote it, or its ledger is
                another's or was altered.
        """
        database = Database(path)
        database.migrate()
        return cls(database, sealer, prefix)

    @property
    def ledger(self) -> SQLLedger:
        """See ``Store``."""
        return self._ledger

    @property
    def operators(self) -> SQLOperators:
        """See ``Store``."""
        return self._operators

    @property
    def delegations(self) -> SQLDelegations:
        """See ``Store``."""
        return self._delegations

    @property
    def continuity(self) -> SQLContinuity:
        """See ``Store``."""
        return self._continuity

    @property
    def streams(self) -> SQLEventStreams:
        """See ``Store``."""
        return self._streams

    def close(self) -> None:
        """Finish the writes that wait and close the connections."""
        self._writer.close()
        self._wal.close()
        self._reader.close()
        self._aside.close()
        self._published.close()

    def _read(self, job: Job[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return job(self._reader, *args, **kwargs)
        except sqlite3.Error as exc:
            raise StoreUnavailableError(f"the database refused: {exc}") from exc

    async def add_pending(self, pending: PendingEnrolment, *, now: int, at_most: int) -> None:
        """See ``Store``."""
        await self._writer.submit(enrolments.add_pending, pending, now=now, at_most=at_most)

    async def activate(
        self, enrolment: bytes, secret_digest: bytes, *, now: int
    ) -> tuple[Activated, bytes | None]:
        """See ``Store``."""
        return await self._writer.submit_recorded(
            now, lambda db, to: operators.activate(db, to, enrolment, secret_digest, now=now)
        )

    async def node(self, node: bytes) -> EnrolledNode | None:
        """See ``Store``."""
        return self._read(enrolments.node, node)

    async def standing(self, node: bytes, request: bytes, *, now: int) -> Standing:
        """See ``Store``."""
        return self._read(enrolments.standing, node, request, now=now)

    async def enrolment(self, digest: bytes) -> Enrolment | None:
        """See ``Store``."""
        return await self._aside.read(enrolments.record, digest)

    async def nodes(self, *, after: bytes, at_most: int) -> Sequence[EnrolledNode]:
        """See ``Store``."""
        return await self._aside.read(enrolments.all_nodes, after=after, at_most=at_most)

    async def add_challenge(self, challenge: Challenge, *, now: int, at_most: int) -> bool:
        """See ``Store``."""
        return await self._writer.submit(
            decisions.add_challenge, challenge, now=now, at_most=at_most
        )

    async def challenge(self, nonce: bytes) -> StoredChallenge | None:
        """See ``Store``."""
        return self._read(decisions.challenge, nonce)

    async def lineage(self, node: bytes) -> StoredLineage:
        """See ``Store``."""
        return self._read(decisions.lineage, node)

    async def log(self, digest: bytes) -> bytes | None:
        """See ``Store``."""
        return await self._aside.read(decisions.blob, digest)

    async def evidence(self, digest: bytes) -> bytes | None:
        """See ``Store``."""
        return await self._aside.read(decisions.evidence_document, digest)

    async def answer(self, node: bytes, evidence: bytes, *, now: int) -> StoredAnswer | None:
        """See ``Store``."""
        return self._read(decisions.answer, node, evidence, now=now)

    async def commit_decision(self, commit: DecisionCommit) -> Committed:
        """See ``Store``."""
        packed: Mapping[bytes, bytes] = {}
        if commit.logs:
            packed = await self._aside.read(packed_logs, commit)
        return await self._writer.decide(Prepared(commit, packed))

    async def decision(self, digest: bytes) -> StoredDecision | None:
        """See ``Store``."""
        return await self._aside.read(decisions.decision, digest)

    async def decisions_of(self, node: bytes, *, at_most: int) -> Sequence[StoredDecision]:
        """See ``Store``."""
        return await self._aside.read(decisions.decisions_of, node, at_most=at_most)

    async def in_force(self) -> InForce:
        """See ``Store``."""
        return self._read(numbers_in_force)

    async def activate_policy(
        self, policy: StoredPolicy, *, author: str, revoke_now: bool = False
    ) -> bool:
        """See ``Store``."""
        return await self._writer.submit_recorded(
            policy.activated_at,
            lambda db, to: registry.activate_policy(
                db, to, policy, author=author, revoke_now=revoke_now
            ),
        )

    async def policy(self) -> StoredPolicy | None:
        """See ``Store``."""
        return self._read(registry.policy)

    async def add_reference(self, reference: StoredReference, *, author: str) -> bool:
        """See ``Store``."""
        return await self._writer.submit_recorded(
            reference.registered_at,
            lambda db, to: registry.add_reference(db, to, reference, author=author),
        )

    async def references(self) -> Sequence[StoredReference]:
        """See ``Store``."""
        return await self._aside.read(registry.references)

    async def add_root(self, certificate: bytes, *, now: int, author: str) -> bool:
        """See ``Store``."""
        return await self._writer.submit_recorded(
            now, lambda db, to: registry.add_root(db, to, certificate, now=now, author=author)
        )

    async def roots(self) -> Sequence[bytes]:
        """See ``Store``."""
        return self._read(registry.roots_of)

    async def add_join_token(
        self,
        digest: bytes,
        *,
        now: int,
        expires_at: int,
        author: str,
        labels: Sequence[str] = (),
        replaces: bytes | None = None,
    ) -> None:
        """See ``Store``."""
        await self._writer.submit_recorded(
            now,
            lambda db, to: enrolments.add_join_token(
                db,
                to,
                digest,
                now=now,
                expires_at=expires_at,
                author=author,
                labels=labels,
                replaces=replaces,
            ),
        )

    async def join_token_admits(self, digest: bytes, node: bytes, *, now: int) -> bool:
        """See ``Store``."""
        return self._read(enrolments.join_token_admits, digest, node, now=now)

    async def add_credential(
        self,
        digest: bytes,
        *,
        label: str,
        now: int,
        author: str,
        roles: Sequence[Role],
        maker: bytes | None = None,
        joint: bool = False,
    ) -> None:
        """See ``Store``."""
        new = StoredCredential(digest, label, tuple(roles), now, maker, joint)
        await self._writer.submit_recorded(
            now, lambda db, to: credentials.add_credential(db, to, new, author=author)
        )

    async def credentials(self) -> Sequence[StoredCredential]:
        """See ``Store``."""
        return self._read(credentials.credentials_of)

    async def record_event(
        self, kind: str, details: Mapping[str, GovernanceDetail], *, now: int, author: str
    ) -> None:
        """See ``Store``."""
        await self._writer.submit_recorded(
            now, lambda _, to: to.record(kind, details, author=author, now=now)
        )

    async def prune(self, *, before: int, now: int, author: str) -> Pruned:
        """Delete evidence and logs that only decisions before a time need; see ``retention``.

        Args:
            before: Decisions of this second and later keep all they need.
            now: Seconds since the epoch.
            author: Who prunes.

        Raises:
            ValueError: ``before`` lies in the future.
        """
        if before > now:
            raise ValueError("what is to be decided yet cannot be too old")
        plan = await self._with_own_connection(partial(retention.plan, before=before))
        if not plan.documents and not plan.logs:
            return Pruned(0, 0)
        await self._writer.submit_recorded(
            now, lambda db, to: retention.announce(db, to, plan, now=now, author=author)
        )
        documents = [
            await self._writer.submit(retention.delete_documents, batch)
            for batch in retention.batches(plan.documents)
        ]
        logs = [
            await self._writer.submit(retention.delete_logs, batch, last=plan.last)
            for batch in retention.batches(plan.logs)
        ]
        return Pruned(sum(documents), sum(logs))

    async def back_up(self, target: Path) -> None:
        """Copy the database, while it is in use, to a new file of mode 0600; see ``backup``."""
        await self._with_own_connection(partial(backup.back_up, target=target))

    async def lease_proof(self, lease_id: bytes) -> bytes | None:
        """See ``Store``."""

        def work(connection: Connection) -> bytes | None:
            proof = lease_proof(AuditReader(connection), lease_id)
            return None if proof is None else proof.encode()

        return await self._with_own_connection(work)

    async def explanation_pieces(self, name: bytes) -> tuple[bytes, bytes] | None:
        """See ``Store``."""

        def work(connection: Connection) -> tuple[bytes, bytes] | None:
            reader = AuditReader(connection)
            with reader.snapshot():
                digest = reader.latest_of(name) or name
                if reader.decision(digest) is None:
                    return None
                return digest, gather(digest, LookingBack(reader))

        return await self._with_own_connection(work)

    async def export(self, target: Path) -> int:
        """Write everything append-only to a new file; return the number of rows."""
        return await self._with_own_connection(partial(transfer.export, target=target))

    async def _with_own_connection(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            connection = self._database.connect(read_only=True)
            try:
                return work(connection)
            finally:
                connection.close()

        try:
            return await asyncio.to_thread(run)
        except sqlite3.Error as exc:
            raise StoreUnavailableError(f"the database refused: {exc}") from exc

    async def check(self) -> None:
        """See ``Store``."""
        self._writer.check()
        self._read(registry.policy)

    async def sweep(self, *, now: int) -> None:
        """See ``Store``."""
        await self._writer.submit(proposals.sweep, now=now)
        for sweep in (enrolments.sweep, decisions.sweep_challenges, decisions.sweep_answers):
            # In portions, between which decisions have their turn.
            while await self._writer.submit(sweep, now=now) == decisions.SWEPT_AT_ONCE:
                pass
        while await self._writer.submit(drop_aged, now=now):
            pass
