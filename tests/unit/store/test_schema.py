"""The schema: what the file forbids, whoever opens it."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bootlease.ports import StoreUnavailableError
from bootlease.store import Database
from bootlease.store.tables import APPEND_ONLY, METADATA, PRUNED
from bootlease.testing.store_scene import NOW, StoreScene

UNIQUE = {
    "decisions": (("number",), ("digest",)),
    "token_signatures": (("number",),),
    "delegations": (("number",), ("digest",), ("lease_id",), ("grant_use",)),
    "policies": (("epoch",),),
    "reference_sets": (("number",), ("digest",)),
    "roots": (("number",), ("digest",)),
    "enrolment_records": (("digest",),),
    "governance": (("number",), ("digest",)),
    "shards": (("number",), ("name",), ("origin",)),
    "entries": (("shard", "position"),),
    "tiles": (("shard", "level", "number"),),
    "checkpoints": (("shard", "size"),),
    "cosignatures": (("shard", "size", "name"),),
    "prunings": (("number",), ("record",)),
    "revocations": (("number",),),
    "evidence": (("number",), ("digest",)),
    "blobs": (("digest",),),
}
NUMBERS = {"number", "epoch", "shard", "position", "size", "level"}


@pytest.fixture
def filled(scene: StoreScene) -> StoreScene:
    """A store with a row in every table that keeps its rows."""

    async def story() -> None:
        node = await scene.fill()
        (shard,) = await scene.store.ledger.shards()
        await scene.store.ledger.add_cosignature(1, shard.size, name="w", line=b"line")
        await scene.renew(node, leases=300)
        await scene.prune_nothing()
        await scene.delegate()
        await scene.revoke(node)

    asyncio.run(story())
    return scene


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


@pytest.mark.parametrize("table", [*APPEND_ONLY, *PRUNED])
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_rows_cannot_be_replaced(filled: StoreScene, table: str, recursive: str) -> None:
    """INSERT OR REPLACE is an UPDATE in disguise, on a connection of anybody's making."""
    with closing(sqlite3.connect(filled.path)) as raw:
        raw.execute(f"PRAGMA recursive_triggers = {recursive}")
        before = raw.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - a constant
        assert before
        columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
        for same in UNIQUE[table]:
            # Everything as it was, except what is unique for itself.
            others = {name for other in UNIQUE[table] if other != same for name in other}
            values = ", ".join(
                name
                if name not in others
                else f"{name} + 9000"
                if name in NUMBERS
                else "randomblob(32)"
                for name in columns
            )
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(f"INSERT OR REPLACE INTO {table} SELECT {values} FROM {table}")  # noqa: S608
            raw.rollback()
        assert raw.execute(f"SELECT * FROM {table}").fetchall() == before  # noqa: S608


@pytest.mark.parametrize("table", [*APPEND_ONLY, *PRUNED])
def test_rows_cannot_be_altered(filled: StoreScene, table: str) -> None:
    """No UPDATE passes the triggers, of no column."""
    with closing(sqlite3.connect(filled.path)) as raw:
        for row in raw.execute(f"PRAGMA table_info({table})").fetchall():
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(f"UPDATE {table} SET {row[1]} = {row[1]}")  # noqa: S608 - a constant


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_rows_cannot_be_deleted(filled: StoreScene, table: str) -> None:
    """No DELETE passes the triggers where nothing is ever pruned."""
    with (
        closing(sqlite3.connect(filled.path)) as raw,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        raw.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant


def test_evidence_is_deleted_only_below_what_was_announced(scene: StoreScene) -> None:
    """Without a pruning on record nothing goes; with one, only what is older than it says."""

    async def story() -> None:
        await scene.fill()

    asyncio.run(story())
    with closing(sqlite3.connect(scene.path)) as raw:
        for table in PRUNED:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
        raw.execute("INSERT INTO prunings (before, record) VALUES (?, x'00')", (NOW + 1,))
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute("DELETE FROM evidence")
        raw.execute("INSERT INTO prunings (before, record) VALUES (?, x'01')", (NOW + 2,))
        assert raw.execute("DELETE FROM evidence").rowcount == 1


def test_a_database_before_the_ledger_is_refused(path: Path) -> None:
    """The schema of an unreleased version is not migrated, and not touched."""
    Database(path).migrate()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '0001'")
        raw.commit()
    with pytest.raises(StoreUnavailableError, match="0001"):
        Database(path).migrate()


def test_every_table_that_keeps_its_rows_is_looked_at() -> None:
    """A new table belongs to one kind or the other."""
    passing = {
        *("settings", "credentials", "join_tokens", "nodes", "pending_enrolments"),
        *("challenges", "answers", "proposals"),
        *("event_streams", "stream_events", "event_positions"),
    }
    assert {*APPEND_ONLY, *PRUNED} == UNIQUE.keys() == METADATA.tables.keys() - passing
