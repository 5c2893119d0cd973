"""The stored ledger: entries, tiles and checkpoints of each tree, shards and governance records.

Specifications: RFC 9162 §2.1 (trees); C2SP tlog-checkpoint, tlog-tiles; RFC 9942 (receipts).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from bootlease import cbor
from bootlease.audit.rows import (
    Checked,
    CheckpointRow,
    CosignatureRow,
    GovernanceRow,
    PruningRow,
    ShardRow,
)
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import (
    Checkpoint,
    Frontier,
    GovernanceRecord,
    NoteKey,
    encode_leaf,
    extend,
    leaf_hash,
    node_hash,
    parse_signature_lines,
    verify_checkpoint,
    verify_cosignature,
)
from bootlease.ledger.governance import CHECKPOINT, LEDGER_OPENED, SHARD_OPENED
from bootlease.ledger.note import ed25519_check
from bootlease.ledger.tiles import TILE_WIDTH
from bootlease.model import Effect, Finding
from bootlease.token.cose import to_be_signed

_TREE_SIZE: Final = -65537
_MAX_PROTECTED: Final = 1024


class TreeCheck:
    """Grows one tree from its entries, to compare it with what is stored of it."""

    def __init__(self) -> None:
        self._frontier = Frontier()
        self._rows: list[list[bytes]] = []
        self._full: list[int] = []
        self._tiles: list[tuple[int, int, bytes, bytes]] = []

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._frontier.size

    def grow(self, leaves: Sequence[bytes]) -> None:
        """Append leaves."""
        if not leaves:
            return
        hashes = [leaf_hash(leaf) for leaf in leaves]
        self._frontier = extend(self._frontier, hashes).frontier
        for each in hashes:
            self._tile(0, each)

    def _tile(self, level: int, value: bytes) -> None:
        if level == len(self._rows):
            self._rows.append([])
            self._full.append(0)
        row = self._rows[level]
        row.append(value)
        if len(row) == TILE_WIDTH:
            root = _fold(row)
            self._tiles.append((level, self._full[level], b"".join(row), root))
            self._full[level] += 1
            row.clear()
            self._tile(level + 1, root)

    def take_tiles(self) -> list[tuple[int, int, bytes, bytes]]:
        """Return the tiles that became full since: level, number, hashes, root."""
        tiles, self._tiles = self._tiles, []
        return tiles

    def check(self, size: int, root: bytes) -> Iterator[Finding]:
        """Compare the tree with the root that was stored for this size."""
        if self.size != size or self._frontier.root() != root:
            yield Finding(
                "stored.root.differs",
                "The entries do not lead to the checkpoint's root.",
                expected=root.hex(),
                seen=self._frontier.root().hex(),
            )


def _fold(row: Sequence[bytes]) -> bytes:
    while len(row) > 1:
        row = [node_hash(*pair) for pair in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def check_tile(stored: tuple[bytes, bytes] | None, hashes: bytes, root: bytes) -> Iterator[Finding]:
    """Compare a stored tile with the one that the entries make."""
    if stored != (hashes, root):
        yield Finding("stored.tile.differs", "The tile is not the one that the entries make.")


def check_checkpoint(
    row: CheckpointRow, origin: str, key: NoteKey, witnesses: Sequence[NoteKey]
) -> Iterator[Finding]:
    """Check the two signatures under a tree, and that they are over what the columns say.

    Args:
        row: The row.
        origin: Of its shard.
        key: The ledger's.
        witnesses: Keys of whoever else may have signed the note.
    """
    try:
        expected = Checkpoint(origin, row.size, row.root)
    except ValueError as exc:
        yield Finding("stored.checkpoint.malformed", f"Of no shard, or of no sense: {exc}.")
        return
    try:
        verified = verify_checkpoint(row.note, key, origin=origin)
    except MalformedError as exc:
        yield Finding("stored.checkpoint.malformed", f"The checkpoint does not parse: {exc}.")
    except VerificationError as exc:
        yield from exc.findings
    else:
        if verified.checkpoint != expected:
            yield Finding("stored.column.differs", "The checkpoint says another size or root.")
        for signature in verified.note.signatures:
            if not key.matches(signature):
                yield from _check_line(verified.note.body, signature.line(), witnesses)
    if not ed25519_check(key.public)(row.signature, to_be_signed(row.protected, row.root)):
        yield Finding("stored.receipt.invalid", "The signature of the receipts does not verify.")
    else:
        header = cbor.decode(row.protected, max_bytes=_MAX_PROTECTED)
        if header.get(_TREE_SIZE) != row.size:
            yield Finding("stored.column.differs", "The receipts were signed for another size.")


def _check_line(body: bytes, line: bytes, witnesses: Sequence[NoteKey]) -> Iterator[Finding]:
    try:
        (signature,) = parse_signature_lines(line)
        key = next((each for each in witnesses if each.matches(signature)), None)
        if key is not None:
            verify_cosignature(body, signature, key)
    except MalformedError as exc:
        yield Finding("stored.cosignature.malformed", f"A cosignature does not parse: {exc}.")
    except ValueError:
        yield Finding("stored.cosignature.malformed", "A cosignature is more than one line.")
    except VerificationError as exc:
        yield from exc.findings
    else:
        if key is None:
            yield Finding(
                "stored.cosignature.unchecked",
                "A checkpoint has a signature whose key was not given.",
                effect=Effect.NOTES,
                seen=f"{signature.name}+{signature.key_id.hex()}",
            )


def check_cosignature(
    row: CosignatureRow, checkpoint: CheckpointRow | None, origin: str, witnesses: Sequence[NoteKey]
) -> Iterator[Finding]:
    """Check a witness's line, as far as its key is known."""
    if checkpoint is None:
        yield Finding("stored.cosignature.stray", "A cosignature is under no checkpoint.")
        return
    try:
        body = Checkpoint(origin, checkpoint.size, checkpoint.root).encode()
    except ValueError as exc:
        yield Finding("stored.checkpoint.malformed", f"Of no shard, or of no sense: {exc}.")
        return
    yield from _check_line(body, row.line, witnesses)
    if f"\N{EM DASH} {row.name} ".encode() != row.line[: len(row.name.encode()) + 5]:
        yield Finding("stored.column.differs", "The cosignature is of another name.")


def check_governance(
    rows: Iterable[GovernanceRow],
    leaves: Mapping[tuple[int, int], bytes],
    *,
    first: int,
    previous: bytes | None,
) -> Checked:
    """Check governance records and the chain that they form.

    Args:
        rows: In the order of their numbers.
        leaves: The leaves of the ledger at the places that the rows name.
        first: The number that the first of them must have.
        previous: Digest of the governance record before it, if any.
    """
    checked = Checked()
    for number, row in enumerate(rows, first):
        checked.rows += 1
        where = f"governance record {row.number}"
        checked.account(row.shard, 1)
        try:
            record = GovernanceRecord.parse(row.record)
        except MalformedError as exc:
            checked.say(where, [Finding("stored.record.malformed", f"{exc}.")])
            previous = row.digest
            continue
        named = row.subject is None or row.subject in record.details.values()
        problems = {
            "stored.record.altered": record.digest == row.digest,
            "stored.column.differs": record.kind == row.kind and named and row.number == number,
            "stored.chain.broken": record.previous == previous,
            "stored.entry.differs": leaves.get((row.shard, row.position))
            == encode_leaf(record.digest),
        }
        checked.say(
            where, [Finding(id_, _SAID[id_]) for id_, holds in problems.items() if not holds]
        )
        previous = record.digest
    return checked


_SAID: Final = {
    "stored.record.altered": "The record is not the one that was recorded under its digest.",
    "stored.column.differs": "Kind, subject or number is not what the record says.",
    "stored.chain.broken": "The record does not name the governance record before it.",
    "stored.entry.differs": "The ledger has another entry where the record's must be.",
}


def check_shards(
    rows: Sequence[ShardRow],
    openings: Mapping[int, bytes | None],
    finals: Mapping[int, bytes | None],
    prefix: str,
) -> Checked:
    """Check the list of shards and the chain that they form.

    Args:
        rows: The oldest first.
        openings: First governance record of each shard, by its number.
        finals: Last checkpoint of each shard, without cosignatures.
        prefix: What origins begin with.
    """
    checked = Checked(rows=len(rows))
    for number, row in enumerate(rows, 1):
        where = f"shard {row.name}"
        if row.number != number or row.origin != f"{prefix}/{row.name}":
            checked.say(where, [Finding("stored.column.differs", "Its number or origin.")])
        opening = openings.get(row.number)
        try:
            record = None if opening is None else GovernanceRecord.parse(opening)
        except MalformedError:
            # The record's own row tells of it.
            continue
        final = finals.get(row.number - 1)
        kind = LEDGER_OPENED if number == 1 else SHARD_OPENED
        if (
            record is None
            or (record.kind, record.time) != (kind, row.opened_at)
            or record.details.get(CHECKPOINT) != (None if number == 1 else final)
        ):
            checked.say(
                where,
                [Finding("stored.shard.unchained", "It is not tied to the shard before it.")],
            )
    return checked


def check_prunings(rows: Iterable[PruningRow], governance: Mapping[bytes, bytes | None]) -> Checked:
    """Check that each pruning has its governance record.

    Args:
        rows: The rows.
        governance: Records by their digest.
    """
    checked = Checked()
    for row in rows:
        checked.rows += 1
        record = governance.get(row.record)
        details = {} if record is None else GovernanceRecord.parse(record).details
        if details.get("before") != row.before:
            checked.say(
                f"pruning {row.number}",
                [Finding("stored.column.differs", "The ledger has no such pruning.")],
            )
    return checked
