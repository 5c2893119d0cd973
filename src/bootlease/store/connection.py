"""SQLAlchemy Core statements on a bare DBAPI connection, each compiled once.

A renewal makes a dozen small statements. SQLAlchemy's execution layer costs several times what
SQLite needs for one of them, and none of its services (result typing, autobegin, pooling per
statement) is used here: the columns are integers, text and bytes. So Core writes the SQL, and the
driver runs it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Table, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import Executable

from bootlease.endorsement import Enrolment

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

Row = Sequence[Any]
Parameters = Mapping[str, Any]

_NOTHING: Parameters = {}
_MOST_ROWS: Final = 64
"""Rows in one statement. Fewer go by powers of two, so that few texts serve all numbers of rows."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """A statement over as many rows as it is given, in one step of the engine.

    Each step of a statement gives the interpreter's lock away and waits to get it back from the
    thread that serves requests, which costs more than most steps. So what a group of decisions
    writes is written by statements, not by rows.

    Attributes:
        head: The text up to the rows.
        width: Values in a row.
        tail: The text behind them.
    """

    head: str
    width: int
    tail: str = ""

    @classmethod
    def into(cls, table: Table) -> Bulk:
        """Return the insertion of whole rows into a table, values in the order of its columns."""
        text = str(insert(table).compile(dialect=sqlite.dialect(paramstyle="qmark")))
        return cls(text.partition(" VALUES ")[0] + " VALUES ", len(table.columns))

    def text(self, rows: int) -> str:
        """Return the statement over a number of rows."""
        row = f"({', '.join('?' * self.width)})"
        return self.head + ", ".join([row] * rows) + self.tail


def _portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    at, size = 0, _MOST_ROWS
    while at < len(rows):
        while size > len(rows) - at:
            size >>= 1
        yield rows[at : at + size]
        at += size


class StatementCache:
    """The SQL text of each statement, for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[Executable, tuple[str, Parameters]] = {}
        self._bulk: dict[tuple[Bulk, int], str] = {}

    def compiled(self, statement: Executable) -> tuple[str, Parameters]:
        """Return the SQL of ``statement``, a module-level constant, and its literals by name."""
        known = self._compiled.get(statement)
        if known is None:
            made = statement.compile(dialect=self._dialect)  # type: ignore[attr-defined]  # every Core statement has it
            literals = {name: value for name, value in made.params.items() if value is not None}
            known = self._compiled[statement] = (str(made), literals)
        return known

    def bulk(self, statement: Bulk, rows: int) -> str:
        """Return the SQL of ``statement`` over a number of rows."""
        known = self._bulk.get((statement, rows))
        if known is None:
            known = self._bulk[statement, rows] = statement.text(rows)
        return known


class Connection:
    """One DBAPI connection; for one thread at a time.

    Attributes:
        dbapi: The driver's connection.
        enrolments: Enrolment records read so far, by digest: they never change.
    """

    __slots__ = ("_cache", "_cursor", "dbapi", "enrolments")

    def __init__(self, dbapi: sqlite3.Connection, cache: StatementCache) -> None:
        self.dbapi = dbapi
        self._cursor = dbapi.cursor()
        self._cache = cache
        self.enrolments: dict[bytes, tuple[Enrolment, tuple[bytes, ...]]] = {}

    def command(self, text: str) -> None:
        """Run transaction control, which Core has no statement for."""
        self._cursor.execute(text)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the database, whatever is written meanwhile.

        Outside a transaction every statement reads the state of its own moment, and what several
        of them return need not go together.
        """
        if self.dbapi.in_transaction:
            yield
            return
        self.command("BEGIN")
        try:
            yield
        finally:
            self.command("ROLLBACK")

    def _execute(self, statement: Executable, parameters: Parameters) -> None:
        text, literals = self._cache.compiled(statement)
        self._cursor.execute(text, {**literals, **parameters} if literals else parameters)

    def run(self, statement: Executable, parameters: Parameters = _NOTHING) -> int:
        """Run a statement that returns no rows; return how many rows it touched."""
        self._execute(statement, parameters)
        return int(self._cursor.rowcount)

    def many(self, statement: Bulk, rows: Sequence[Row]) -> int:
        """Run a statement over rows; return how many rows of the table it touched."""
        touched = 0
        for portion in _portions(rows):
            text = self._cache.bulk(statement, len(portion))
            self._cursor.execute(text, tuple(chain.from_iterable(portion)))
            touched += self._cursor.rowcount
        return touched

    def rows_of(self, question: str) -> Sequence[Row]:
        """Return what the engine itself answers, asked about no table."""
        self._cursor.execute(question)
        return list(self._cursor.fetchall())

    def one(self, statement: Executable, parameters: Parameters = _NOTHING) -> Row | None:
        """Return the first row, or None."""
        self._execute(statement, parameters)
        row: Row | None = self._cursor.fetchone()
        return row

    def rows(self, statement: Executable, parameters: Parameters = _NOTHING) -> Sequence[Row]:
        """Return every row."""
        self._execute(statement, parameters)
        return list(self._cursor.fetchall())

    def stream(
        self, statement: Executable, parameters: Parameters = _NOTHING
    ) -> Generator[Row, None, None]:
        """Yield every row as it is read, whatever else the connection does in between."""
        text, literals = self._cache.compiled(statement)
        cursor = self.dbapi.cursor()
        try:
            cursor.execute(text, {**literals, **parameters})
            while (row := cursor.fetchone()) is not None:
                yield row
        finally:
            cursor.close()

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        # SQLite keeps the locks of a connection that was closed in the middle of a transaction for
        # as long as one of its statements lives, and the traceback of what went wrong keeps them.
        with suppress(sqlite3.Error):
            if self.dbapi.in_transaction:
                self._cursor.execute("ROLLBACK")
        with suppress(sqlite3.Error):
            self._cursor.close()
        self.dbapi.close()
