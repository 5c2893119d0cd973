"""Challenges and decisions: the transaction that spends the one and records the other."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, bindparam, delete, func, insert, select, update

from bootlease import cbor
from bootlease.evidence import Challenge
from bootlease.lineage import Prior
from bootlease.ports import (
    CommitOutcome,
    DecisionCommit,
    StoredAnswer,
    StoredChallenge,
    StoredDecision,
    StoredLineage,
)
from bootlease.store.registry import governance
from bootlease.store.tables import (
    answers,
    blobs,
    challenges,
    decisions,
    evidence,
    lineages,
    nodes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootlease.store.connection import Connection, Row

MAX_CLAIMS: Final = 64 * 1024
_LOG_COMPRESSION: Final = 6
_GRACE: Final = 300
"""Seconds that an expired challenge stays known, so that the agent hears "expired"."""

_challenge = challenges.c
_COUNT_LIVE: Final = (
    select(func.count())
    .select_from(challenges)
    .where(
        _challenge.node == bindparam("id"),
        _challenge.expires_at > bindparam("now"),
        _challenge.asked == 1,
        _challenge.spent_at.is_(None),
    )
)
_ADD_CHALLENGE: Final = insert(challenges).inline()
_CHALLENGE: Final = select(_challenge.document, _challenge.spent_at, _challenge.asked).where(
    _challenge.nonce == bindparam("challenge")
)
_SPEND: Final = (
    update(challenges)
    .where(
        _challenge.nonce == bindparam("challenge"),
        _challenge.node == bindparam("id"),
        _challenge.spent_at.is_(None),
        _challenge.expires_at > bindparam("now"),
    )
    .values(spent_at=bindparam("now"))
)
_LINEAGE: Final = select(lineages.c.version, lineages.c.prior, lineages.c.decision).where(
    lineages.c.node == bindparam("id")
)
_BEGIN_LINEAGE: Final = insert(lineages).inline()
_MOVE_LINEAGE: Final = (
    update(lineages)
    .where(lineages.c.node == bindparam("id"), lineages.c.version == bindparam("seen"))
    .values(version=bindparam("next"), prior=bindparam("state"), decision=bindparam("last"))
)
_RAISE_MARK: Final = (
    update(nodes)
    .where(nodes.c.node == bindparam("id"), nodes.c.high_water < bindparam("counters"))
    .values(high_water=bindparam("counters"))
)
_HAS_BLOB: Final = select(blobs.c.size).where(blobs.c.digest == bindparam("blob"))
_ADD_BLOB: Final = insert(blobs).inline()
_BLOB: Final = select(blobs.c.size, blobs.c.data).where(blobs.c.digest == bindparam("blob"))
_ADD_EVIDENCE: Final = insert(evidence).inline()
_HAS_EVIDENCE: Final = select(evidence.c.digest).where(evidence.c.digest == bindparam("document"))
_EVIDENCE: Final = select(evidence.c.document).where(evidence.c.digest == bindparam("document"))
_ADD_DECISION: Final = (
    insert(decisions)
    .values({name: bindparam(name) for name in decisions.c.keys() if name != "number"})  # noqa: SIM118 - a column collection's keys
    .inline()
)
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
_DECISIONS_OF: Final = (
    select(*_DECISION_COLUMNS)
    .where(decisions.c.node == bindparam("id"))
    .order_by(decisions.c.number.desc())
    .limit(bindparam("at_most"))
)
_ADD_ANSWER: Final = insert(answers).inline()
_ANSWER: Final = select(answers.c.granted, answers.c.answer).where(
    and_(
        answers.c.request == bindparam("document"),
        answers.c.node == bindparam("id"),
        answers.c.expires_at > bindparam("now"),
    )
)
_SWEEP_CHALLENGES: Final = delete(challenges).where(_challenge.expires_at <= bindparam("before"))
_SWEEP_ANSWERS: Final = delete(answers).where(answers.c.expires_at <= bindparam("before"))


def add_challenge(db: Connection, challenge: Challenge, *, now: int, at_most: int) -> bool:
    """Keep a challenge that a request asked for, unless ``at_most`` such are live.

    Those that rode in answers are not counted: a stranger who asks in a node's name may use up
    what can be asked for, never what keeps a renewing node going.
    """
    count = db.one(_COUNT_LIVE, {"id": challenge.node, "now": now})
    if count is None or count[0] >= at_most:
        return False
    _insert_challenge(db, challenge, asked=True)
    return True


def _insert_challenge(db: Connection, challenge: Challenge, *, asked: bool) -> None:
    db.run(
        _ADD_CHALLENGE,
        {
            "nonce": challenge.nonce,
            "node": challenge.node,
            "document": challenge.encode(),
            "asked": int(asked),
            "expires_at": challenge.expires_at,
            "spent_at": None,
        },
    )


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


def packed_logs(db: Connection, decision: DecisionCommit) -> dict[bytes, bytes]:
    """Return, compressed, the logs of a decision that are not kept yet.

    Compressing ten megabytes takes a good part of a second. It is done before the decision's turn
    to write, because everybody waits for that.
    """
    return {
        digest: zlib.compress(data, _LOG_COMPRESSION)
        for digest, data in decision.logs.items()
        if db.one(_HAS_BLOB, {"blob": digest}) is None
    }


def commit(
    db: Connection, decision: DecisionCommit, packed: Mapping[bytes, bytes]
) -> CommitOutcome:
    """Do what a decision does, whole, or nothing; see ``Store.commit_decision``.

    ``packed`` is what ``packed_logs`` returned for the decision.

    Everything is compared before anything is written: an outcome other than ``COMMITTED`` has
    touched no row.
    """
    outcome = _may_commit(db, decision)
    if outcome is not CommitOutcome.COMMITTED:
        return outcome
    node, now = decision.node, decision.now
    db.run(_SPEND, {"challenge": decision.nonce, "id": node, "now": now})
    db.run(_RAISE_MARK, {"id": node, "counters": decision.counters.encode()})
    _move_lineage(db, decision)
    _keep_evidence(db, decision, packed)
    db.run(
        _ADD_DECISION,
        {
            "digest": decision.digest,
            "node": node,
            "evidence": decision.evidence,
            "granted": int(decision.answer.granted),
            "decided_at": now,
            "record": decision.record,
            "claims": cbor.encode(decision.claims),
        },
    )
    db.run(
        _ADD_ANSWER,
        {
            "request": decision.request,
            "node": node,
            "granted": int(decision.answer.granted),
            "answer": decision.answer.body,
            "expires_at": decision.answer_expires_at,
        },
    )
    if decision.next_challenge is not None:
        _insert_challenge(db, decision.next_challenge, asked=False)
    return CommitOutcome.COMMITTED


_NODE_STATE: Final = select(nodes.c.generation, nodes.c.high_water).where(
    nodes.c.node == bindparam("id")
)
_LINEAGE_VERSION: Final = select(lineages.c.version).where(lineages.c.node == bindparam("id"))
_CHALLENGE_STATE: Final = select(_challenge.node, _challenge.expires_at, _challenge.spent_at).where(
    _challenge.nonce == bindparam("challenge")
)


def _may_commit(db: Connection, decision: DecisionCommit) -> CommitOutcome:
    state = db.one(_CHALLENGE_STATE, {"challenge": decision.nonce})
    if state is None or state[0] != decision.node or state[1] <= decision.now:
        return CommitOutcome.EXPIRED
    if state[2] is not None:
        same = answer(db, decision.node, decision.request, now=decision.now)
        return CommitOutcome.SPENT if same is None else CommitOutcome.ANSWERED
    enrolled = db.one(_NODE_STATE, {"id": decision.node})
    if enrolled is None or enrolled != (decision.generation, decision.high_water.encode()):
        return CommitOutcome.CONFLICT
    if governance(db) != decision.governance:
        return CommitOutcome.OUTDATED
    row = db.one(_LINEAGE_VERSION, {"id": decision.node})
    if (0 if row is None else row[0]) != decision.lineage_version:
        return CommitOutcome.CONFLICT
    return CommitOutcome.COMMITTED


def _move_lineage(db: Connection, decision: DecisionCommit) -> None:
    prior = None if decision.lineage is None else decision.lineage.encode()
    if decision.lineage_version == 0:
        db.run(
            _BEGIN_LINEAGE,
            {"node": decision.node, "version": 1, "prior": prior, "decision": decision.digest},
        )
        return
    db.run(
        _MOVE_LINEAGE,
        {
            "id": decision.node,
            "seen": decision.lineage_version,
            "next": decision.lineage_version + 1,
            "state": prior,
            "last": decision.digest,
        },
    )


def _keep_evidence(db: Connection, decision: DecisionCommit, packed: Mapping[bytes, bytes]) -> None:
    for digest, data in packed.items():
        # Two decisions with one new log may have been under way.
        if db.one(_HAS_BLOB, {"blob": digest}) is None:
            size = len(decision.logs[digest])
            db.run(_ADD_BLOB, {"digest": digest, "size": size, "data": data})
    if db.one(_HAS_EVIDENCE, {"document": decision.evidence}) is None:
        db.run(_ADD_EVIDENCE, {"digest": decision.evidence, "document": decision.document})


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
    return tuple(map(_stored, db.rows(_DECISIONS_OF, {"id": node, "at_most": at_most})))


def _stored(row: Row) -> StoredDecision:
    number, digest, node, granted, decided_at, record, claims, document = row
    made: list[bytes] = cbor.decode(claims, max_bytes=MAX_CLAIMS)
    return StoredDecision(
        number=number,
        digest=digest,
        node=node,
        granted=granted == 1,
        decided_at=decided_at,
        record=record,
        claims=tuple(made),
        evidence=document,
    )


def sweep(db: Connection, *, now: int) -> None:
    """Delete challenges and answers that have expired."""
    db.run(_SWEEP_CHALLENGES, {"before": now - _GRACE})
    db.run(_SWEEP_ANSWERS, {"before": now})
