"""Challenges, and reading what was decided."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, bindparam, delete, func, insert, literal_column, select

from bootlease.evidence import Challenge
from bootlease.ledger import DecisionRecord
from bootlease.lineage import Prior
from bootlease.ports import StoredAnswer, StoredChallenge, StoredDecision, StoredLineage
from bootlease.store.tables import answers, blobs, challenges, decisions, evidence, nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootlease.store.connection import Connection, Row

DIGEST_SIZE: Final = 32
_GRACE: Final = 300
"""Seconds that an expired challenge stays known, so that the agent hears "expired"."""

SWEPT_AT_ONCE: Final = 128
"""Rows deleted in one transaction, for which everybody waits."""

_challenge = challenges.c
_COUNT_LIVE: Final = (
    select(func.count())
    .select_from(challenges)
    .where(
        _challenge.node == bindparam("id"),
        _challenge.expires_at > bindparam("now"),
        _challenge.asked == literal_column("1"),  # in the text, for the index is on these alone
        _challenge.spent_at.is_(None),
    )
)
_ADD_CHALLENGE: Final = (
    insert(challenges)
    .values({name: bindparam(name) for name in _challenge.keys() if name != "number"})  # noqa: SIM118 - a column collection's keys
    .inline()
)
_CHALLENGE: Final = select(_challenge.document, _challenge.spent_at, _challenge.asked).where(
    _challenge.nonce == bindparam("challenge")
)
_LINEAGE: Final = select(nodes.c.version, nodes.c.prior, nodes.c.decision).where(
    nodes.c.node == bindparam("id")
)
_BLOB: Final = select(blobs.c.size, blobs.c.data).where(blobs.c.digest == bindparam("blob"))
_EVIDENCE: Final = select(evidence.c.document).where(evidence.c.digest == bindparam("document"))
_DECISION_COLUMNS: Final = (
    decisions.c.number,
    decisions.c.digest,
    decisions.c.node,
    decisions.c.granted,
    decisions.c.decided_at,
    decisions.c.record,
    decisions.c.claims,
    decisions.c.evidence,
)
_DECISION: Final = select(*_DECISION_COLUMNS).where(decisions.c.digest == bindparam("decision"))
_ANSWER: Final = select(answers.c.granted, answers.c.answer).where(
    and_(
        answers.c.request == bindparam("document"),
        answers.c.node == bindparam("id"),
        answers.c.expires_at > bindparam("now"),
    )
)
_SWEEP_CHALLENGES: Final = delete(challenges).where(
    _challenge.number.in_(
        select(_challenge.number)
        .where(_challenge.expires_at <= bindparam("before"))
        .order_by(_challenge.expires_at)
        .limit(SWEPT_AT_ONCE)
    )
)
_SWEEP_ANSWERS: Final = delete(answers).where(
    answers.c.number.in_(
        select(answers.c.number)
        .where(answers.c.expires_at <= bindparam("before"))
        .order_by(answers.c.expires_at)
        .limit(SWEPT_AT_ONCE)
    )
)


def add_challenge(db: Connection, challenge: Challenge, *, now: int, at_most: int) -> bool:
    """Keep a challenge that a request asked for, unless ``at_most`` such are live.

    Those that rode in answers are not counted: a stranger who asks in a node's name may use up
    what can be asked for, never what keeps a renewing node going.
    """
    count = db.one(_COUNT_LIVE, {"id": challenge.node, "now": now})
    if count is None or count[0] >= at_most:
        return False
    db.run(
        _ADD_CHALLENGE,
        {
            "nonce": challenge.nonce,
            "node": challenge.node,
            "document": challenge.encode(),
            "asked": 1,
            "expires_at": challenge.expires_at,
            "spent_at": None,
        },
    )
    return True


def challenge(db: Connection, nonce: bytes) -> StoredChallenge | None:
    """Return the challenge with this nonce."""
    row = db.one(_CHALLENGE, {"challenge": nonce})
    if row is None:
        return None
    return StoredChallenge(Challenge.parse(row[0]), row[1], asked=row[2] == 1)


def lineage(db: Connection, node: bytes) -> StoredLineage:
    """Return where the node's lineage stands."""
    row = db.one(_LINEAGE, {"id": node})
    if row is None:
        return StoredLineage(0, None, None)
    version, prior, last = row
    return StoredLineage(version, None if prior is None else Prior.parse(prior), last)


def answer(db: Connection, node: bytes, document: bytes, *, now: int) -> StoredAnswer | None:
    """Return what was answered to this evidence of this node."""
    row = db.one(_ANSWER, {"document": document, "id": node, "now": now})
    return None if row is None else StoredAnswer(granted=row[0] == 1, body=row[1])


def blob(db: Connection, digest: bytes) -> bytes | None:
    """Return a log by its digest."""
    row = db.one(_BLOB, {"blob": digest})
    return None if row is None else zlib.decompress(row[1], bufsize=max(row[0], 1))


def evidence_document(db: Connection, digest: bytes) -> bytes | None:
    """Return an evidence document with its logs left out."""
    row = db.one(_EVIDENCE, {"document": digest})
    return None if row is None else row[0]


def decision(db: Connection, digest: bytes) -> StoredDecision | None:
    """Return a recorded decision."""
    row = db.one(_DECISION, {"decision": digest})
    return None if row is None else _stored(row)


def decisions_of(db: Connection, node: bytes, *, at_most: int) -> tuple[StoredDecision, ...]:
    """Return a node's latest decisions, the latest first."""
    made: list[StoredDecision] = []
    for each in _backwards(db, lineage(db, node).decision):
        if len(made) == at_most:
            break
        made.append(each)
    return tuple(made)


def _backwards(db: Connection, digest: bytes | None) -> Iterator[StoredDecision]:
    while digest is not None and (found := decision(db, digest)) is not None:
        yield found
        digest = DecisionRecord.parse(found.record).previous


def _stored(row: Row) -> StoredDecision:
    number, digest, node, granted, decided_at, record, claims, document = row
    return StoredDecision(
        number=number,
        digest=digest,
        node=node,
        granted=granted == 1,
        decided_at=decided_at,
        record=record,
        claims=digests_in(claims),
        evidence=document,
    )


def digests_in(data: bytes) -> tuple[bytes, ...]:
    """Part digests that stand one after the other."""
    return tuple(data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE))


def sweep_challenges(db: Connection, *, now: int) -> int:
    """Delete some challenges that have expired; return how many."""
    return db.run(_SWEEP_CHALLENGES, {"before": now - _GRACE})


def sweep_answers(db: Connection, *, now: int) -> int:
    """Delete some answers that have expired; return how many."""
    return db.run(_SWEEP_ANSWERS, {"before": now})
