"""SQLAlchemy Core statements on a bare DBAPI connection, each compiled once.

A renewal makes a dozen small statements. SQLAlchemy's execution layer costs several times what
SQLite needs for one of them, and none of its services (result typing, autobegin, pooling per
statement) is used here: the columns are integers, text and bytes. So Core writes the SQL, and the
driver runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.sql.expression import Executable

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection

Row = Sequence[Any]
Parameters = Mapping[str, Any]

_NOTHING: Parameters = {}


class StatementCache:
    """The SQL text of each statement, for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[Executable, tuple[str, Parameters]] = {}

    def compiled(self, statement: Executable) -> tuple[str, Parameters]:
        """Return the SQL of ``statement``, a module-level constant, and its literals by name."""
        known = self._compiled.get(statement)
        if known is None:
            made = statement.compile(dialect=self._dialect)  # type: ignore[attr-defined]  # every Core statement has it
            literals = {name: value for name, value in made.params.items() if value is not None}
            known = self._compiled[statement] = (str(made), literals)
        return known


class Connection:
    """One DBAPI connection; for one thread at a time."""

    __slots__ = ("_cache", "_cursor", "dbapi")

    def __init__(self, dbapi: DBAPIConnection, cache: StatementCache) -> None:
        self.dbapi = dbapi
        self._cursor = dbapi.cursor()
        self._cache = cache

    def command(self, text: str) -> None:
        """Run transaction control, which Core has no statement for."""
        self._cursor.execute(text)

    def _execute(self, statement: Executable, parameters: Parameters) -> None:
        text, literals = self._cache.compiled(statement)
        self._cursor.execute(text, {**literals, **parameters} if literals else parameters)

    def run(self, statement: Executable, parameters: Parameters = _NOTHING) -> int:
        """Run a statement that returns no rows; return how many rows it touched."""
        self._execute(statement, parameters)
        return int(self._cursor.rowcount)

    def one(self, statement: Executable, parameters: Parameters = _NOTHING) -> Row | None:
        """Return the first row, or None."""
        self._execute(statement, parameters)
        row: Row | None = self._cursor.fetchone()
        return row

    def rows(self, statement: Executable, parameters: Parameters = _NOTHING) -> Sequence[Row]:
        """Return every row."""
        self._execute(statement, parameters)
        return list(self._cursor.fetchall())

    def close(self) -> None:
        """Close the connection."""
        self.dbapi.close()
