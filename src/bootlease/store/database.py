"""Opening the database: durability, schema, connections.

SQLite runs in WAL mode with ``synchronous=FULL``: a commit that returned survives a power cut, and
readers never wait for the writer. There is one writing connection, owned by one thread.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from bootlease.ports import StoreUnavailableError
from bootlease.store.connection import Connection, StatementCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy

BUSY_TIMEOUT_MS: Final = 5_000
_MIGRATIONS: Final = "bootlease.store:migrations"
_PRIVATE: Final = 0o600
_STATEMENTS: Final = 512
"""Prepared statements that a connection keeps: one for each, and for each number of rows."""
_CACHE_KB: Final = 32 * 1024


class Database:
    """A SQLite database in one file.

    Args:
        path: The file; made with mode 0600 where it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._engine = _engine(path)
        self._cache = StatementCache(self._engine.dialect)

    def migrate(self) -> None:
        """Bring the schema to this version's, in one transaction per step.

        Raises:
            StoreUnavailableError: The file cannot be opened, or a newer version wrote it.
        """
        _make_private(self.path)
        config = _alembic_config()
        try:
            with self._engine.connect() as connection:
                _refuse_newer(connection, config)
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")
        except (sqlite3.Error, SQLAlchemyError) as exc:
            raise StoreUnavailableError(f"{self.path}: {_said(exc)}") from exc

    def demand_current(self) -> None:
        """Demand a file of this version's schema, and make nothing.

        Raises:
            StoreUnavailableError: There is none.
        """
        if not self.path.is_file():
            raise StoreUnavailableError(f"{self.path}: no such file")
        try:
            with self._engine.connect() as connection:
                current = schema_revision(connection)
        except (sqlite3.Error, SQLAlchemyError) as exc:
            raise StoreUnavailableError(f"{self.path}: {_said(exc)}") from exc
        if current != newest_revision():
            raise StoreUnavailableError(
                f"{self.path} has schema {current}, and this version reads {newest_revision()}"
            )

    @contextmanager
    def inspect(self) -> Iterator[sqlalchemy.Connection]:
        """Lend a SQLAlchemy connection, for questions about the schema."""
        with self._engine.connect() as connection:
            yield connection

    def connect(self, *, read_only: bool) -> Connection:
        """Open a connection outside any pool.

        Raises:
            StoreUnavailableError: The file cannot be opened.
        """
        try:
            pooled = self._engine.raw_connection()
            dbapi = cast("sqlite3.Connection | None", pooled.dbapi_connection)
            pooled.detach()
            if dbapi is None:
                raise StoreUnavailableError(f"{self.path}: no connection")
            connection = Connection(dbapi, self._cache)
            if read_only:
                connection.command("PRAGMA query_only = ON")
        except (sqlite3.Error, SQLAlchemyError) as exc:
            raise StoreUnavailableError(f"{self.path}: {_said(exc)}") from exc
        return connection


def _said(exc: sqlite3.Error | SQLAlchemyError) -> str:
    """Return what the database said, without the statement and address that SQLAlchemy adds."""
    return str(getattr(exc, "orig", None) or exc)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        paramstyle="named",
        connect_args={
            "check_same_thread": False,
            "timeout": BUSY_TIMEOUT_MS / 1000,
            "cached_statements": _STATEMENTS,
        },
    )

    @event.listens_for(engine, "connect")
    def _configure(dbapi: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
        # The driver must not open transactions by itself: they begin where this package says.
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            "foreign_keys = ON",
            "recursive_triggers = ON",
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "trusted_schema = OFF",
            f"cache_size = -{_CACHE_KB}",
            # What is deleted here has expired and was public or hashed: no need to blank it twice.
            "secure_delete = OFF",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _make_private(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _PRIVATE)
    except OSError as exc:
        raise StoreUnavailableError(f"{path}: {exc.strerror}") from exc
    os.close(descriptor)


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    return config


def _refuse_newer(connection: sqlalchemy.Connection, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    if current is not None and current not in known:
        raise StoreUnavailableError(
            f"the database has schema {current}, which this version does not know;"
            " a newer bootlease wrote it"
        )


def newest_revision() -> str:
    """Return the schema revision of this version."""
    return ScriptDirectory.from_config(_alembic_config()).get_current_head() or ""


def schema_revision(connection: sqlalchemy.Connection) -> str | None:
    """Return the schema's revision."""
    return MigrationContext.configure(connection).get_current_revision()
