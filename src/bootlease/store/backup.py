"""Backup while running, and what a backup must lose before it may speak again.

A backup is a copy through SQLite's online backup, of one moment, checked before it gets its name.

The state that was restored is behind what was answered since the backup was made: challenges that
were used are unused in it, lineages stand where they stood. So a restore voids challenges, answers,
pending enrolments, free join tokens and lineages: every node begins anew with full evidence. The
ledger's leaves since the backup are lost to this database, though not to those who hold receipts;
it may not go on from there, since other leaves in the same places would be a fork. The shard is
closed as it was saved, and another one is opened, which names its last checkpoint and says
``store.restored``. Whoever saw the lost checkpoints can show that they are missing, which is as it
should be.

Not undone: policies activated since the backup are forgotten, and their epochs given again.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, null, update
from sqlalchemy.dialects import sqlite

from bootlease.ports import Sealer, StoreUnavailableError
from bootlease.store.appender import Appender, month_of
from bootlease.store.connection import Connection, StatementCache
from bootlease.store.database import Database
from bootlease.store.newfile import new_file
from bootlease.store.tables import (
    answers,
    challenges,
    join_tokens,
    nodes,
    pending_enrolments,
    proposals,
)
from bootlease.store.tail import Tail, load_tail

if TYPE_CHECKING:
    from bootlease.ledger import GovernanceDetail

_VOID: Final = (
    delete(challenges),
    delete(pending_enrolments),
    delete(answers),
    # Its proposer may have been revoked since.
    delete(proposals),
    # One that looks free may have been bound to a node since.
    delete(join_tokens).where(join_tokens.c.node.is_(None)),
)
_END_LINEAGES: Final = update(nodes).values(version=nodes.c.version + 1, prior=null())
_LEAST: Final = 10**15
"""Of the numbers of 16 digits, which are as many as 53 bits."""


def back_up(source: Connection, target: Path) -> None:
    """Copy a database that may be in use to a new file of mode 0600.

    Raises:
        StoreUnavailableError: It exists, cannot be written, or the copy is not sound.
    """
    with new_file(target) as partial:
        with closing(sqlite3.connect(partial)) as copy:
            # In one step: the writer does not wait, and a copy in pieces would begin anew at each
            # commit.
            source.dbapi.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            _demand_sound(copy)
            copy.execute("PRAGMA query_only = ON")
            load_tail(Connection(copy, StatementCache(sqlite.dialect(paramstyle="named"))))


def restore(
    backup: Path, target: Path, sealer: Sealer, prefix: str, *, now: int, author: str
) -> None:
    """Make a database of a backup, ready to be served.

    Args:
        backup: The backup; it is left as it is.
        target: The database to make.
        sealer: Signs for the ledger.
        prefix: What the origins of the ledger's shards begin with.
        now: Seconds since the epoch.
        author: Who restores.

    Raises:
        StoreUnavailableError: The target exists, or the backup is not sound.
    """
    with new_file(target) as partial:
        shutil.copyfile(backup, partial)
        database = Database(partial)
        database.migrate()
        connection = database.connect(read_only=False)
        try:
            _demand_sound(connection.dbapi)
            _begin_anew(connection, sealer, prefix, now=now, author=author)
            connection.rows_of("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()


def _begin_anew(db: Connection, sealer: Sealer, prefix: str, *, now: int, author: str) -> None:
    db.command("BEGIN IMMEDIATE")
    tail = load_tail(db)
    tail.demand_of(prefix)
    for statement in _VOID:
        db.run(statement)
    lineages = db.run(_END_LINEAGES)
    ledger = Appender(db, tail)
    ledger.open_shard(_restored_name(tail, now), prefix, now=now)
    details: dict[str, GovernanceDetail] = {"size": tail.frontier.size, "lineages": lineages}
    if tail.shard is not None:
        details["shard"] = tail.shard.name
    ledger.record("store.restored", details, author=author, now=now)
    ledger.seal(sealer)
    db.command("COMMIT")


def _restored_name(tail: Tail, now: int) -> str:
    """Return a name that no shard has had, not even one that was lost.

    The same backup may be restored twice, in one second and in two places, and what one restore
    wrote must not be mistaken for what the other writes: neither can know of the other.
    """
    month = month_of(now)
    if tail.shard is not None:
        month = max(month, tail.shard.name[: len(month)])
    return f"{month}.{_LEAST + secrets.randbelow(9 * _LEAST)}"


def _demand_sound(connection: sqlite3.Connection) -> None:
    said = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if said != "ok":
        raise StoreUnavailableError(f"the copy is not sound: {said}")
