"""The first leaf of a shard: what it must say, and how it chains the shard to the one before.

Specification: docs/ledger.md, "Shards". The first leaf of the first shard is the governance record
``ledger.opened``; that of every other one is ``shard.opened``, which holds the final checkpoint of
the shard before.
"""

from __future__ import annotations

from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.checkpoint import verify_checkpoint
from bootlease.ledger.governance import (
    CHECKPOINT,
    LEDGER_OPENED,
    SHARD_OPENED,
    GovernanceRecord,
)
from bootlease.ledger.leaf import encode_leaf
from bootlease.ledger.note import NoteKey
from bootlease.monitor.alarms import FORK, GAP, AlarmError
from bootlease.monitor.state import SeenShard

_NO_CHAIN: Final = "Shard {} does not begin with a record that continues the ledger: {}"


def check_opening(
    name: str, leaf: bytes, encoded: bytes, before: SeenShard | None, *, key: NoteKey, note: bytes
) -> None:
    """Prove that a shard begins as it must.

    Args:
        name: The shard.
        leaf: Its first leaf.
        encoded: The governance record that is published as its opening: unverified.
        before: The shard before it, as the monitor read it; None for the first shard.
        key: The ledger's key.
        note: The shard's checkpoint, as evidence.

    Raises:
        AlarmError: The record is missing from the leaf or of another kind, or it continues
            another shard than the one that was read.
    """
    try:
        record = GovernanceRecord.parse(encoded)
    except MalformedError as exc:
        raise AlarmError(GAP, _NO_CHAIN.format(name, exc), note) from exc
    expected = LEDGER_OPENED if before is None else SHARD_OPENED
    # The digest is taken of what arrived, and the leaf is what the signed tree holds.
    if encode_leaf(record.digest) != leaf or record.encoded != encoded:
        raise AlarmError(GAP, _NO_CHAIN.format(name, "its first leaf is another record."), note)
    if record.kind != expected:
        raise AlarmError(
            GAP,
            _NO_CHAIN.format(name, "its first leaf is of another kind."),
            note,
            expected=expected,
            seen=record.kind,
        )
    if before is not None:
        _check_chain(name, record, before, key, note)


def _check_chain(
    name: str, record: GovernanceRecord, before: SeenShard, key: NoteKey, note: bytes
) -> None:
    final = record.details.get(CHECKPOINT)
    final = final.encode() if isinstance(final, str) else final
    if not isinstance(final, bytes):
        raise AlarmError(GAP, _NO_CHAIN.format(name, "it names no final checkpoint."), note)
    try:
        checkpoint = verify_checkpoint(final, key, origin=f"{key.name}/{before.name}")
    except (MalformedError, VerificationError) as exc:
        raise AlarmError(GAP, _NO_CHAIN.format(name, exc), note, final) from exc
    if (checkpoint.size, checkpoint.root) != (before.tree.size, before.tree.root()):
        raise AlarmError(
            FORK,
            f"Shard {name} continues shard {before.name} from another end than the one that is"
            " published.",
            before.checkpoint,
            note,
            final,
            expected=f"{before.tree.size} entries, root {before.tree.root().hex()}",
            seen=f"{checkpoint.size} entries, root {checkpoint.root.hex()}",
        )
