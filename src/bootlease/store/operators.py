"""What an operator does with a node that is enrolled: transactions on the writing connection.

Each of them ends the node's lineage, so that all decisions of one rest on one enrolment record and
on one memory of the TPM's counters; a decision that was appraised before and is to be committed
after finds another state than it was appraised against.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, null, select, update

from bootlease.ledger import GovernanceDetail
from bootlease.ledger.governance import LABELLED, READMITTED, REPLACED
from bootlease.lineage import HighWaterMark
from bootlease.ports import Activated, EnrolledNode, RevokedKind, StoredRevocation
from bootlease.store import enrolments, revocations
from bootlease.store.tables import enrolment_records, join_tokens, nodes, pending_enrolments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection

_CHAIN: Final = select(enrolment_records.c.ek_chain).where(
    enrolment_records.c.digest == bindparam("record")
)
_TAKES_PLACE: Final = (
    select(join_tokens.c.replaces)
    .join_from(
        pending_enrolments, join_tokens, pending_enrolments.c.join_token == join_tokens.c.digest
    )
    .where(
        pending_enrolments.c.id == bindparam("pending"),
        # Once: a token that is bound lets its node enrol again, and no node be replaced again.
        join_tokens.c.node.is_(None),
        join_tokens.c.replaces.is_not(None),
    )
)
_REPLACED: Final = select(join_tokens.c.replaces).where(
    join_tokens.c.node == bindparam("id"), join_tokens.c.replaces.is_not(None)
)
_FORGET: Final = (
    update(nodes)
    .where(nodes.c.node == bindparam("id"))
    .values(high_water=bindparam("mark"), version=nodes.c.version + 1, prior=null())
)


def activate(
    db: Connection, ledger: Appender, enrolment: bytes, secret_digest: bytes, *, now: int
) -> tuple[Activated, bytes | None]:
    """Enrol a node as ``enrolments.activate`` does; it may take another one's place thereby."""
    row = db.one(_TAKES_PLACE, {"pending": enrolment})
    outcome, node = enrolments.activate(db, ledger, enrolment, secret_digest, now=now)
    if outcome is Activated.ENROLLED and node is not None and row is not None and row[0] != node:
        # The operator's act is that the token was made, which the ledger has with its author.
        replace_node(db, ledger, row[0], node, now=now, author=f"node:{node.hex()}")
        return Activated.REPLACED, node
    return outcome, node


def replaced_by(db: Connection, node: bytes) -> tuple[bytes, ...]:
    """Return the nodes whose place a node took by enrolling with a join token."""
    return tuple(row[0] for row in db.rows(_REPLACED, {"id": node}))


def label(
    db: Connection,
    ledger: Appender,
    node: bytes,
    labels: Sequence[str],
    *,
    now: int,
    author: str,
) -> EnrolledNode | None:
    """Give a node these labels and no others; return it as it is then, or None for a stranger."""
    known = enrolments.node(db, node)
    if known is None or known.enrolment.labels == tuple(labels):
        return known
    before = known.enrolment
    made = replace(before, labels=tuple(labels))
    row = db.one(_CHAIN, {"record": before.digest})
    chain = enrolments.adopt(db, made, b"" if row is None else row[0])
    details: dict[str, GovernanceDetail] = {
        "node": node,
        "enrolment": made.digest,
        "chain": hashlib.sha256(chain).digest(),
        "before": before.digest,
        "labels": " ".join(made.labels),
    }
    ledger.record(LABELLED, details, author=author, now=now, subject=made.digest)
    return replace(known, enrolment=made)


def readmit(
    db: Connection, ledger: Appender, node: bytes, reason: str, *, now: int, author: str
) -> HighWaterMark | None:
    """Forget how far a node's TPM has counted, and that it was revoked.

    Returns:
        How far it had counted, or None for a stranger.
    """
    known = enrolments.node(db, node)
    if known is None:
        return None
    mark = known.high_water
    revocations.add(db, ledger, _of_node(node, reason, now, author, in_force=False))
    db.run(_FORGET, {"id": node, "mark": HighWaterMark().encode()})
    ledger.record(
        READMITTED,
        {"node": node, "reason": reason, "high_water": mark.encode()},
        author=author,
        now=now,
        subject=node,
    )
    return mark


def replace_node(
    db: Connection, ledger: Appender, old: bytes, new: bytes, *, now: int, author: str
) -> EnrolledNode | None:
    """Let a node take the labels of another, which is revoked.

    Returns:
        The node as it is then, or None where one of them is a stranger.
    """
    before = enrolments.node(db, old)
    if before is None or enrolments.node(db, new) is None:
        return None
    reason = f"replaced by {new.hex()}"
    revocations.add(db, ledger, _of_node(old, reason, now, author, in_force=True))
    revocations.end_lineages(db, [(old, None)])
    ledger.record(REPLACED, {"node": new, "replaces": old}, author=author, now=now, subject=new)
    return label(db, ledger, new, before.enrolment.labels, now=now, author=author)


def _of_node(
    node: bytes, reason: str, now: int, author: str, *, in_force: bool
) -> StoredRevocation:
    return StoredRevocation(RevokedKind.NODE, node.hex(), in_force, reason, author, now)
