"""Export and import: everything that is append-only, in one file that outlives the database.

An export is a CBOR sequence (RFC 8742) of byte strings, each the deterministic CBOR (RFC 8949
§4.2.1) of one array, so that a reader knows every length beforehand::

    ["bootlease/export/1", schema revision]
    [table, value...]                          one for each row
    ["end", rows, SHA-256 of all bytes before]

Tables come in the order of ``EXPORTED``, rows in that of their primary keys, values in that of the
columns: the same content makes the same file. Logs are exported uncompressed, tiles not at all:
an import makes them again, and demands at every checkpoint that the tree has the root that was
signed. What is stored under a digest must have it. Signatures are not checked here, nor whether
decisions were right: that is what the import is for.

Not exported: nodes and what is live of them, challenges, answers, credentials, join tokens. What
is made of an export says so (``IMPORTED``): an audit demands no nodes of it, and no verifier opens
it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from sqlalchemy import Table, bindparam, insert, select

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger import Frontier, extend, leaf_hash
from bootlease.store.connection import Bulk
from bootlease.store.database import Database, newest_revision
from bootlease.store.newfile import new_file
from bootlease.store.tables import (
    IMPORTED,
    blobs,
    checkpoints,
    cosignatures,
    decisions,
    delegations,
    enrolment_records,
    entries,
    evidence,
    governance,
    policies,
    prunings,
    reference_sets,
    revocations,
    roots,
    settings,
    shards,
    tiles,
    token_signatures,
)
from bootlease.store.tail import Unfinished, fill_tiles

if TYPE_CHECKING:
    from bootlease.store.connection import Connection, Row

EXPORT_TYPE: Final = "bootlease/export/1"
MAX_ROW: Final = 32 * 1024 * 1024
"""Bytes: the longest row is a log."""
EXPORTED: Final = (
    policies,
    reference_sets,
    roots,
    revocations,
    enrolment_records,
    blobs,
    decisions,
    token_signatures,
    delegations,
    prunings,
    evidence,
    shards,
    entries,
    checkpoints,
    governance,
    cosignatures,
)
_END: Final = "end"
_MARK: Final = insert(settings).values(name=bindparam("name"), value=bindparam("value")).inline()
_ADD_TILES: Final = Bulk.into(tiles)
_BATCH: Final = 64
_DIGESTED: Final = {
    roots.name: ("digest", "certificate"),
    enrolment_records.name: ("digest", "document"),
    blobs.name: ("digest", "data"),
    decisions.name: ("digest", "record"),
    delegations.name: ("digest", "record"),
    evidence.name: ("digest", "document"),
    governance.name: ("digest", "record"),
}
"""Columns of which one is the SHA-256 of the other."""
_LENGTHS: Final = {0x58: 1, 0x59: 2, 0x5A: 4, 0x5B: 8}


def export(source: Connection, target: Path) -> int:
    """Write everything that is append-only to a new file; return the number of rows.

    Raises:
        StoreUnavailableError: It exists or cannot be written.
    """
    with new_file(target) as partial, partial.open("wb") as file, source.snapshot():
        return _write(source, file)


def _write(source: Connection, file: IO[bytes]) -> int:
    digest = hashlib.sha256()
    count = 0

    def put(item: Sequence[Any]) -> None:
        framed = cbor.encode(cbor.encode(list(item)))
        digest.update(framed)
        file.write(framed)

    put([EXPORT_TYPE, newest_revision()])
    for table in EXPORTED:
        for row in source.stream(select(table).order_by(*table.primary_key.columns)):
            put([str(table.name), *_plain(table, row)])
            count += 1
    put([_END, count, digest.digest()])
    return count


def _plain(table: Table, row: Row) -> Sequence[Any]:
    if table is not blobs:
        return row
    digest, size, data = row
    return digest, size, zlib.decompress(data, bufsize=max(size, 1))


def read_export(file: IO[bytes]) -> Iterator[list[Any]]:
    """Yield the arrays of an export, its first and last not among them.

    Raises:
        MalformedError: It is no export, is cut short, or was altered.
    """
    digest = hashlib.sha256()
    head = _read_item(file, digest)
    if head != [EXPORT_TYPE, newest_revision()]:
        raise MalformedError("not an export of a type and schema that this version knows")
    count = 0
    while True:
        before = digest.digest()
        item = _read_item(file, digest)
        if item is None:
            raise MalformedError("the export is cut short")
        if item[0] == _END:
            break
        count += 1
        yield item
    if item != [_END, count, before] or file.read(1):
        raise MalformedError("the export was altered, or something follows it")


def _read_item(file: IO[bytes], digest: Any) -> list[Any] | None:  # noqa: ANN401 - hashlib's own
    head = file.read(1)
    if not head:
        return None
    extra = file.read(_LENGTHS.get(head[0], 0))
    length = int.from_bytes(extra, "big") if extra else head[0] - 0x40
    if not 0 < length <= MAX_ROW:
        raise MalformedError("a row of the export has an impossible length")
    framed = head + extra + file.read(length)
    digest.update(framed)
    row, _ = cbor.cut_bytes(framed, 0)
    item = cbor.decode(row, max_bytes=MAX_ROW)
    if type(item) is not list or not item or type(item[0]) is not str:
        raise MalformedError("a row of the export is no row")
    return item


def import_into(target: Path, source: Path) -> int:
    """Make a database of an export, to audit it; return the number of rows.

    Raises:
        MalformedError: The export is not whole, or not true to its digests and checkpoints.
        StoreUnavailableError: The target exists or cannot be written.
    """
    with new_file(target) as partial, source.open("rb") as file:
        database = Database(partial)
        database.migrate()
        db = database.connect(read_only=False)
        try:
            db.command("BEGIN IMMEDIATE")
            mark = hashlib.file_digest(file, "sha256").hexdigest()
            db.run(_MARK, {"name": IMPORTED, "value": mark})
            file.seek(0)
            count = _load(db, read_export(file))
            for (shard,) in db.rows(select(shards.c.number)):
                _grow_again(db, shard)
            db.command("COMMIT")
            db.rows_of("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
    return count


def _load(db: Connection, items: Iterator[list[Any]]) -> int:
    known = {table.name: (table, Bulk.into(table)) for table in EXPORTED}
    waiting: list[list[Any]] = []
    table: Table | None = None
    count = 0
    for item in items:
        if item[0] not in known:
            raise MalformedError(f"the export has a table {item[0]!r:.40} that is not known")
        if table is not None and (table.name != item[0] or len(waiting) == _BATCH):
            _insert(db, known[table.name][1], waiting)
            waiting = []
        table = known[item[0]][0]
        waiting.append(_checked(table, item[1:]))
        count += 1
    if table is not None:
        _insert(db, known[table.name][1], waiting)
    return count


def _insert(db: Connection, into: Bulk, rows: list[list[Any]]) -> None:
    try:
        db.many(into, rows)
    except (sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError) as exc:
        raise MalformedError(f"the export has a row that no database holds: {exc}") from exc


def _checked(table: Table, row: list[Any]) -> list[Any]:
    names = list(table.columns.keys())
    if len(row) != len(names) or any(type(one) not in _VALUES for one in row):
        raise MalformedError(f"a row of {table.name} in the export has other columns")
    if (pair := _DIGESTED.get(table.name)) is not None:
        digest, data = (row[names.index(name)] for name in pair)
        if type(data) is not bytes or hashlib.sha256(data).digest() != digest:
            raise MalformedError(f"a row of {table.name} in the export is not what its digest says")
    if table is blobs:
        return [row[0], len(row[2]), zlib.compress(row[2])]
    return row


_VALUES: Final = frozenset({int, bytes, str, type(None)})


def _grow_again(db: Connection, shard: int) -> None:
    """Grow a shard's tree from checkpoint to checkpoint, and store its tiles."""
    leaves = select(entries.c.position, entries.c.leaf).where(entries.c.shard == shard)
    signed = select(checkpoints.c.size, checkpoints.c.root).where(checkpoints.c.shard == shard)
    with (
        closing(db.stream(leaves.order_by(entries.c.position))) as rows,
        closing(db.stream(signed.order_by(checkpoints.c.size))) as sizes,
    ):
        _grow_along(db, shard, rows, sizes)


def _grow_along(db: Connection, shard: int, leaves: Iterator[Row], signed: Iterator[Row]) -> None:
    frontier = Frontier()
    unfinished: Unfinished = ()
    for size, root in signed:
        hashes = []
        for position in range(frontier.size, size):
            at, leaf = next(leaves, (None, b""))
            if at != position:
                raise MalformedError(f"entry {position} of shard {shard} is missing in the export")
            hashes.append(leaf_hash(leaf))
        extension = extend(frontier, hashes)
        if extension.root != root:
            raise MalformedError(f"shard {shard} has another tree than was signed at size {size}")
        unfinished, full = fill_tiles(unfinished, extension, hashes)
        tiles_now = [(shard, one.level, one.number, one.root, b"".join(one.hashes)) for one in full]
        db.many(_ADD_TILES, tiles_now)
        frontier = extension.frontier
    if next(leaves, None) is not None:
        raise MalformedError(f"shard {shard} has entries that no checkpoint covers")
