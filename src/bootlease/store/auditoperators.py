"""What operators did that an audit has to know, read from the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, or_, select

from bootlease.errors import MalformedError
from bootlease.ledger import GovernanceRecord
from bootlease.ledger.governance import READMITTED, RULE_DEMANDED, RULE_LIFTED
from bootlease.store.tables import TWO_PERSON, governance, settings

if TYPE_CHECKING:
    from bootlease.store.connection import Connection

_READMISSIONS: Final = (
    select(governance.c.shard, governance.c.position, governance.c.record)
    .where(governance.c.kind == bindparam("which"))
    .order_by(governance.c.number)
)
_RULE: Final = select(settings.c.value).where(settings.c.name == TWO_PERSON)
_LAST_RULE: Final = (
    select(governance.c.kind)
    .where(or_(governance.c.kind == RULE_DEMANDED, governance.c.kind == RULE_LIFTED))
    .order_by(governance.c.number.desc())
    .limit(1)
)


def readmissions(db: Connection) -> list[tuple[tuple[int, int], bytes]]:
    """Return where in the ledger operators re-admitted nodes, and which, the oldest first."""
    found = []
    for shard, position, record in db.rows(_READMISSIONS, {"which": READMITTED}):
        try:
            node = GovernanceRecord.parse(record).details.get("node")
        except MalformedError:
            # Its own row tells of it.
            continue
        if isinstance(node, bytes):
            found.append(((int(shard), int(position)), node))
    return found


def two_person(db: Connection) -> tuple[bool, str | None]:
    """Return whether the two-person rule holds, and what the ledger says last of it."""
    row = db.one(_LAST_RULE)
    return db.one(_RULE) is not None, None if row is None else str(row[0])
