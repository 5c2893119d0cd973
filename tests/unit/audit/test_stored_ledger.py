"""Rows of the ledger by themselves: each check is broken alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from bootlease.audit.rows import (
    CheckpointRow,
    CosignatureRow,
    GovernanceRow,
    PruningRow,
    RootRow,
    ShardRow,
)
from bootlease.audit.storedledger import (
    TreeCheck,
    check_checkpoint,
    check_cosignature,
    check_governance,
    check_prunings,
    check_shards,
)
from bootlease.audit.storedregistry import check_roots
from bootlease.ledger import (
    Checkpoint,
    Ed25519Cosigner,
    Frontier,
    GovernanceRecord,
    LedgerSigner,
    encode_leaf,
    extend,
    leaf_hash,
)
from bootlease.ledger.governance import CHECKPOINT, LEDGER_OPENED, SHARD_OPENED
from bootlease.model import Effect
from bootlease.token import PrivateKeySigner

NAME: Final = "verifier.example/ledger"
ORIGIN: Final = f"{NAME}/2026-11"
LEDGER: Final = LedgerSigner(NAME, PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()))
WITNESS: Final = Ed25519Cosigner(
    "witness.example/one", PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())
)
LEAVES: Final = [b"one", b"two", b"three"]
ROOT: Final = extend(Frontier(), [leaf_hash(leaf) for leaf in LEAVES]).frontier.root()


def sealed(size: int = 3, root: bytes = ROOT, origin: str = ORIGIN) -> CheckpointRow:
    """Return a checkpoint's row, signed."""
    made = LEDGER.seal(origin, size, root)
    return CheckpointRow(1, size, root, made.checkpoint, made.protected, made.signature)


BODY: Final = Checkpoint(ORIGIN, 3, ROOT).encode()
LINE: Final = WITNESS.cosign(BODY, 1_700_000_000).line()
OTHER_LINE: Final = (
    Ed25519Cosigner("witness.example/two", PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()))
    .cosign(BODY, 1_700_000_000)
    .line()
)


def about_checkpoint(row: CheckpointRow, origin: str = ORIGIN) -> list[str]:
    """Return the ids about a checkpoint whose witness is known."""
    found = check_checkpoint(row, origin, LEDGER.key, [WITNESS.key])
    return [finding.id for finding in found]


def test_a_sound_checkpoint_is_found_so() -> None:
    """Both signatures verify, and a witness's line under the note does."""
    row = sealed()
    assert about_checkpoint(row) == []
    assert about_checkpoint(replace(row, note=row.note + LINE)) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"root": b""}, ["stored.checkpoint.malformed"]),
        ({"note": b"rubbish"}, ["stored.checkpoint.malformed"]),
        ({"note": sealed(2).note}, ["stored.column.differs"]),
        ({"note": sealed(origin=f"{NAME}/2026-12").note}, ["ledger.checkpoint.origin.mismatch"]),
        ({"signature": bytes(64)}, ["stored.receipt.invalid"]),
        (
            {"protected": sealed(2).protected, "signature": sealed(2).signature},
            ["stored.column.differs"],
        ),
    ],
    ids=["no root", "no note", "other size", "other shard", "no receipt", "receipt of other size"],
)
def test_a_changed_checkpoint_is_found(change: dict[str, Any], expected: list[str]) -> None:
    """Note and receipts are held against the columns, each by itself."""
    assert about_checkpoint(replace(sealed(), **change)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (LINE, []),
        (b"rubbish\n", ["stored.cosignature.malformed", "stored.column.differs"]),
        (LINE + LINE, ["stored.cosignature.malformed"]),
        (LINE + OTHER_LINE, ["stored.cosignature.malformed"]),
        (
            WITNESS.cosign(Checkpoint(ORIGIN, 2, ROOT).encode(), 1).line(),
            ["ledger.cosignature.invalid"],
        ),
    ],
    ids=["sound", "rubbish", "one line twice", "two lines", "of another tree"],
)
def test_a_witness_line_is_checked(line: bytes, expected: list[str]) -> None:
    """A line is one line, of its name, and verifies under its checkpoint."""
    row = CosignatureRow(1, 3, WITNESS.key.name, line)
    found = check_cosignature(row, sealed(), ORIGIN, [WITNESS.key])
    assert [finding.id for finding in found] == expected


def test_a_line_under_another_name_is_found() -> None:
    """The name beside a line is the line's."""
    row = CosignatureRow(1, 3, "witness.example/two", LINE)
    found = check_cosignature(row, sealed(), ORIGIN, [WITNESS.key])
    assert [finding.id for finding in found] == ["stored.column.differs"]


def test_a_line_without_checkpoint_or_sense_is_found() -> None:
    """A cosignature belongs to a checkpoint, and that to a shard."""
    row = CosignatureRow(1, 3, WITNESS.key.name, LINE)
    stray = check_cosignature(row, None, ORIGIN, [WITNESS.key])
    assert [finding.id for finding in stray] == ["stored.cosignature.stray"]
    senseless = check_cosignature(row, sealed(), "", [WITNESS.key])
    assert [finding.id for finding in senseless] == ["stored.checkpoint.malformed"]


def test_a_line_of_an_unknown_witness_is_noted() -> None:
    """What nobody gave a key for is not checked, and that is said."""
    row = CosignatureRow(1, 3, WITNESS.key.name, LINE)
    (finding,) = check_cosignature(row, sealed(), ORIGIN, [])
    assert (finding.id, finding.effect) == ("stored.cosignature.unchecked", Effect.NOTES)


@pytest.mark.parametrize(("size", "root"), [(3, bytes(32)), (4, ROOT)])
def test_entries_that_lead_elsewhere_are_found(size: int, root: bytes) -> None:
    """The tree of the entries has the size and root that were signed."""
    tree = TreeCheck()
    tree.grow(LEAVES)
    assert list(tree.check(3, ROOT)) == []
    assert [finding.id for finding in tree.check(size, root)] == ["stored.root.differs"]


# -- governance records

RECORDS: Final = [
    GovernanceRecord(1, "cli:init", "root.added", {"digest": bytes(32)}, None),
]
RECORDS.append(
    GovernanceRecord(2, "cli:init", "root.added", {"digest": b"\x01" * 32}, RECORDS[0].digest)
)


def governed(number: int, record: GovernanceRecord) -> GovernanceRow:
    """Return a record's row; its leaf stands at its number."""
    subject = record.details["digest"]
    assert isinstance(subject, bytes)
    return GovernanceRow(number, record.digest, subject, record.kind, record.encoded, 1, number)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"digest": bytes(32)}, ["stored.record.altered"]),
        ({"kind": "admin.login"}, ["stored.column.differs"]),
        ({"subject": b"\x07" * 32}, ["stored.column.differs"]),
        ({"number": 9}, ["stored.column.differs"]),
        ({"position": 1}, ["stored.entry.differs"]),
        (
            {"record": RECORDS[0].encoded, "digest": RECORDS[0].digest, "subject": bytes(32)},
            [
                "stored.chain.broken",
                "stored.entry.differs",
            ],
        ),
        ({"record": b"\x00"}, ["stored.record.malformed"]),
    ],
    ids=["sound", "digest", "kind", "subject", "number", "position", "chain", "record"],
)
def test_a_governance_record_is_checked(change: dict[str, Any], expected: list[str]) -> None:
    """Digest, columns, chain and leaf each have a check."""
    rows = [governed(number, record) for number, record in enumerate(RECORDS, 1)]
    leaves = {(1, row.number): encode_leaf(row.digest) for row in rows}
    rows[1] = replace(rows[1], **change)
    checked = check_governance(rows, leaves, first=1, previous=None)
    assert [each.finding.id for each in checked.differences] == expected


def test_a_chain_that_leaves_a_record_out_is_found() -> None:
    """A record names the one before it, also across ranges of rows."""
    row = governed(2, RECORDS[1])
    leaves = {(1, 2): encode_leaf(row.digest)}
    checked = check_governance([row], leaves, first=2, previous=bytes(32))
    assert [each.finding.id for each in checked.differences] == ["stored.chain.broken"]


# -- shards and prunings

FINAL: Final = sealed().note


def opening(kind: str, time: int, **details: bytes) -> bytes:
    """Return the first record of a shard."""
    return GovernanceRecord(time, "verifier", kind, details, None).encoded


SHARDS: Final = (ShardRow(1, "2026-11", ORIGIN, 5), ShardRow(2, "2026-12", f"{NAME}/2026-12", 9))
OPENINGS: Final = {
    1: opening(LEDGER_OPENED, 5),
    2: opening(SHARD_OPENED, 9, **{CHECKPOINT: FINAL}),
}


@pytest.mark.parametrize(
    ("rows", "openings", "expected"),
    [
        (SHARDS, OPENINGS, []),
        (
            (SHARDS[0], replace(SHARDS[1], number=3)),
            OPENINGS | {3: OPENINGS[2]},
            [
                "stored.column.differs",
                "stored.shard.unchained",
            ],
        ),
        ((SHARDS[0], replace(SHARDS[1], origin=ORIGIN)), OPENINGS, ["stored.column.differs"]),
        ((SHARDS[0], replace(SHARDS[1], opened_at=8)), OPENINGS, ["stored.shard.unchained"]),
        (SHARDS, OPENINGS | {2: None}, ["stored.shard.unchained"]),
        (
            SHARDS,
            OPENINGS | {2: opening(LEDGER_OPENED, 9, **{CHECKPOINT: FINAL})},
            ["stored.shard.unchained"],
        ),
        (
            SHARDS,
            OPENINGS | {2: opening(SHARD_OPENED, 9, **{CHECKPOINT: b"other"})},
            ["stored.shard.unchained"],
        ),
        (
            SHARDS,
            OPENINGS | {1: opening(LEDGER_OPENED, 5, **{CHECKPOINT: FINAL})},
            ["stored.shard.unchained"],
        ),
    ],
    ids=["sound", "number", "origin", "time", "no opening", "kind", "other end", "end before all"],
)
def test_shards_are_chained(
    rows: tuple[ShardRow, ...], openings: dict[int, bytes | None], expected: list[str]
) -> None:
    """Each shard begins with a record of its time that holds the end of the one before."""
    checked = check_shards(rows, openings, {1: FINAL, 2: b""}, NAME)
    assert [each.finding.id for each in checked.differences] == expected


@pytest.mark.parametrize(("before", "known"), [(8, True), (7, False)])
def test_a_pruning_is_on_record(before: int, known: bool) -> None:  # noqa: FBT001 - a table
    """That evidence was let go stands in the ledger, with the time before which it was."""
    record = GovernanceRecord(9, "cli:prune", "evidence.pruned", {"before": 8}, None)
    rows = [PruningRow(1, before, record.digest)]
    checked = check_prunings(rows, {record.digest: record.encoded})
    expected = [] if known else ["stored.column.differs"]
    assert [each.finding.id for each in checked.differences] == expected


def test_a_root_that_is_no_certificate_is_found() -> None:
    """A root is parsed, whatever its digest says."""
    digest = hashlib.sha256(b"rubbish").digest()
    record = GovernanceRecord(7, "cli:init", "root.added", {"digest": digest}, None)
    row = RootRow(1, digest, b"rubbish", 7)
    checked = check_roots([row], {digest: [record.encoded]})
    assert [each.finding.id for each in checked.differences] == ["stored.root.malformed"]
    sound = check_roots([replace(row, number=2)], {digest: [record.encoded]})
    assert "stored.root.altered" in [each.finding.id for each in sound.differences]
