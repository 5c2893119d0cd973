"""Retention: deleting evidence and logs that are needed only by decisions too old to ask about.

What is kept, whatever its age: every document of a lineage that has a younger decision or has not
ended, because the proof of a lease goes back to the full evidence of its lineage; every log that a
kept document names. Decisions, their records, the signatures of their tokens and everything of the
ledger stay for ever. That something was deleted, up to when, and by whom is itself recorded there,
before the first row goes.

Only the database's free pages grow; the file does not shrink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import bindparam, delete, func, insert, select

from bootlease.ledger import GovernanceDetail
from bootlease.store.decisions import digests_in
from bootlease.store.tables import blobs, decisions, evidence, nodes, prunings

if TYPE_CHECKING:
    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection

T = TypeVar("T")

BATCH: Final = 256
"""Rows deleted in one transaction, for which everybody waits."""

_KEPT_DOCUMENTS: Final = (
    select(decisions.c.number, decisions.c.decided_at, decisions.c.root, decisions.c.logs)
    .join_from(evidence, decisions, decisions.c.number == evidence.c.number)
    .order_by(evidence.c.number)
)
_YOUNG_ROOTS: Final = (
    select(decisions.c.root).where(decisions.c.decided_at >= bindparam("before")).distinct()
)
_LIVE_ROOTS: Final = (
    select(decisions.c.root)
    .join_from(nodes, decisions, decisions.c.digest == nodes.c.decision)
    .where(nodes.c.prior.is_not(None))
)
_LAST: Final = select(func.coalesce(func.max(decisions.c.number), 0))
_LOGS: Final = select(blobs.c.digest).order_by(blobs.c.digest)
_NAMED_SINCE: Final = select(decisions.c.logs).where(decisions.c.number > bindparam("last"))
_ADD_PRUNING: Final = insert(prunings).values(
    before=bindparam("before"), record=bindparam("record")
)
_DELETE_DOCUMENT: Final = delete(evidence).where(evidence.c.number == bindparam("gone"))
_DELETE_LOG: Final = delete(blobs).where(blobs.c.digest == bindparam("gone"))


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted.

    Attributes:
        documents: Evidence documents.
        logs: Logs.
    """

    documents: int
    logs: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be deleted.

    Attributes:
        before: Decisions of this second and later are young.
        documents: Numbers of the evidence documents.
        logs: Digests of the logs.
        last: Number of the last decision that was looked at.
    """

    before: int
    documents: tuple[int, ...]
    logs: tuple[bytes, ...]
    last: int


def plan(db: Connection, before: int) -> Plan:
    """Find what nobody needs. May take long; reads only.

    What is found stays unneeded: a lineage that has ended does not come back. Only a log may be
    sent again, which ``delete_logs`` looks for.
    """
    with db.snapshot():
        return _plan(db, before)


def _plan(db: Connection, before: int) -> Plan:
    last = db.one(_LAST)
    roots = {row[0] for row in db.stream(_YOUNG_ROOTS, {"before": before})}
    roots |= {row[0] for row in db.stream(_LIVE_ROOTS)}
    gone: list[int] = []
    named: set[bytes] = set()
    for number, decided_at, root, logs in db.stream(_KEPT_DOCUMENTS):
        if decided_at < before and root not in roots:
            gone.append(number)
        else:
            named.update(digests_in(logs))
    unnamed = (row[0] for row in db.stream(_LOGS))
    return Plan(
        before,
        tuple(gone),
        tuple(digest for digest in unnamed if digest not in named),
        0 if last is None else last[0],
    )


def announce(db: Connection, ledger: Appender, plan: Plan, *, now: int, author: str) -> None:
    """Record that what is older is deleted; from then on the database permits it."""
    details: dict[str, GovernanceDetail] = {
        "before": plan.before,
        "documents": len(plan.documents),
        "logs": len(plan.logs),
    }
    record = ledger.record("evidence.pruned", details, author=author, now=now)
    db.run(_ADD_PRUNING, {"before": plan.before, "record": record})


def batches(members: Sequence[T]) -> Iterator[Sequence[T]]:
    """Part what is to be deleted into transactions."""
    for at in range(0, len(members), BATCH):
        yield members[at : at + BATCH]


def delete_documents(db: Connection, numbers: Sequence[int]) -> int:
    """Delete evidence documents that a plan found."""
    return sum(db.run(_DELETE_DOCUMENT, {"gone": number}) for number in numbers)


def delete_logs(db: Connection, digests: Sequence[bytes], *, last: int) -> int:
    """Delete logs that a plan found, unless a decision since then names them."""
    since = {name for row in db.rows(_NAMED_SINCE, {"last": last}) for name in digests_in(row[0])}
    return sum(db.run(_DELETE_LOG, {"gone": one}) for one in digests if one not in since)
