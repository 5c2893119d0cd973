"""Pending enrolments, enrolled nodes, join tokens: transactions on the writing connection."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, bindparam, delete, func, insert, null, or_, select, update

from bootlease import cbor
from bootlease.endorsement import Enrolment
from bootlease.evidence.enrolment import MAX_ENROLMENT
from bootlease.ledger import GovernanceDetail
from bootlease.ledger.governance import ENROLLED, JOIN_TOKEN_CREATED
from bootlease.lineage import HighWaterMark, Prior
from bootlease.ports import (
    Activated,
    EnrolledNode,
    PendingEnrolment,
    Standing,
    StoreBusyError,
    StoredAnswer,
    StoredLineage,
    StoreUnavailableError,
)
from bootlease.store.inforce import numbers_in_force
from bootlease.store.tables import (
    answers,
    enrolment_records,
    join_tokens,
    nodes,
    pending_enrolments,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootlease.store.appender import Appender
    from bootlease.store.connection import Connection, Row

MAX_PENDING_OF_A_NODE: Final = 4
"""Anybody can begin an enrolment with the certificate of an EK that is another's."""
_MAX_KNOWN: Final = 16_384
"""Enrolment records that a connection keeps parsed."""

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

_NODE_COLUMNS: Final = (nodes.c.enrolment, nodes.c.generation, nodes.c.high_water)
_NODE: Final = select(*_NODE_COLUMNS).where(nodes.c.node == bindparam("id"))
_STANDING: Final = (
    select(
        answers.c.granted,
        answers.c.answer,
        *_NODE_COLUMNS,
        nodes.c.version,
        nodes.c.prior,
        nodes.c.decision,
    )
    .select_from(
        nodes.outerjoin(
            answers,
            and_(
                answers.c.request == bindparam("document"),
                answers.c.node == nodes.c.node,
                answers.c.expires_at > bindparam("now"),
            ),
        )
    )
    .where(nodes.c.node == bindparam("id"))
)
_NODES: Final = (
    select(*_NODE_COLUMNS)
    .where(nodes.c.node > bindparam("after"))
    .order_by(nodes.c.node)
    .limit(bindparam("at_most"))
)
_ADD_NODE: Final = insert(nodes).inline()
_RECORD: Final = select(enrolment_records.c.document, enrolment_records.c.ek_chain).where(
    enrolment_records.c.digest == bindparam("record")
)
_ADD_RECORD: Final = insert(enrolment_records).inline()
_REPLACE: Final = (
    update(nodes)
    .where(nodes.c.node == bindparam("id"))
    .values(
        enrolment=bindparam("record"),
        generation=nodes.c.generation + bindparam("other_ak"),
        version=nodes.c.version + 1,
        prior=null(),
    )
)

_token = join_tokens.c
_ADD_TOKEN: Final = insert(join_tokens).inline()
_TOKEN_LABELS: Final = select(_token.labels).where(_token.digest == bindparam("token"))
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
    db: Connection, ledger: Appender, enrolment: bytes, secret_digest: bytes, *, now: int
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
    if epoch != numbers_in_force(db).epoch:
        return Activated.POLICY_MOVED, node_id
    if join_token is not None and not db.run(
        _BIND_TOKEN, {"token": join_token, "id": node_id, "now": now}
    ):
        return Activated.JOIN_TOKEN_TAKEN, node_id
    before = node(db, node_id)
    # A node that is known keeps its labels: what an operator took from it since its token was made,
    # it cannot have back by enrolling once more.
    labels = _token_labels(db, join_token) if before is None else before.enrolment.labels
    made = replace(Enrolment.parse(document), enrolled_at=now, labels=labels)
    kept = adopt(db, made, ek_chain)
    ledger.record(
        ENROLLED,
        {
            "node": made.node,
            "enrolment": made.digest,
            "chain": hashlib.sha256(kept).digest(),
        },
        author=f"node:{made.node.hex()}",
        now=now,
        subject=made.digest,
    )
    return Activated.ENROLLED, node_id


def _token_labels(db: Connection, join_token: bytes | None) -> tuple[str, ...]:
    row = None if join_token is None else db.one(_TOKEN_LABELS, {"token": join_token})
    return () if row is None else tuple(row[0].split())


def adopt(db: Connection, enrolment: Enrolment, ek_chain: bytes) -> bytes:
    """Let a node have a record from now on, and return the chain that is kept with it.

    The node's lineage ends, if it has one.
    """
    same = db.one(_RECORD, {"record": enrolment.digest})
    if same is None:
        db.run(
            _ADD_RECORD,
            {"digest": enrolment.digest, "document": enrolment.encode(), "ek_chain": ek_chain},
        )
    known = node(db, enrolment.node)
    if known is None:
        db.run(
            _ADD_NODE,
            {
                "node": enrolment.node,
                "enrolment": enrolment.digest,
                "generation": 1,
                "high_water": HighWaterMark().encode(),
                "version": 0,
                "prior": None,
                "decision": None,
            },
        )
        return ek_chain
    # The node id is a hash of the EK, so the row is this EK's own; its high-water mark stays.
    other_ak = int(known.enrolment.ak_public != enrolment.ak_public)
    # The same AK ends the lineage too: all its decisions rest on one record, which the ledger has
    # before the first of them, and none is committed that was appraised by the record before.
    db.run(_REPLACE, {"id": enrolment.node, "record": enrolment.digest, "other_ak": other_ak})
    kept: bytes = ek_chain if same is None else same[1]
    return kept


def node(db: Connection, node_id: bytes) -> EnrolledNode | None:
    """Return an enrolled node."""
    row = db.one(_NODE, {"id": node_id})
    return None if row is None else _enrolled(db, row)


def standing(db: Connection, node_id: bytes, request: bytes, *, now: int) -> Standing:
    """Return answer, node and lineage: what a lease request finds."""
    row = db.one(_STANDING, {"id": node_id, "document": request, "now": now})
    if row is None:
        return Standing(None, None, StoredLineage(0, None, None))
    granted, body, *columns, version, prior, decision = row
    return Standing(
        None if body is None else StoredAnswer(granted=granted == 1, body=body),
        _enrolled(db, columns),
        StoredLineage(version, None if prior is None else Prior.parse(prior), decision),
    )


def all_nodes(db: Connection, *, after: bytes, at_most: int) -> tuple[EnrolledNode, ...]:
    """Return enrolled nodes in the order of their ids."""
    rows = db.rows(_NODES, {"after": after, "at_most": at_most})
    return tuple(_enrolled(db, row) for row in rows)


def _enrolled(db: Connection, row: Row) -> EnrolledNode:
    digest, generation, high_water = row
    known = _known(db, digest)
    if known is None:
        raise StoreUnavailableError("a node's enrolment record is missing")
    return EnrolledNode(known[0], generation, known[1], HighWaterMark.parse(high_water))


def record(db: Connection, digest: bytes) -> Enrolment | None:
    """Return an enrolment record, also one that another has replaced."""
    known = _known(db, digest)
    return None if known is None else known[0]


def _known(db: Connection, digest: bytes) -> tuple[Enrolment, tuple[bytes, ...]] | None:
    # Every renewal asks for its node's record, which never changes under its digest.
    known = db.enrolments.get(digest)
    if known is None:
        row = db.one(_RECORD, {"record": digest})
        if row is None:
            return None
        enrolment = Enrolment.parse(row[0])
        if enrolment.digest != digest:
            raise StoreUnavailableError("an enrolment record was altered in the database")
        chain: list[bytes] = cbor.decode(row[1], max_bytes=MAX_ENROLMENT)
        if len(db.enrolments) >= _MAX_KNOWN:
            db.enrolments.clear()
        known = db.enrolments[digest] = enrolment, tuple(chain)
    return known


def add_join_token(
    db: Connection,
    ledger: Appender,
    digest: bytes,
    *,
    now: int,
    expires_at: int,
    author: str,
    labels: Sequence[str] = (),
    replaces: bytes | None = None,
) -> None:
    """Keep the digest of a join token."""
    given = " ".join(labels)
    db.run(
        _ADD_TOKEN,
        {
            "digest": digest,
            "created_at": now,
            "expires_at": expires_at,
            "node": None,
            "labels": given,
            "replaces": replaces,
        },
    )
    details: dict[str, GovernanceDetail] = {"token": digest, "expires_at": expires_at}
    if given:
        details["labels"] = given
    if replaces is not None:
        details["replaces"] = replaces
    ledger.record(JOIN_TOKEN_CREATED, details, author=author, now=now, subject=digest)


def join_token_admits(db: Connection, digest: bytes, node_id: bytes, *, now: int) -> bool:
    """Tell whether a join token is live, and free or bound to this node."""
    return db.one(_TOKEN_ADMITS, {"token": digest, "id": node_id, "now": now}) is not None


def sweep(db: Connection, *, now: int) -> int:
    """Delete pending enrolments that nobody finished; return how many."""
    return db.run(_SWEEP_PENDING, {"now": now})
