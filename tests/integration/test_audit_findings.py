"""One change of a stored ledger, and exactly what an audit says of it.

That something is found would hide a check that is gone behind the next one: what it is, is held
here.
"""

# ruff: noqa: S608 - the statements are this file's own

from __future__ import annotations

import shutil
import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bootlease.audit.rows import Difference
from bootlease.cli.ledger_check import Ground, check_ledger
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded_verifier import ISSUER, JWT, recorded_verifier
from bootlease.testing.scene import POLICY, default_lease
from bootlease.token import KeySet, VerificationKey
from bootlease.verifier.datadir import DATABASE, load_keys

MONTH: Final = 31 * 86_400
TILE: Final = 256
PRUNED: Final = "replay.input.pruned"
"""A note of the history itself."""

GRANT: Final = "number = 5"
REFUSAL: Final = "number = 4"
TREE: Final = "shard = 2 AND size = 3"
FIRST_RECORD: Final = "digest = (SELECT min(digest) FROM enrolment_records)"
FIRST_NODE: Final = "node = (SELECT min(node) FROM nodes)"
NONE: Final = "zeroblob(32)"


@dataclass(frozen=True, slots=True)
class History:
    """A closed database with everything in it that an audit looks at.

    Attributes:
        ground: What an audit of it is told.
    """

    ground: Ground

    def audit(self, path: Path) -> tuple[Difference, ...]:
        """Return all that is found in a database of these keys, but what the history leaves."""
        ground = Ground(path, self.ground.ledger, tokens=self.ground.tokens)
        found = check_ledger(ground, 1, lambda _done, _total: None).differences
        return tuple(each for each in found if each.finding.id != PRUNED)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, local_ca: LocalCA) -> History:
    """Two months: two nodes, a full tile, a pruning, a refusal and another policy."""
    folder = tmp_path_factory.mktemp("recorded") / "verifier"
    with recorded_verifier(folder, local_ca) as verifier:
        nodes = verifier.record(2, 1)
        for number in range(TILE):
            verifier.add_join_token(b"%d" % number)
        verifier.clock.time += MONTH
        for node in nodes:
            verifier.lapse(node)
        verifier.decide(nodes[0])
        assert not verifier.decide(nodes[1], [default_lease(("deploy:prod",))])
        verifier.decide(nodes[0], [JWT, default_lease(("repo:acme/tools",))])
        verifier.prune(verifier.clock.time)
        verifier.use_policy(POLICY.replace("120", "90"))
        verifier.clock.time += 30
        verifier.decide(nodes[0])
        keys = load_keys(folder, ISSUER)
    with sqlite3.connect(folder / DATABASE) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    tokens = KeySet((VerificationKey(keys.token.public),)).to_cose()
    return History(Ground(folder / DATABASE, keys.ledger.key, tokens=tokens))


def changed(history: History, folder: Path, statement: str) -> Path:
    """Return a copy in which ``statement`` changed something, though triggers forbid it."""
    copy = folder / "copy.db"
    shutil.copy(history.ground.path, copy)
    db = sqlite3.connect(copy)
    db.create_function("again", 1, lambda data: zlib.compress(zlib.decompress(data), 1))
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    assert db.execute(statement).rowcount > 0
    db.commit()
    db.close()
    return copy


def check(history: History, folder: Path, statement: str, expected: str, says: str) -> None:
    """Demand that a change gives exactly these ids at these rows, and this sentence."""
    found = history.audit(changed(history, folder, statement))
    rows = {f"{each.where.partition(' ')[0]}: {each.finding.id}" for each in found}
    assert rows == set(expected.split(", "))
    assert any(says in each.finding.message for each in found), found


def test_the_history_is_sound(history: History) -> None:
    """Nothing is found in it but that evidence was pruned."""
    assert history.audit(history.ground.path) == ()


@pytest.mark.parametrize(
    ("change", "expected", "says"),
    [
        (f"digest = {NONE} WHERE number = 6", "decision: stored.record.altered", "recorded under"),
        (f"node = {NONE} WHERE {GRANT}", "decision: stored.column.differs", "column node"),
        (f"granted = 0 WHERE {GRANT}", "decision: stored.column.differs", "column granted"),
        (f"decided_at = 1 WHERE {GRANT}", "decision: stored.column.differs", "column decided_at"),
        (f"root = {NONE} WHERE {GRANT}", "decision: stored.column.differs", "column root"),
        (f"logs = x'' WHERE {GRANT}", "decision: stored.column.differs", "column logs"),
        (
            f"claims = CAST(claims || x'00' AS BLOB) WHERE {GRANT}",
            "decision: stored.column.differs",
            "column claims",
        ),
        (f"evidence = {NONE} WHERE {GRANT}", "decision: stored.column.differs", "column evidence"),
        (
            f"position = position - 1 WHERE {GRANT}",
            "decision: stored.chain.broken, decision: stored.entry.differs",
            "before the one before it",
        ),
        (
            f"record = x'00' WHERE {GRANT}",
            (
                "decision: stored.record.malformed, decision: stored.decision.missing,"
                " decision: stored.chain.broken, shard: stored.entry.unaccounted"
            ),
            "Decisions before this one are gone",
        ),
    ],
)
def test_a_changed_decision(
    history: History, tmp_path: Path, change: str, expected: str, says: str
) -> None:
    """Each column of a decision has a check of its own."""
    check(history, tmp_path, f"UPDATE decisions SET {change}", expected, says)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            f"UPDATE evidence SET digest = {NONE} WHERE {GRANT}",
            "decision: stored.column.differs, decision: replay.input.missing",
        ),
        (f"DELETE FROM evidence WHERE {GRANT}", "decision: replay.input.missing"),
        (
            f"UPDATE evidence SET number = 99 WHERE {GRANT}",
            "evidence: stored.row.stray",
        ),
        (f"DELETE FROM token_signatures WHERE {GRANT}", "decision: stored.token.missing"),
        (
            f"UPDATE token_signatures SET signatures = x'00' WHERE {GRANT}",
            "decision: stored.token.malformed",
        ),
        (
            (
                "INSERT INTO token_signatures SELECT 4, signatures"
                f" FROM token_signatures WHERE {GRANT}"
            ),
            "decision: stored.token.stray",
        ),
        (
            "UPDATE token_signatures SET number = 99 WHERE number = 6",
            "decision: stored.token.missing, token_signatures: stored.row.stray",
        ),
    ],
)
def test_changed_evidence_and_signatures(
    history: History, tmp_path: Path, statement: str, expected: str
) -> None:
    """What stands beside a decision is missed, and is found where it has no business."""
    check(history, tmp_path, statement, expected, "")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (f"digest = {NONE} WHERE number = 9", "governance: stored.record.altered"),
        ("kind = 'admin.login' WHERE number = 9", "governance: stored.column.differs"),
        ("position = position + 1 WHERE number = 9", "governance: stored.entry.differs"),
        (
            f"subject = {NONE} WHERE number = 9",
            "governance: stored.column.differs, join: stored.row.unrecorded",
        ),
        (
            "record = x'00' WHERE number = 9",
            "governance: stored.record.malformed, join: stored.row.unrecorded",
        ),
    ],
)
def test_a_changed_governance_record(
    history: History, tmp_path: Path, change: str, expected: str
) -> None:
    """Each column of a governance record has a check, and its row loses its record."""
    check(history, tmp_path, f"UPDATE governance SET {change}", expected, "")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE shards SET opened_at = opened_at + 1 WHERE number = 2",
            "shard: stored.shard.unchained",
        ),
        ("UPDATE shards SET name = 'x' WHERE number = 2", "shard: stored.column.differs"),
        (
            "UPDATE entries SET leaf = x'00' WHERE shard = 2 AND position = 2",
            "checkpoint: stored.root.differs, decision: stored.entry.differs",
        ),
        (
            "DELETE FROM entries WHERE shard = 2 AND position = 2",
            (
                "shard: stored.entry.missing, shard: stored.entry.unaccounted,"
                " decision: stored.entry.differs"
            ),
        ),
        (
            "INSERT INTO entries SELECT 2, 1 + max(position), x'00' FROM entries WHERE shard = 2",
            "shard: stored.entry.unaccounted",
        ),
        ("UPDATE tiles SET hashes = zeroblob(8192)", "tile: stored.tile.differs"),
        (f"UPDATE tiles SET root = {NONE}", "tile: stored.tile.differs"),
        ("DELETE FROM tiles", "tile: stored.tile.differs, shard: stored.tile.stray"),
        (
            "INSERT INTO tiles SELECT 2, 0, 0, root, hashes FROM tiles",
            "shard: stored.tile.stray",
        ),
        (
            f"UPDATE checkpoints SET root = {NONE} WHERE {TREE}",
            (
                "checkpoint: stored.root.differs, checkpoint: stored.column.differs,"
                " checkpoint: stored.receipt.invalid"
            ),
        ),
        (
            f"UPDATE checkpoints SET note = x'00' WHERE {TREE}",
            "checkpoint: stored.checkpoint.malformed",
        ),
        (
            f"UPDATE checkpoints SET signature = zeroblob(64) WHERE {TREE}",
            "checkpoint: stored.receipt.invalid",
        ),
        (
            "INSERT INTO cosignatures VALUES (2, 999, 'witness', x'00')",
            "cosignature: stored.cosignature.stray",
        ),
        (
            "INSERT INTO cosignatures VALUES (2, 3, 'witness', x'00')",
            "cosignature: stored.cosignature.malformed, cosignature: stored.column.differs",
        ),
        ("UPDATE prunings SET before = before - 1", "pruning: stored.column.differs"),
        (f"UPDATE prunings SET record = {NONE}", "pruning: stored.column.differs"),
    ],
)
def test_a_changed_tree(history: History, tmp_path: Path, statement: str, expected: str) -> None:
    """Entries, tiles, checkpoints, cosignatures, shards and prunings each have a check."""
    check(history, tmp_path, statement, expected, "")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE policies SET id = 'x' WHERE epoch = 2",
            "policy: stored.policy.altered, policy: stored.row.unrecorded",
        ),
        (
            "UPDATE policies SET document = x'00' WHERE epoch = 2",
            (
                "policy: stored.policy.malformed, policy: stored.row.unrecorded,"
                " decision: replay.input.altered"
            ),
        ),
        (
            "UPDATE policies SET activated_at = 1 WHERE epoch = 2",
            "policy: stored.row.unrecorded",
        ),
        (
            "UPDATE reference_sets SET name = 'x'",
            "reference: stored.reference.altered, reference: stored.row.unrecorded",
        ),
        (
            "UPDATE reference_sets SET document = x'00'",
            (
                "reference: stored.reference.malformed, reference: stored.row.unrecorded,"
                " decision: replay.input.altered"
            ),
        ),
        ("UPDATE reference_sets SET registered_at = 1", "reference: stored.row.unrecorded"),
        (
            "UPDATE roots SET certificate = x'00'",
            (
                "root: stored.root.malformed, root: stored.root.altered,"
                " enrolment: endorsement.malformed, decision: replay.input.altered"
            ),
        ),
        (
            f"UPDATE roots SET digest = {NONE}",
            (
                "root: stored.root.altered, root: stored.row.unrecorded,"
                " enrolment: endorsement.root.missing, decision: replay.input.missing"
            ),
        ),
        ("UPDATE roots SET added_at = 1", "root: stored.row.unrecorded"),
        ("UPDATE credentials SET label = 'x'", "credential: stored.row.unrecorded"),
        ("UPDATE join_tokens SET expires_at = 1", "join: stored.row.unrecorded"),
    ],
)
def test_a_changed_registry(
    history: History, tmp_path: Path, statement: str, expected: str
) -> None:
    """Policies, references, roots and credentials are held against themselves and their records."""
    check(history, tmp_path, statement, expected, "")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            f"UPDATE enrolment_records SET document = x'00' WHERE {FIRST_RECORD}",
            (
                "enrolment: stored.enrolment.altered, node: stored.node.differs,"
                " decision: replay.input.altered"
            ),
        ),
        (
            f"UPDATE enrolment_records SET ek_chain = x'ff' WHERE {FIRST_RECORD}",
            "enrolment: stored.enrolment.malformed, node: stored.node.differs",
        ),
        (
            f"UPDATE enrolment_records SET ek_chain = x'80' WHERE {FIRST_RECORD}",
            "enrolment: endorsement.malformed, enrolment: stored.row.unrecorded",
        ),
        (
            "UPDATE blobs SET data = x'ffff'",
            "log: stored.log.altered, decision: replay.input.malformed",
        ),
        (
            "UPDATE blobs SET data = x'00'",
            "log: stored.log.altered, decision: replay.input.malformed",
        ),
        ("UPDATE blobs SET size = size + 1", "log: stored.log.altered"),
        ("UPDATE blobs SET data = again(data)", "log: stored.log.encoding"),
        (
            f"UPDATE blobs SET digest = {NONE}",
            "log: stored.log.altered, decision: replay.input.missing",
        ),
    ],
)
def test_a_changed_enrolment_or_log(
    history: History, tmp_path: Path, statement: str, expected: str
) -> None:
    """What decisions rest on is held against its digest."""
    check(history, tmp_path, statement, expected, "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (f"enrolment = {NONE}", "Its enrolment"),
        ("decision = NULL", "Its last decision"),
        ("high_water = x'ff'", "Its high-water mark"),
        ("prior = x'00'", "Its lineage's state"),
    ],
)
def test_a_changed_node(history: History, tmp_path: Path, change: str, says: str) -> None:
    """Where a node stands is what its decisions left, column by column."""
    statement = f"UPDATE nodes SET {change} WHERE {FIRST_NODE}"
    check(history, tmp_path, statement, "node: stored.node.differs", says)


def test_a_node_that_is_gone(history: History, tmp_path: Path) -> None:
    """A node that was decided about must be there."""
    statement = f"DELETE FROM nodes WHERE {FIRST_NODE}"
    check(history, tmp_path, statement, "node: stored.node.missing", "Its row is gone")


def test_a_mark_of_an_import_excuses_nothing(history: History, tmp_path: Path) -> None:
    """A verifier's own database is not one that was made of an export."""
    statement = "INSERT INTO settings VALUES ('imported', '00')"
    check(history, tmp_path, statement, "database: stored.database.imported", "an export")


def test_a_cell_that_cannot_be_read(history: History, tmp_path: Path) -> None:
    """What the engine cannot give back is told, and the rest is checked all the same."""
    statement = "UPDATE blobs SET data = data || x'ff'"
    found = history.audit(changed(history, tmp_path, statement))
    unreadable = {each.where for each in found if each.finding.id == "stored.database.unreadable"}
    assert unreadable
    assert all(not where.startswith("governance") for where in unreadable)


def test_an_index_that_lies(history: History, tmp_path: Path) -> None:
    """An index that no longer says what its table does is found by the engine's own check."""
    copy = changed(history, tmp_path, "UPDATE governance SET kind = kind WHERE number = 9")
    db = sqlite3.connect(copy)
    db.execute("PRAGMA writable_schema = ON")
    page = "(SELECT rootpage FROM sqlite_master WHERE name = 'ix_reference_sets_name')"
    db.execute(f"UPDATE sqlite_master SET rootpage = {page} WHERE name = 'ix_governance_subject'")
    db.commit()
    db.close()
    found = history.audit(copy)
    assert ("database", "stored.database.unreadable") in {
        (each.where, each.finding.id) for each in found
    }
