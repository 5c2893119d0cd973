"""The store keeps its promises: atomic, append-only, one use of a challenge."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import stat
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from bootlease.endorsement import Enrolment
from bootlease.evidence import Challenge
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import ClockInfo, HashAlg
from bootlease.ports import (
    Activated,
    CommitOutcome,
    DecisionCommit,
    Governance,
    PendingEnrolment,
    StoreBusyError,
    StoredAnswer,
    StoredPolicy,
    StoredReference,
    StoreUnavailableError,
)
from bootlease.store import Database, SQLStore
from bootlease.store.connection import Connection
from bootlease.store.tables import APPEND_ONLY, METADATA, settings

T = TypeVar("T")
NOW = 1_800_000_000
LIFE = 120
SECRET = b"s" * 32
PRIOR = Prior(b"r" * 32, b"h" * 32, 0, ClockInfo(1, 7, 0, safe=True), NOW + 120, {}, 1)


def run(make: Callable[[], Awaitable[T]]) -> T:
    """Run one async story."""

    async def story() -> T:
        return await make()

    return asyncio.run(story())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file."""
    return tmp_path / "verifier.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLStore]:
    """An open store."""
    opened = SQLStore.open(path)
    yield opened
    opened.close()


def enrolment(name: str = "a", ak: bytes = b"ak") -> Enrolment:
    """An enrolment record of a made-up TPM."""
    return Enrolment(
        node=hashlib.sha256(name.encode()).digest(),
        ek_public=b"ek-" + name.encode(),
        ek_digest=hashlib.sha256(b"spki-" + name.encode()).digest(),
        ak_public=ak,
        ak_name=b"\0\x0b" + hashlib.sha256(ak).digest(),
        endorsement=None,
        enrolled_at=0,
    )


def pending(
    record: Enrolment, *, join_token: bytes | None = None, epoch: int = 0
) -> PendingEnrolment:
    """A pending enrolment whose secret is ``SECRET``."""
    return PendingEnrolment(
        id=os.urandom(32),
        enrolment=record,
        ek_chain=(b"der",),
        secret_digest=hashlib.sha256(SECRET).digest(),
        join_token=join_token,
        policy_epoch=epoch,
        expires_at=NOW + 60,
    )


async def enrol(
    store: SQLStore, record: Enrolment, *, secret: bytes = SECRET, join_token: bytes | None = None
) -> Activated:
    """Enrol a node the way the service does."""
    waiting = pending(record, join_token=join_token)
    await store.add_pending(waiting, now=NOW, at_most=10)
    outcome, _ = await store.activate(waiting.id, hashlib.sha256(secret).digest(), now=NOW)
    return outcome


def challenge(node: bytes) -> Challenge:
    """A fresh challenge."""
    return Challenge(os.urandom(32), node, NOW, NOW + LIFE, {HashAlg.SHA256: (0, 1)})


MARK = HighWaterMark(7, 2, 5)
UNDECIDED = Governance(0, 0, 0)


def decision(
    question: Challenge,
    *,
    version: int = 0,
    generation: int = 1,
    governance: Governance = UNDECIDED,
) -> DecisionCommit:
    """A decision on made-up evidence; after the first, of a TPM that stood at ``MARK``."""
    record = os.urandom(40)
    return DecisionCommit(
        node=question.node,
        generation=generation,
        nonce=question.nonce,
        lineage_version=version,
        lineage=PRIOR,
        governance=governance,
        high_water=MARK if version else HighWaterMark(),
        counters=MARK,
        digest=hashlib.sha256(record).digest(),
        record=record,
        claims=(b"c" * 32,),
        request=hashlib.sha256(b"request" + record).digest(),
        evidence=hashlib.sha256(b"evidence" + record).digest(),
        document=b"document",
        logs={hashlib.sha256(b"log").digest(): b"log"},
        answer=StoredAnswer(granted=True, body=b"answer"),
        answer_expires_at=NOW + LIFE,
        next_challenge=challenge(question.node),
        now=NOW + 1,
    )


async def asked(store: SQLStore, record: Enrolment) -> Challenge:
    """An enrolled node with a challenge."""
    assert await enrol(store, record) is Activated.ENROLLED
    question = challenge(record.node)
    assert await store.add_challenge(question, now=NOW, at_most=4)
    return question


async def fill(store: SQLStore) -> None:
    """Put a row into every table that is append-only."""
    question = await asked(store, enrolment())
    await store.commit_decision(decision(question))
    await store.activate_policy(StoredPolicy(1, "p", b"d" * 32, b"text", NOW))
    await store.add_reference(StoredReference("r", b"d" * 32, b"text", NOW))


def test_migrations_make_exactly_the_tables_that_the_code_knows(path: Path) -> None:
    """The migrated schema and the metadata agree, column by column."""
    database = Database(path)
    database.migrate()
    database.migrate()
    with database.inspect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    """An unknown schema revision is not touched."""
    Database(path).migrate()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.commit()
    with pytest.raises(StoreUnavailableError, match="9999"):
        Database(path).migrate()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_append_only_rows_cannot_be_replaced(
    path: Path, store: SQLStore, table: str, recursive: str
) -> None:
    """INSERT OR REPLACE is an UPDATE in disguise, on a connection of anybody's making."""
    run(lambda: fill(store))
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(f"PRAGMA recursive_triggers = {recursive}")
        before = raw.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - a constant
        columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
        unique = [name for name in columns if name in {"number", "epoch", "digest"}]
        for same in ([name] for name in unique):
            # Everything as it was but the other columns that are unique.
            values = ", ".join(
                {"number": "number + 9", "digest": "randomblob(32)"}[name]
                if name in unique and name not in same and "epoch" not in unique
                else name
                for name in columns
            )
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(f"INSERT OR REPLACE INTO {table} SELECT {values} FROM {table}")  # noqa: S608
        raw.rollback()
        assert before
        assert raw.execute(f"SELECT * FROM {table}").fetchall() == before  # noqa: S608


def test_the_file_is_private_and_commits_survive_a_power_cut(path: Path) -> None:
    """Mode 0600, write-ahead log, full synchronisation, foreign keys."""
    database = Database(path)
    database.migrate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    connection = database.connect(read_only=False)
    with closing(connection.dbapi.cursor()) as cursor:
        values = {
            name: cursor.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "busy_timeout",
                "recursive_triggers",
            )
        }
    connection.close()
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
        "recursive_triggers": 1,
    }


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET digest = x'00'"])
def test_append_only_tables_forbid_change(
    path: Path, store: SQLStore, table: str, statement: str
) -> None:
    """Triggers stop an UPDATE and a DELETE of what was recorded."""
    run(lambda: fill(store))
    with (
        closing(sqlite3.connect(path)) as raw,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        raw.execute(statement.format(table))


def test_an_activation_enrols_once_and_only_with_the_secret(store: SQLStore) -> None:
    """One wrong secret, and the pending enrolment is gone for the right one too."""

    async def story() -> None:
        waiting = pending(enrolment())
        await store.add_pending(waiting, now=NOW, at_most=10)
        right = hashlib.sha256(SECRET).digest()
        wrong = await store.activate(waiting.id, b"x" * 32, now=NOW)
        assert wrong[0] is Activated.WRONG_SECRET
        assert (await store.activate(waiting.id, right, now=NOW))[0] is Activated.UNKNOWN
        assert await store.node(waiting.enrolment.node) is None

    run(story)


def test_a_pending_enrolment_expires(store: SQLStore) -> None:
    """The secret comes too late."""

    async def story() -> None:
        waiting = pending(enrolment())
        await store.add_pending(waiting, now=NOW, at_most=10)
        late = await store.activate(
            waiting.id, hashlib.sha256(SECRET).digest(), now=waiting.expires_at
        )
        assert late == (Activated.UNKNOWN, None)

    run(story)


def test_pending_enrolments_are_bounded_and_swept(store: SQLStore) -> None:
    """A full table refuses until what it holds has expired."""

    async def story() -> None:
        for name in "ab":
            await store.add_pending(pending(enrolment(name)), now=NOW, at_most=2)
        with pytest.raises(StoreBusyError):
            await store.add_pending(pending(enrolment("c")), now=NOW, at_most=2)
        await store.add_pending(pending(enrolment("c")), now=NOW + 60, at_most=2)

    run(story)


def test_one_node_has_few_pending_enrolments(store: SQLStore) -> None:
    """Whoever shows another's EK takes its own places, not those of all; the newest stand."""

    async def story() -> None:
        begun = [replace(pending(enrolment()), expires_at=NOW + 50 + number) for number in range(6)]
        for waiting in begun:
            await store.add_pending(waiting, now=NOW, at_most=5)
        await store.add_pending(pending(enrolment("b")), now=NOW, at_most=5)
        right = hashlib.sha256(SECRET).digest()
        outcomes = [(await store.activate(each.id, right, now=NOW))[0] for each in begun]
        assert outcomes == [Activated.UNKNOWN] * 2 + [Activated.ENROLLED] * 4

    run(story)


def test_nobody_enrols_by_a_policy_that_is_over(store: SQLStore) -> None:
    """A policy activated between request and activation has not admitted the node."""

    async def story() -> None:
        waiting = pending(enrolment(), epoch=1)
        await store.activate_policy(StoredPolicy(1, "p", b"d" * 32, b"text", NOW))
        await store.add_pending(waiting, now=NOW, at_most=5)
        await store.activate_policy(StoredPolicy(2, "p", b"e" * 32, b"text", NOW))
        outcome = await store.activate(waiting.id, hashlib.sha256(SECRET).digest(), now=NOW)
        assert outcome == (Activated.POLICY_MOVED, waiting.enrolment.node)
        assert await store.node(waiting.enrolment.node) is None

    run(story)


def test_an_enrolment_that_was_replaced_is_still_found_by_its_digest(store: SQLStore) -> None:
    """A decision can be made again with the record that it names."""

    async def story() -> None:
        await enrol(store, enrolment())
        before = await store.node(enrolment().node)
        await enrol(store, enrolment(ak=b"other"))
        after = await store.node(enrolment().node)
        assert before is not None
        assert after is not None
        assert await store.enrolment(before.enrolment.digest) == before.enrolment
        assert await store.enrolment(after.enrolment.digest) == after.enrolment
        assert await store.enrolment(b"n" * 32) is None

    run(story)


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        (HighWaterMark(8, 0, 0), HighWaterMark(8, 0, 0)),
        (HighWaterMark(7, 3, 1), HighWaterMark(7, 3, 1)),
        (HighWaterMark(7, 2, 1 << 63), HighWaterMark(7, 2, 1 << 63)),
        (HighWaterMark(7, 2, 4), MARK),
        (HighWaterMark(7, 1, 9), MARK),
        (HighWaterMark(6, 9, 9), MARK),
    ],
    ids=["reset", "restart", "clock", "clock back", "restart back", "reset back"],
)
def test_the_high_water_mark_only_rises(
    store: SQLStore, counters: HighWaterMark, expected: HighWaterMark
) -> None:
    """Grants and refusals raise it as far as they saw the TPM stand; nothing lowers it (A23)."""

    async def story() -> None:
        question = await asked(store, enrolment())
        await store.commit_decision(decision(question))
        second = challenge(question.node)
        await store.add_challenge(second, now=NOW, at_most=4)
        refused = replace(decision(second, version=1), lineage=None, counters=counters)
        assert await store.commit_decision(refused) is CommitOutcome.COMMITTED
        node = await store.node(question.node)
        assert node is not None
        assert node.high_water == expected

    run(story)


def test_a_commit_conflicts_with_another_high_water_mark(store: SQLStore) -> None:
    """A rollback judged by the mark of before is judged again."""

    async def story() -> None:
        question = await asked(store, enrolment())
        stale = replace(decision(question), high_water=MARK)
        assert await store.commit_decision(stale) is CommitOutcome.CONFLICT

    run(story)


def test_nothing_commits_by_what_the_operator_has_overruled(store: SQLStore) -> None:
    """Policy, references and roots must be those that were appraised with."""

    async def story() -> None:
        question = await asked(store, enrolment())
        assert await store.governance() == UNDECIDED
        changes = (
            store.activate_policy(StoredPolicy(1, "p", b"d" * 32, b"text", NOW)),
            store.add_reference(StoredReference("r", b"d" * 32, b"text", NOW)),
            store.add_root(b"der", now=NOW),
        )
        seen = UNDECIDED
        for change in changes:
            await change
            stale = decision(question, governance=seen)
            assert await store.commit_decision(stale) is CommitOutcome.OUTDATED
            seen = await store.governance()
        assert seen == Governance(1, 1, 1)
        made = decision(question, governance=seen)
        assert await store.commit_decision(made) is CommitOutcome.COMMITTED

    run(story)


def test_logs_are_compressed_outside_the_transaction(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the writer while another's ten megabytes are compressed; once is enough."""
    threads: list[str] = []
    compress = zlib.compress

    def watched(data: bytes, level: int) -> bytes:
        threads.append(threading.current_thread().name)
        return compress(data, level)

    monkeypatch.setattr(zlib, "compress", watched)

    async def story() -> None:
        question = await asked(store, enrolment())
        second = challenge(question.node)
        await store.add_challenge(second, now=NOW, at_most=4)
        await store.commit_decision(decision(question))
        await store.commit_decision(decision(second, version=1))

    run(story)
    assert len(threads) == 1
    assert "writer" not in threads[0]


def test_another_ak_replaces_the_first_keeps_the_floor_and_ends_the_lineage(
    store: SQLStore,
) -> None:
    """Re-enrolment is one atomic change of the record (attacks B7, B9)."""

    async def story() -> None:
        question = await asked(store, enrolment())
        await store.commit_decision(decision(question))
        assert await enrol(store, enrolment(ak=b"other")) is Activated.ENROLLED
        node = await store.node(question.node)
        assert node is not None
        assert (node.enrolment.ak_public, node.generation) == (b"other", 2)
        assert node.high_water == MARK
        assert (await store.lineage(question.node)).prior is None

    run(story)


def test_the_same_ak_again_changes_nothing_but_the_time(store: SQLStore) -> None:
    """A node that enrols twice keeps its lineage."""

    async def story() -> None:
        question = await asked(store, enrolment())
        await store.commit_decision(decision(question))
        await enrol(store, enrolment())
        node = await store.node(question.node)
        assert node is not None
        assert node.generation == 1
        assert (await store.lineage(question.node)).prior == PRIOR

    run(story)


def test_a_join_token_binds_to_its_first_node_which_may_retry(store: SQLStore) -> None:
    """Another EK is refused the token, at the request and at activation."""

    async def story() -> None:
        token = b"t" * 32
        await store.add_join_token(token, now=NOW, expires_at=NOW + 100)
        first, second = enrolment("a"), enrolment("b")
        late = pending(second, join_token=token)
        await store.add_pending(late, now=NOW, at_most=10)
        assert await enrol(store, first, join_token=token) is Activated.ENROLLED
        assert await enrol(store, first, join_token=token) is Activated.ENROLLED
        assert await store.join_token_admits(token, first.node, now=NOW)
        assert not await store.join_token_admits(token, second.node, now=NOW)
        assert not await store.join_token_admits(token, first.node, now=NOW + 100)
        outcome, _ = await store.activate(late.id, hashlib.sha256(SECRET).digest(), now=NOW)
        assert outcome is Activated.JOIN_TOKEN_TAKEN
        assert await store.node(second.node) is None

    run(story)


def test_a_commit_stores_everything_that_the_decision_changes(store: SQLStore) -> None:
    """Decision, evidence, log, answer, lineage, next challenge and floor appear together."""

    async def story() -> None:
        question = await asked(store, enrolment())
        made = decision(question)
        assert await store.commit_decision(made) is CommitOutcome.COMMITTED
        spent = await store.challenge(question.nonce)
        assert spent is not None
        assert spent.spent_at == NOW + 1
        stored = await store.decision(made.digest)
        assert stored is not None
        assert (stored.number, stored.record, stored.claims) == (1, made.record, made.claims)
        assert list(await store.decisions_of(question.node, at_most=5)) == [stored]
        assert await store.evidence(made.evidence) == b"document"
        assert await store.log(hashlib.sha256(b"log").digest()) == b"log"
        assert await store.answer(question.node, made.request, now=NOW) == made.answer
        assert await store.answer(b"other" * 6, made.request, now=NOW) is None
        assert await store.answer(question.node, made.request, now=NOW + LIFE) is None
        lineage = await store.lineage(question.node)
        assert (lineage.version, lineage.prior, lineage.decision) == (1, PRIOR, made.digest)
        assert made.next_challenge is not None
        following = await store.challenge(made.next_challenge.nonce)
        assert following is not None
        assert following.spent_at is None

    run(story)


def test_two_concurrent_uses_of_a_challenge_commit_once(store: SQLStore) -> None:
    """One wins; the same evidence is told of the answer, other evidence of the spent nonce."""

    async def story() -> None:
        question = await asked(store, enrolment())
        one, other = decision(question), decision(question)
        outcomes = await asyncio.gather(*map(store.commit_decision, (one, other, one)))
        assert outcomes == [CommitOutcome.COMMITTED, CommitOutcome.SPENT, CommitOutcome.ANSWERED]
        assert len(await store.decisions_of(question.node, at_most=5)) == 1

    run(story)


def test_a_commit_conflicts_with_a_moved_lineage_or_another_ak(store: SQLStore) -> None:
    """What was appraised against must still hold; a conflict consumes nothing."""

    async def story() -> None:
        first = await asked(store, enrolment())
        second = challenge(first.node)
        await store.add_challenge(second, now=NOW, at_most=4)
        await store.commit_decision(decision(first))
        stale = decision(second)
        assert await store.commit_decision(stale) is CommitOutcome.CONFLICT
        swapped = decision(second, version=1, generation=2)
        assert await store.commit_decision(swapped) is CommitOutcome.CONFLICT
        unspent = await store.challenge(second.nonce)
        assert unspent is not None
        assert unspent.spent_at is None
        assert await store.commit_decision(decision(second, version=1)) is CommitOutcome.COMMITTED

    run(story)


def test_a_commit_refuses_an_expired_foreign_or_unknown_challenge(store: SQLStore) -> None:
    """The transaction looks at node and time again (attack A13)."""

    async def story() -> None:
        question = await asked(store, enrolment())
        await asked(store, enrolment("b"))
        made = decision(question)
        for bad in (
            replace(made, now=question.expires_at),
            replace(made, node=enrolment("b").node),
            replace(made, nonce=b"n" * 32),
        ):
            assert await store.commit_decision(bad) is CommitOutcome.EXPIRED

    run(story)


def test_asked_challenges_are_bounded_and_those_in_answers_are_not_counted(
    store: SQLStore,
) -> None:
    """A stranger who asks in a node's name cannot use up what its renewals live on (G8)."""

    async def story() -> None:
        question = await asked(store, enrolment())
        await store.commit_decision(decision(question))
        node = question.node
        granted = [await store.add_challenge(challenge(node), now=NOW, at_most=4) for _ in range(6)]
        assert granted == [True] * 4 + [False] * 2
        assert await store.add_challenge(challenge(node), now=NOW + LIFE, at_most=4)

    run(story)


def test_policies_are_activated_one_epoch_after_the_other(store: SQLStore) -> None:
    """A second activation of one epoch loses."""

    async def story() -> None:
        first = StoredPolicy(1, "p", b"d" * 32, b"text", NOW)
        assert await store.policy() is None
        assert await store.activate_policy(first)
        assert not await store.activate_policy(first)
        assert await store.activate_policy(replace(first, epoch=2))
        active = await store.policy()
        assert active is not None
        assert active.epoch == 2

    run(story)


def test_sweeping_removes_what_has_expired_and_nothing_else(store: SQLStore, path: Path) -> None:
    """Challenges and answers go; decisions stay."""

    async def story() -> None:
        question = await asked(store, enrolment())
        made = decision(question)
        await store.commit_decision(made)
        await store.sweep(now=NOW + LIFE + 301)
        assert await store.challenge(question.nonce) is None
        assert await store.decision(made.digest) is not None

    run(story)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_a_job_that_fails_takes_nothing_of_its_neighbours_with_it(store: SQLStore) -> None:
    """Jobs that share a commit are apart: one refused, the others durable."""

    async def story() -> None:
        results = await asyncio.gather(
            store.add_credential(b"1" * 32, label="a", now=NOW),
            store.add_credential(b"1" * 32, label="a", now=NOW),
            store.add_credential(b"2" * 32, label="a", now=NOW),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [
            type(None),
            sqlite3.IntegrityError,
            type(None),
        ]
        assert sorted(await store.credentials()) == [b"1" * 32, b"2" * 32]

    run(story)


@pytest.mark.parametrize(
    "defect",
    [TypeError("a defect"), OverflowError("2**64"), sqlite3.InterfaceError("no such type")],
    ids=lambda defect: type(defect).__name__,
)
def test_a_defect_in_one_job_fails_that_job_alone(store: SQLStore, defect: Exception) -> None:
    """What nobody foresaw rolls its own job back; its neighbours and the writer live on."""

    def broken(db: Connection) -> None:
        db.command("INSERT INTO settings (name, value) VALUES ('half', 'done')")
        raise defect

    async def story() -> None:
        results = await asyncio.gather(
            store._writer.submit(broken),
            store.add_credential(b"1" * 32, label="a", now=NOW),
            return_exceptions=True,
        )
        assert list(results) == [defect, None]
        await store.add_credential(b"2" * 32, label="a", now=NOW)
        await store.check()

    run(story)
    assert store._reader.rows(select(settings.c.name)) == []


def test_a_database_that_refuses_is_heard_by_all_who_wait(store: SQLStore) -> None:
    """A full disk is not one job's fault: nothing of the group is stored, the next one may be."""

    def full(_db: Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def story() -> None:
        # The neighbour comes first, so that both wait for one commit.
        results = await asyncio.gather(
            store._writer.submit(lambda _db: time.sleep(0.05)),
            store.add_credential(b"1" * 32, label="a", now=NOW),
            store._writer.submit(full),
            return_exceptions=True,
        )
        assert [type(result) for result in results[1:]] == [StoreUnavailableError] * 2
        assert await store.credentials() == ()
        await store.add_credential(b"2" * 32, label="a", now=NOW)

    run(story)


def test_the_end_of_the_writer_is_heard_by_all_who_wait(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead writer answers with an error instead of silence, and what ended it is reported."""
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    class EndOfThreadError(BaseException):
        """Not an Exception: nothing that a job may raise."""

    def broken(_db: Connection) -> None:
        raise EndOfThreadError

    async def story() -> None:
        results = await asyncio.gather(
            store._writer.submit(broken),
            store.add_credential(b"1" * 32, label="a", now=NOW),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [StoreUnavailableError] * 2
        with pytest.raises(StoreUnavailableError):
            await store.add_credential(b"1" * 32, label="a", now=NOW)

    run(story)
    store.close()
    assert [args.exc_type for args in reported] == [EndOfThreadError]


def test_a_closed_or_unreachable_store_says_so(path: Path, tmp_path: Path) -> None:
    """Neither hangs nor loses silently."""
    opened = SQLStore.open(path)
    opened.close()
    opened.close()
    with pytest.raises(StoreUnavailableError):
        run(lambda: opened.add_credential(b"1" * 32, label="a", now=NOW))
    with pytest.raises(StoreUnavailableError):
        SQLStore.open(tmp_path / "absent" / "verifier.db")
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailableError):
        SQLStore.open(garbage)
