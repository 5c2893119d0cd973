"""Decisions that share a transaction: compared, written and answered together.

What a decision was appraised against must still hold. It is compared by the very updates that
change it: where they touch as many rows as there are decisions, all of them may be committed, and
only where they do not is each decision looked at by itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, insert, select

from bootlease.ledger import encode_leaf
from bootlease.ports import CommitOutcome, DecisionCommit, InForce
from bootlease.store.connection import Bulk
from bootlease.store.tables import (
    answers,
    blobs,
    challenges,
    decisions,
    evidence,
    nodes,
    token_signatures,
)

if TYPE_CHECKING:
    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection

_LOG_COMPRESSION: Final = 6

# Core has no form for these that SQLite understands. They begin with their verb because the driver
# counts the rows of no other statement.
_SPEND: Final = Bulk(
    "UPDATE challenges SET spent_at = want.column3 FROM (VALUES ",
    3,
    ") AS want WHERE challenges.nonce = want.column1 AND challenges.node = want.column2"
    " AND challenges.spent_at IS NULL AND challenges.expires_at > want.column3",
)
_MOVE: Final = Bulk(
    "UPDATE nodes SET version = want.column3 + 1, high_water = want.column5,"
    " prior = want.column6, decision = want.column7 FROM (VALUES ",
    7,
    ") AS want WHERE nodes.node = want.column1 AND nodes.generation = want.column2"
    " AND nodes.version = want.column3 AND nodes.high_water = want.column4",
)
_ADD_DECISIONS: Final = Bulk.into(decisions)
_ADD_EVIDENCE: Final = Bulk.into(evidence)
_ADD_SIGNATURES: Final = Bulk.into(token_signatures)
_ADD_CHALLENGES: Final = Bulk.into(challenges)
_ADD_ANSWERS: Final = Bulk.into(answers)

_CHALLENGE_STATE: Final = select(
    challenges.c.node, challenges.c.expires_at, challenges.c.spent_at
).where(challenges.c.nonce == bindparam("challenge"))
_NODE_STATE: Final = select(nodes.c.generation, nodes.c.version, nodes.c.high_water).where(
    nodes.c.node == bindparam("id")
)
_ANSWERED: Final = select(answers.c.number).where(
    answers.c.request == bindparam("document"),
    answers.c.node == bindparam("id"),
    answers.c.expires_at > bindparam("now"),
)
_HAS_BLOB: Final = select(blobs.c.size).where(blobs.c.digest == bindparam("blob"))
_ADD_BLOB: Final = insert(blobs).inline()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decision, and what need not be worked out while everybody waits.

    Attributes:
        commit: The decision.
        packed: Its logs that were not kept yet, compressed.
    """

    commit: DecisionCommit
    packed: Mapping[bytes, bytes]


def packed_logs(db: Connection, commit: DecisionCommit) -> dict[bytes, bytes]:
    """Return, compressed, the logs of a decision that are not kept yet.

    Compressing ten megabytes takes a good part of a second. It is done before the decision's turn
    to write, because everybody waits for that.
    """
    return {
        digest: zlib.compress(data, _LOG_COMPRESSION)
        for digest, data in commit.logs.items()
        if db.one(_HAS_BLOB, {"blob": digest}) is None
    }


def judge_all(db: Connection, in_force: InForce, group: Sequence[Prepared]) -> list[CommitOutcome]:
    """Consume the challenges and move the nodes of decisions about different nodes.

    Returns:
        The outcome of each. One other than ``COMMITTED`` has touched no row.
    """
    if all(each.commit.in_force == in_force for each in group) and _consume(db, group):
        return [CommitOutcome.COMMITTED] * len(group)
    outcomes = [_judge(db, in_force, each.commit) for each in group]
    accepted = [
        each
        for each, outcome in zip(group, outcomes, strict=True)
        if outcome is CommitOutcome.COMMITTED
    ]
    if accepted and not _consume(db, accepted):
        raise RuntimeError("decisions that may be committed could not be")
    return outcomes


def _consume(db: Connection, group: Sequence[Prepared]) -> bool:
    db.command("SAVEPOINT consumption")
    commits = [each.commit for each in group]
    spent = db.many(_SPEND, [(each.nonce, each.node, each.now) for each in commits])
    if spent == len(group) and db.many(_MOVE, [_move(each) for each in commits]) == len(group):
        db.command("RELEASE consumption")
        return True
    db.command("ROLLBACK TO consumption")
    db.command("RELEASE consumption")
    return False


def _move(commit: DecisionCommit) -> tuple[object, ...]:
    return (
        commit.node,
        commit.generation,
        commit.lineage_version,
        commit.high_water.encode(),
        max(commit.high_water, commit.counters).encode(),
        None if commit.lineage is None else commit.lineage.encode(),
        commit.digest,
    )


def _judge(db: Connection, in_force: InForce, commit: DecisionCommit) -> CommitOutcome:
    state = db.one(_CHALLENGE_STATE, {"challenge": commit.nonce})
    if state is None or state[0] != commit.node or state[1] <= commit.now:
        return CommitOutcome.EXPIRED
    if state[2] is not None:
        where = {"document": commit.request, "id": commit.node, "now": commit.now}
        return CommitOutcome.SPENT if db.one(_ANSWERED, where) is None else CommitOutcome.ANSWERED
    node = db.one(_NODE_STATE, {"id": commit.node})
    seen = (commit.generation, commit.lineage_version, commit.high_water.encode())
    if node is None or (node[0], node[2]) != (seen[0], seen[2]):
        return CommitOutcome.CONFLICT
    if in_force != commit.in_force:
        return CommitOutcome.OUTDATED
    return CommitOutcome.COMMITTED if node[1] == seen[1] else CommitOutcome.CONFLICT


def record_all(
    db: Connection, ledger: Appender, group: Sequence[Prepared], *, after: int
) -> list[int]:
    """Write what decisions leave behind, answers excepted, and append their leaves.

    Args:
        db: The writing connection.
        ledger: Takes the leaves.
        group: Decisions that were accepted.
        after: Number of the decision before them.

    Returns:
        For each, the position of its first leaf.
    """
    shard = ledger.shard.number
    positions: list[int] = []
    rows: list[tuple[object, ...]] = []
    documents: list[tuple[object, ...]] = []
    signed: list[tuple[object, ...]] = []
    following: list[tuple[object, ...]] = []
    for number, each in enumerate(group, after + 1):
        commit = each.commit
        _keep_logs(db, each)
        position = ledger.append(
            [encode_leaf(commit.digest, one) for one in commit.claims or (None,)]
        )
        positions.append(position)
        rows.append(
            (
                *(number, commit.digest, commit.node, commit.evidence, int(commit.granted)),
                *(commit.now, shard, position, commit.root, b"".join(commit.named_logs)),
                *(b"".join(commit.claims), commit.record),
            )
        )
        documents.append((number, commit.evidence, commit.document))
        if commit.signatures:
            signed.append((number, commit.signatures))
        if (challenge := commit.next_challenge) is not None:
            following.append(
                (
                    *(None, challenge.nonce, challenge.node, challenge.encode()),
                    *(0, challenge.expires_at, None),
                )
            )
    db.many(_ADD_DECISIONS, rows)
    db.many(_ADD_EVIDENCE, documents)
    db.many(_ADD_SIGNATURES, signed)
    db.many(_ADD_CHALLENGES, following)
    return positions


def _keep_logs(db: Connection, prepared: Prepared) -> None:
    for digest, data in prepared.commit.logs.items():
        # Two decisions with one new log may have been under way, or one that was kept has been
        # pruned in the meantime.
        if db.one(_HAS_BLOB, {"blob": digest}) is None:
            packed = prepared.packed.get(digest) or zlib.compress(data, _LOG_COMPRESSION)
            db.run(_ADD_BLOB, {"digest": digest, "size": len(data), "data": packed})


def answer_all(db: Connection, group: Sequence[DecisionCommit], bodies: Sequence[bytes]) -> None:
    """Keep the answers of decisions."""
    db.many(
        _ADD_ANSWERS,
        [
            (None, each.request, each.node, int(each.granted), body, each.answer_expires_at)
            for each, body in zip(group, bodies, strict=True)
        ],
    )
