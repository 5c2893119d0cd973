"""What the verifier remembers, in SQL: SQLite embedded, one writer, group commit.

Statements are SQLAlchemy Core, so that another engine needs another dialect and no other text; the
schema is made by Alembic migrations that ship with the package.
"""

from bootlease.store.database import Database
from bootlease.store.sqlstore import SQLStore

__all__ = ["Database", "SQLStore"]
