"""Pending enrolments, enrolled nodes, join tokens: transactions on the writing connection."""

from __future__ import annotations

import functools
import hmac
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, delete, func, insert, null, or_, select, update

from bootlease import cbor
from bootlease.endorsement import Enrolment
from bootlease.evidence.enrolment import MAX_ENROLMENT
from bootlease.lineage import HighWaterMark
from bootlease.ports import Activated, EnrolledNode, PendingEnrolment, StoreBusyError
from bootlease.store.registry import governance
from bootlease.store.tables import (
    enrolment_records,
    join_tokens,
    lineages,
    nodes,
    pending_enrolments,
)

if TYPE_CHECKING:
    from bootlease.store.connection import Connection, Row

MAX_PENDING_OF_A_NODE: Final = 4
"""Anybody can begin an enrolment with the certificate of an EK that is another's."""

_pending = pending_enrolments.c
_COUNT_PENDING: Final = select(func.count()).select_from(pending_enrolments)
_SWEEP_PENDING: Final = delete(pending_enrolments).where(_pending.expires_at <= bindparam("now"))
_DROP_OLDEST: Final = delete(pending_enrolments).where(
    _pending.id.in_(
        select(_pending.id)
        .where(_pending.node == bindparam("of"))
        .order_by(_pending.expires_at.desc(), _pending.id)
        .limit(-1)
        .offset(MAX_PENDING_OF_A_NODE - 1)
    )
)
_ADD_PENDING: Final = insert(pending_enrolments).inline()
_TAKE_PENDING: Final = select(
    _pending.node,
    _pending.enrolment,
    _pending.ek_chain,
    _pending.secret_digest,
    _pending.join_token,
    _pending.policy_epoch,
).where(_pending.id == bindparam("pending"), _pending.expires_at > bindparam("now"))
_DROP_PENDING: Final = delete(pending_enrolments).where(_pending.id == bindparam("pending"))

_NODE_COLUMNS: Final = (
    nodes.c.enrolment,
    nodes.c.generation,
    nodes.c.ek_chain,
    nodes.c.high_water,
)
_NODE: Final = select(*_NODE_COLUMNS).where(nodes.c.node == bindparam("id"))
_NODES: Final = (
    select(*_NODE_COLUMNS)
    .where(nodes.c.node > bindparam("after"))
    .order_by(nodes.c.node)
    .limit(bindparam("at_most"))
)
_ADD_NODE: Final = insert(nodes).inline()
_RECORD: Final = select(enrolment_records.c.document).where(
    enrolment_records.c.digest == bindparam("record")
)
_ADD_RECORD: Final = insert(enrolment_records).inline()
_REPLACE: Final = (
    update(nodes)
    .where(nodes.c.node == bindparam("id"))
    .values(
        enrolment=bindparam("record"),
        ek_chain=bindparam("chain"),
        generation=bindparam("next"),
    )
)
_END_LINEAGE: Final = (
    update(lineages)
    .where(lineages.c.node == bindparam("id"))
    .values(version=lineages.c.version + 1, prior=null())
)

_token = join_tokens.c
_ADD_TOKEN: Final = insert(join_tokens).inline()
_TOKEN_ADMITS: Final = select(_token.digest).where(
    _token.digest == bindparam("token"),
    _token.expires_at > bindparam("now"),
    or_(_token.node.is_(None), _token.node == bindparam("id")),
)
_BIND_TOKEN: Final = (
    update(join_tokens)
    .where(
        _token.digest == bindparam("token"),
        _token.expires_at > bindparam("now"),
        or_(_token.node.is_(None), _token.node == bindparam("id")),
    )
    .values(node=bindparam("id"))
)


def add_pending(db: Connection, pending: PendingEnrolment, *, now: int, at_most: int) -> None:
    """Keep a pending enrolment, in place of its node's oldest where that has several.

    Raises:
        StoreBusyError: ``at_most`` are pending.
    """
    db.run(_SWEEP_PENDING, {"now": now})
    db.run(_DROP_OLDEST, {"of": pending.enrolment.node})
    count = db.one(_COUNT_PENDING)
    if count is None or count[0] >= at_most:
        raise StoreBusyError("too many enrolments are pending")
    db.run(
        _ADD_PENDING,
        {
            "id": pending.id,
            "node": pending.enrolment.node,
            "enrolment": pending.enrolment.encode(),
            "ek_chain": cbor.encode(pending.ek_chain),
            "secret_digest": pending.secret_digest,
            "join_token": pending.join_token,
            "policy_epoch": pending.policy_epoch,
            "expires_at": pending.expires_at,
        },
    )


def activate(
    db: Connection, enrolment: bytes, secret_digest: bytes, *, now: int
) -> tuple[Activated, bytes | None]:
    """Delete a pending enrolment and enrol its node where the secret is right."""
    row = db.one(_TAKE_PENDING, {"pending": enrolment, "now": now})
    # One try, whatever comes of it, and nothing that tells how close it was (attack B6).
    db.run(_DROP_PENDING, {"pending": enrolment})
    if row is None:
        return Activated.UNKNOWN, None
    node_id, document, ek_chain, expected, join_token, epoch = row
    if not hmac.compare_digest(secret_digest, expected):
        return Activated.WRONG_SECRET, node_id
    # Who may enrol was judged by the policy of then; nobody joins by a policy that is over.
    if epoch != governance(db).epoch:
        return Activated.POLICY_MOVED, node_id
    if join_token is not None and not db.run(
        _BIND_TOKEN, {"token": join_token, "id": node_id, "now": now}
    ):
        return Activated.JOIN_TOKEN_TAKEN, node_id
    _enrol(db, replace(Enrolment.parse(document), enrolled_at=now), ek_chain)
    return Activated.ENROLLED, node_id


def _enrol(db: Connection, enrolment: Enrolment, ek_chain: bytes) -> None:
    if db.one(_RECORD, {"record": enrolment.digest}) is None:
        db.run(_ADD_RECORD, {"digest": enrolment.digest, "document": enrolment.encode()})
    known = node(db, enrolment.node)
    if known is None:
        db.run(
            _ADD_NODE,
            {
                "node": enrolment.node,
                "enrolment": enrolment.encode(),
                "ek_chain": ek_chain,
                "generation": 1,
                "high_water": HighWaterMark().encode(),
            },
        )
        return
    # The node id is a hash of the EK, so the row is this EK's own; its high-water mark stays.
    same_ak = known.enrolment.ak_public == enrolment.ak_public
    db.run(
        _REPLACE,
        {
            "id": enrolment.node,
            "record": enrolment.encode(),
            "chain": ek_chain,
            "next": known.generation + (not same_ak),
        },
    )
    if not same_ak:
        db.run(_END_LINEAGE, {"id": enrolment.node})


def node(db: Connection, node_id: bytes) -> EnrolledNode | None:
    """Return an enrolled node."""
    row = db.one(_NODE, {"id": node_id})
    return None if row is None else _enrolled(row)


def all_nodes(db: Connection, *, after: bytes, at_most: int) -> tuple[EnrolledNode, ...]:
    """Return enrolled nodes in the order of their ids."""
    return tuple(map(_enrolled, db.rows(_NODES, {"after": after, "at_most": at_most})))


def _enrolled(row: Row) -> EnrolledNode:
    document, generation, ek_chain, high_water = row
    record, chain = _parsed(document, ek_chain)
    return EnrolledNode(record, generation, chain, HighWaterMark.parse(high_water))


@functools.lru_cache(maxsize=16_384)
def _parsed(document: bytes, ek_chain: bytes) -> tuple[Enrolment, tuple[bytes, ...]]:
    # Every renewal asks for its node's record, which hardly ever changes.
    chain: list[bytes] = cbor.decode(ek_chain, max_bytes=MAX_ENROLMENT)
    return Enrolment.parse(document), tuple(chain)


def record(db: Connection, digest: bytes) -> Enrolment | None:
    """Return an enrolment record, also one that another has replaced."""
    row = db.one(_RECORD, {"record": digest})
    return None if row is None else Enrolment.parse(row[0])


def add_join_token(db: Connection, digest: bytes, *, now: int, expires_at: int) -> None:
    """Keep the digest of a join token."""
    db.run(
        _ADD_TOKEN, {"digest": digest, "created_at": now, "expires_at": expires_at, "node": None}
    )


def join_token_admits(db: Connection, digest: bytes, node_id: bytes, *, now: int) -> bool:
    """Tell whether a join token is live, and free or bound to this node."""
    return db.one(_TOKEN_ADMITS, {"token": digest, "id": node_id, "now": now}) is not None


def sweep(db: Connection, *, now: int) -> None:
    """Delete pending enrolments that nobody finished."""
    db.run(_SWEEP_PENDING, {"now": now})
