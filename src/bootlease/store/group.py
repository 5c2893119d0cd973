"""One transaction for all who wait: jobs, decisions, one seal, answers, commit.

The order is what makes an answer true before it is given:

1. ordinary jobs, each inside a savepoint, so that one that fails takes nothing of its neighbours
   with it; a job may append governance records;
2. decisions, compared and written together;
3. one seal over all leaves: root, checkpoint, the signature under every receipt;
4. the answers, made with their receipts, and stored;
5. COMMIT. Nobody learns anything before it has returned.

A failure from 2 on cannot be undone for one decision alone: its leaf is in the sealed tree. Then
nothing is committed, the seal is forgotten, and everything is done again one by one, so that only
the culprit fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bootlease.ports import (
    CommitOutcome,
    Committed,
    InForce,
    Sealer,
    StoredAnswer,
    StoreUnavailableError,
)
from bootlease.store.appender import Appender, Sealed
from bootlease.store.commits import Prepared, answer_all, judge_all, record_all
from bootlease.store.inforce import numbers_in_force
from bootlease.store.tail import Tail, load_tail

if TYPE_CHECKING:
    from bootlease.store.connection import Connection


@dataclass(slots=True)
class Job:
    """Work for the writing connection.

    Attributes:
        work: What to do, given the connection and where leaves go.
        now: Time of what the job appends to the ledger, or None where it appends nothing.
        result: What came of it.
        error: Why nothing came of it.
        settled: One of the two stands, whatever becomes of the rest of the group.
    """

    work: Callable[[Connection, Appender], Any]
    now: int | None = None
    result: Any = None
    error: BaseException | None = None
    settled: bool = False


@dataclass(slots=True)
class DecisionJob:
    """A decision to commit.

    Attributes:
        prepared: The decision.
        result: What came of it.
        error: Why nothing came of it.
        settled: One of the two stands, whatever becomes of the rest of the group.
    """

    prepared: Prepared
    result: Committed | None = None
    error: BaseException | None = None
    settled: bool = False

    @property
    def now(self) -> int:
        """Time of what is appended to the ledger."""
        return self.prepared.commit.now


AnyJob = Job | DecisionJob

_OF_THE_JOB: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
"""What SQLite says of a statement; the rest (full disk, corrupt file) it says of the database."""


def _of_the_job(exc: Exception) -> bool:
    if isinstance(exc, StoreUnavailableError):
        return False
    return not isinstance(exc, sqlite3.Error) or isinstance(exc, _OF_THE_JOB)


class GroupCommit:
    """Commits groups of jobs on one connection and remembers where the ledger ends.

    Args:
        db: The writing connection; nobody else uses it.
        sealer: Signs for the ledger.
        prefix: What the origins of its shards begin with.
    """

    def __init__(self, db: Connection, sealer: Sealer, prefix: str) -> None:
        self._db = db
        self._sealer = sealer
        self._prefix = prefix
        self._tail: Tail | None = None
        self._seen: int | None = None

    def commit(self, group: Sequence[AnyJob]) -> None:
        """Do all jobs and make them durable; each has its result or its error afterwards.

        Raises:
            sqlite3.Error: The database refused. Nothing is committed, and the connection is not
                to be used again.
            StoreUnavailableError: The ledger cannot be continued, or not be signed; likewise.
        """
        try:
            self._transact(group)
        except Exception as exc:
            if not _of_the_job(exc):
                raise
            self._roll_back()
            if len(group) > 1:
                for job in group:
                    job.result = job.error = None
                    self.commit([job])
                return
            group[0].error = exc
        for job in group:
            job.settled = True

    def _transact(self, group: Sequence[AnyJob]) -> None:
        self._db.command("BEGIN IMMEDIATE")
        ledger = Appender(self._db, self._last())
        times = [job.now for job in group if job.now is not None]
        if times:
            ledger.open_shard_of(max(times), self._prefix)
        in_force = ledger.tail.in_force
        for job in group:
            if isinstance(job, Job):
                self._attempt(job, ledger)
                # Whatever appends to the ledger may have changed what the operator decided.
                if job.now is not None:
                    in_force = numbers_in_force(self._db)
        jobs = [job for job in group if isinstance(job, DecisionJob)]
        accepted = self._decide(jobs, ledger, in_force)
        sealed = ledger.seal(self._sealer)
        if sealed is not None:
            self._answer(accepted, sealed)
        self._db.command("COMMIT")
        tail = ledger.tail if sealed is None else sealed.tail
        self._tail = tail.after(len(accepted), in_force)

    def _last(self) -> Tail:
        # Another process may have written since: a restore, or a second verifier by mistake.
        version = self._db.rows_of("PRAGMA data_version")[0][0]
        if self._tail is None or version != self._seen:
            self._tail, self._seen = load_tail(self._db), version
        return self._tail

    def _attempt(self, job: Job, ledger: Appender) -> None:
        mark = ledger.mark()
        self._db.command("SAVEPOINT job")
        try:
            job.result = job.work(self._db, ledger)
        except Exception as exc:  # whatever is wrong with one job is no reason to stop for all
            if not _of_the_job(exc):
                raise
            self._db.command("ROLLBACK TO job")
            ledger.back_to(mark)
            job.error = exc
        self._db.command("RELEASE job")

    def _decide(
        self, jobs: Sequence[DecisionJob], ledger: Appender, in_force: InForce
    ) -> list[tuple[DecisionJob, int]]:
        """Return the decisions that are committed, with the positions of their first leaves."""
        accepted: list[tuple[DecisionJob, int]] = []
        requests: set[bytes] = set()
        for turn in _turns(jobs):
            outcomes = judge_all(self._db, in_force, [job.prepared for job in turn])
            taken = []
            for job, outcome in zip(turn, outcomes, strict=True):
                if outcome is CommitOutcome.COMMITTED:
                    taken.append(job)
                    continue
                # Its twin in this group has no answer yet, but will have one.
                twin = job.prepared.commit.request in requests and outcome is CommitOutcome.SPENT
                job.result = Committed(CommitOutcome.ANSWERED if twin else outcome)
            after = ledger.tail.decisions + len(accepted)
            group = [job.prepared for job in taken]
            positions = record_all(self._db, ledger, group, after=after)
            accepted += zip(taken, positions, strict=True)
            requests |= {job.prepared.commit.request for job in taken}
        return accepted

    def _answer(self, accepted: Sequence[tuple[DecisionJob, int]], sealed: Sealed) -> None:
        commits = [job.prepared.commit for job, _ in accepted]
        bodies = [
            commit.finish(sealed.receipts(position, len(commit.claims) or 1))
            for commit, (_, position) in zip(commits, accepted, strict=True)
        ]
        answer_all(self._db, commits, bodies)
        for (job, _), body in zip(accepted, bodies, strict=True):
            answer = StoredAnswer(granted=job.prepared.commit.granted, body=body)
            job.result = Committed(CommitOutcome.COMMITTED, answer)

    def _roll_back(self) -> None:
        # SQLite itself may have rolled back already.
        if self._db.dbapi.in_transaction:
            self._db.command("ROLLBACK")


def _turns(jobs: Sequence[DecisionJob]) -> list[list[DecisionJob]]:
    """Part decisions so that none of a turn rests on what another of it changes."""
    turns: list[list[DecisionJob]] = []
    reached: dict[bytes, int] = {}
    for job in jobs:
        node = job.prepared.commit.node
        turn = reached.get(node, 0)
        if turn == len(turns):
            turns.append([])
        turns[turn].append(job)
        reached[node] = turn + 1
    return turns
