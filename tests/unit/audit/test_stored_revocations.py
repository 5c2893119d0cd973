"""Stored revocations: each is in the ledger, and each of the ledger is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootlease.audit.rows import RevocationRow
from bootlease.audit.storedrevocations import check_revocations
from bootlease.ledger import GovernanceRecord

NODE = b"\x11" * 32
ROWS = [
    RevocationRow(1, "node", NODE.hex(), 1, "stolen", "operator:a", 100),
    RevocationRow(2, "family", "make:id:49465800/X/*", 1, "weak", "operator:b", 200),
    RevocationRow(3, "node", NODE.hex(), 0, "found", "operator:a", 300),
]
RECORDS = [
    GovernanceRecord(
        100, "operator:a", "revocation.node", {"subject": NODE, "reason": "stolen"}, None
    ),
    GovernanceRecord(
        200,
        "operator:b",
        "revocation.family",
        {"subject": "make:id:49465800/X/*", "reason": "weak"},
        bytes(32),
    ),
    GovernanceRecord(
        300, "operator:a", "revocation-lifted.node", {"subject": NODE, "reason": "found"}, bytes(32)
    ),
]


def findings(rows: Sequence[RevocationRow], records: Sequence[GovernanceRecord]) -> list[str]:
    """Return what is wrong, as where and id."""
    checked = check_revocations(rows, [each.encoded for each in records])
    return [f"{each.where}: {each.finding.id}" for each in checked.differences]


def test_what_is_stored_is_what_the_ledger_says() -> None:
    """Row for row, also where one ends another."""
    assert findings(ROWS, RECORDS) == []
    assert check_revocations(ROWS, [each.encoded for each in RECORDS]).rows == 3
    assert findings([], []) == []


def test_a_row_that_is_gone_is_missed() -> None:
    """Whoever deletes one gives a revoked node its leases back."""
    assert findings(ROWS[:2], RECORDS) == ["revocation 3: stored.revocation.missing"]
    assert findings([], RECORDS[:1]) == ["revocation 1: stored.revocation.missing"]


def test_a_row_that_was_put_there_is_found() -> None:
    """Whoever adds the end of a revocation takes it back."""
    assert findings(ROWS, RECORDS[:2]) == ["revocation 3: stored.row.unrecorded"]


@pytest.mark.parametrize(
    "change",
    [
        {"number": 9},
        {"kind": "lineage"},
        {"subject": "22" * 32},
        {"in_force": 0},
        {"reason": "lost"},
        {"author": "operator:c"},
        {"at": 101},
    ],
)
def test_a_row_that_was_altered_differs(change: dict[str, object]) -> None:
    """In whatever column."""
    altered = [replace(ROWS[0], **change), *ROWS[1:]]  # type: ignore[arg-type]  # any column
    assert findings(altered, RECORDS) == ["revocation 1: stored.revocation.differs"]


def test_a_record_that_does_not_parse_is_another_checks() -> None:
    """Its own row tells of it; here its revocation has no record."""
    checked = check_revocations(ROWS[:1], [b"x"])
    (found,) = checked.differences
    assert found.finding.id == "stored.row.unrecorded"
