"""Stored revocations: the same, in the same order, as the ledger says.

A row that is gone gives a revoked node its leases back, and one that was put there takes them from
somebody: each must stand in the ledger, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Final

from bootlease.audit.rows import Checked, RevocationRow
from bootlease.errors import MalformedError
from bootlease.ledger import GovernanceRecord
from bootlease.ledger.governance import REVOCATION, REVOCATION_LIFTED
from bootlease.model import Finding

_MISSING: Final = Finding(
    "stored.revocation.missing", "The ledger has a revocation that is not stored, or not here."
)
_UNRECORDED: Final = Finding(
    "stored.row.unrecorded", "The ledger has no record of a row like this.", expected=REVOCATION
)
_DIFFERS: Final = Finding(
    "stored.revocation.differs", "The revocation is not what the ledger says of it."
)


def check_revocations(rows: Iterable[RevocationRow], records: Iterable[bytes]) -> Checked:
    """Check every revocation.

    Args:
        rows: In the order of their numbers.
        records: Every governance record about a revocation, in the order of the ledger.
    """
    checked = Checked()
    said = [record for record in map(_parsed, records) if record is not None]
    for number, (row, record) in enumerate(zip_longest(rows, said), 1):
        where = f"revocation {number}"
        if row is None:
            checked.say(where, [_MISSING])
            continue
        checked.rows += 1
        if record is None:
            checked.say(where, [_UNRECORDED])
        elif row.number != number or not _same(row, record):
            checked.say(where, [_DIFFERS])
    return checked


def _parsed(encoded: bytes) -> GovernanceRecord | None:
    try:
        return GovernanceRecord.parse(encoded)
    except MalformedError:
        # Its own row tells of it.
        return None


def _same(row: RevocationRow, record: GovernanceRecord) -> bool:
    prefix = REVOCATION if row.in_force == 1 else REVOCATION_LIFTED
    subject = record.details.get("subject")
    text = subject.hex() if isinstance(subject, bytes) else subject
    return (record.kind, text, record.details.get("reason"), record.author, record.time) == (
        prefix + row.kind,
        row.subject,
        row.reason,
        row.author,
        row.at,
    )
