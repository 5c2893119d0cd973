"""What the verifier remembers, in SQL: SQLite embedded, one writer, group commit.

Statements are SQLAlchemy Core, so that another engine needs another dialect and no other text; the
schema is made by Alembic migrations that ship with the package.
"""

from bootlease.store.backup import restore
from bootlease.store.database import Database
from bootlease.store.retention import Pruned
from bootlease.store.sqlstore import SQLStore
from bootlease.store.transfer import import_into

__all__ = ["Database", "Pruned", "SQLStore", "import_into", "restore"]
