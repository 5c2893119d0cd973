"""Streams of security events: who gets them, what waits, and what they are made of.

The ledger is the outbox. Decisions and governance records are append-only and durable together with
what they change, so whatever ends an authorization is there before anybody hears of it. Events are
made from there, by position, and their positions move in the transaction that lets them wait: a
crash loses none and repeats none.

What waits is bounded, in number and in time. The oldest gives way, is counted, and the receiver is
told: what it has missed it finds in the continuity statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from bootlease.errors import MalformedError
from bootlease.ledger import DecisionRecord, GovernanceRecord
from bootlease.ledger.governance import ENROLLED, READMITTED, REVOCATION
from bootlease.policy.values import MAX_LIFE
from bootlease.ports import (
    Backlog,
    DecidedCause,
    DeliveryMethod,
    EventCauses,
    EventStream,
    GovernedCause,
    Positions,
    QueuedEvent,
    StoredDecision,
)
from bootlease.store import decisions as decided
from bootlease.store.aside import Aside
from bootlease.store.connection import Bulk, Connection, Row
from bootlease.store.revocations import live_grants
from bootlease.store.tables import (
    decisions,
    event_positions,
    event_streams,
    governance,
    stream_events,
)
from bootlease.store.writer import Writer

if TYPE_CHECKING:
    from bootlease.store.appender import Appender

MAX_QUEUED: Final = 20_000
"""Events that wait in one stream; some 15 MB."""
MAX_AGE: Final = 7 * 86_400
"""Seconds that an event waits at most."""
SPAN: Final = 1_000
"""Decisions, and governance records, that are looked at in one step."""
_SWEPT_AT_ONCE: Final = 128

_DECISIONS, _GOVERNANCE = "decisions", "governance"

_stream, _event = event_streams.c, stream_events.c
_COLUMNS: Final = (
    _stream.id,
    _stream.method,
    _stream.audience,
    _stream.endpoint,
    _stream.authorization,
    _stream.secret,
    _stream.created_at,
)
_STREAMS: Final = select(*_COLUMNS).order_by(_stream.created_at, _stream.id)
_HAS_STREAM: Final = select(_stream.id).where(_stream.id == bindparam("stream_id"))
_ADD_STREAM: Final = insert(event_streams).inline()
_REMOVE_STREAM: Final = delete(event_streams).where(_stream.id == bindparam("stream_id"))
_DROPPED: Final = select(_stream.dropped, _stream.dropped_at).where(
    _stream.id == bindparam("stream_id")
)
_COUNT_DROPPED: Final = (
    update(event_streams)
    .where(_stream.id == bindparam("stream_id"))
    .values(dropped=_stream.dropped + bindparam("more"), dropped_at=bindparam("at"))
)
_REPORTED: Final = (
    update(event_streams)
    .where(_stream.id == bindparam("stream_id"))
    .values(dropped=_stream.dropped - bindparam("told"))
)

_WAITING: Final = select(func.count(), func.min(_event.queued_at)).where(
    _event.stream == bindparam("stream_id")
)
_QUEUED: Final = (
    select(_event.jti, _event.document)
    .where(_event.stream == bindparam("stream_id"))
    .order_by(_event.number)
    .limit(bindparam("at_most"))
)
_ADD_EVENTS: Final = Bulk(
    "INSERT INTO stream_events (stream, jti, queued_at, document) VALUES ", len(stream_events.c) - 1
)
_WAITS: Final = select(_event.number).where(
    and_(_event.stream == bindparam("stream_id"), _event.jti == bindparam("name"))
)
_SETTLE: Final = delete(stream_events).where(
    and_(_event.stream == bindparam("stream_id"), _event.jti == bindparam("name"))
)
_REMOVE_EVENTS: Final = delete(stream_events).where(_event.stream == bindparam("stream_id"))
_DROP_OLDEST: Final = delete(stream_events).where(
    _event.number.in_(
        select(_event.number)
        .where(_event.stream == bindparam("stream_id"))
        .order_by(_event.number)
        .limit(bindparam("count"))
    )
)
_DROP_AGED: Final = delete(stream_events).where(
    _event.number.in_(
        select(_event.number)
        .where(
            and_(_event.stream == bindparam("stream_id"), _event.queued_at <= bindparam("before"))
        )
        .order_by(_event.number)
        .limit(_SWEPT_AT_ONCE)
    )
)

_POSITIONS: Final = select(event_positions.c.source, event_positions.c.number)
_ADD_POSITION: Final = insert(event_positions).inline()
_FORGET_POSITIONS: Final = delete(event_positions)
_MOVE: Final = (
    update(event_positions)
    .where(event_positions.c.source == bindparam("of"))
    .values(number=bindparam("to"))
)
_LAST_DECISION: Final = select(func.max(decisions.c.number))
_LAST_GOVERNANCE: Final = select(func.max(governance.c.number))
_DECIDED: Final = (
    select(decisions.c.digest)
    .where(
        and_(
            decisions.c.number > bindparam("after"),
            decisions.c.number <= bindparam("upto"),
            # Renewals are no news: nearly all decisions are passed over without their records.
            or_(decisions.c.granted == 0, decisions.c.root == decisions.c.evidence),
        )
    )
    .order_by(decisions.c.number)
)
_GOVERNED: Final = (
    select(governance.c.number, governance.c.digest, governance.c.record)
    .where(governance.c.number > bindparam("after"))
    .order_by(governance.c.number)
    .limit(bindparam("at_most"))
)


class SQLEventStreams:
    """Implements ``bootlease.ports.EventStreams``; see there for what each method promises.

    Args:
        aside: Reads.
        writer: Writes.
    """

    def __init__(self, aside: Aside, writer: Writer) -> None:
        self._aside = aside
        self._writer = writer

    async def add(self, stream: EventStream, *, author: str, at_most: int) -> bool:
        """See ``EventStreams``."""
        return await self._writer.submit_recorded(
            stream.created_at, lambda db, to: _add(db, to, stream, author=author, at_most=at_most)
        )

    async def remove(self, stream: str, *, now: int, author: str) -> bool:
        """See ``EventStreams``."""
        return await self._writer.submit_recorded(
            now, lambda db, to: _remove(db, to, stream, now=now, author=author)
        )

    async def all(self) -> Sequence[EventStream]:
        """See ``EventStreams``."""
        return await self._aside.read(_all)

    async def backlog(self, stream: str) -> Backlog:
        """See ``EventStreams``."""
        return await self._aside.read(_backlog, stream)

    async def queued(self, stream: str, *, at_most: int) -> Sequence[QueuedEvent]:
        """See ``EventStreams``."""
        return await self._aside.read(_queued, stream, at_most=at_most)

    async def waits(self, stream: str, jti: str) -> bool:
        """See ``EventStreams``."""
        return await self._aside.read(_waits, stream, jti)

    async def settle(self, stream: str, jtis: Sequence[str], *, reported: int = 0) -> int:
        """See ``EventStreams``."""
        return await self._writer.submit(_settle, stream, jtis, reported=reported)

    async def causes(self) -> EventCauses | None:
        """See ``EventStreams``."""
        return await self._aside.read(_causes)

    async def enqueue(
        self, events: Mapping[str, Sequence[QueuedEvent]], causes: EventCauses, *, now: int
    ) -> bool:
        """See ``EventStreams``."""
        return await self._writer.submit(_enqueue, events, causes, now=now)

    async def add_event(self, stream: str, event: QueuedEvent, *, now: int) -> bool:
        """See ``EventStreams``."""
        return await self._writer.submit(_add_event, stream, event, now=now)


def _all(db: Connection) -> tuple[EventStream, ...]:
    return tuple(map(_stored, db.rows(_STREAMS)))


def _stored(row: Row) -> EventStream:
    id_, method, *others = row
    return EventStream(id_, DeliveryMethod(method), *others)


def _add(
    db: Connection, ledger: Appender, stream: EventStream, *, author: str, at_most: int
) -> bool:
    known = db.rows(_STREAMS)
    if len(known) >= at_most:
        return False
    if not known:
        _begin(db)
    db.run(
        _ADD_STREAM,
        {
            "id": stream.id,
            "method": stream.method.value,
            "audience": stream.audience,
            "endpoint": stream.endpoint,
            "authorization": stream.authorization,
            "secret": stream.secret_digest,
            "created_at": stream.created_at,
            "dropped": 0,
            "dropped_at": None,
        },
    )
    details = {"stream": stream.id, "method": stream.method.value, "audience": stream.audience}
    if stream.endpoint is not None:
        details["endpoint"] = stream.endpoint
    ledger.record("stream.created", details, author=author, now=stream.created_at)
    return True


def _begin(db: Connection) -> None:
    """Let events begin with what comes next: nobody listened before."""
    db.run(_FORGET_POSITIONS)
    for source, last in ((_DECISIONS, _LAST_DECISION), (_GOVERNANCE, _LAST_GOVERNANCE)):
        db.run(_ADD_POSITION, {"source": source, "number": _number(db.one(last))})


def _number(row: Row | None) -> int:
    return 0 if row is None or row[0] is None else int(row[0])


def _remove(db: Connection, ledger: Appender, stream: str, *, now: int, author: str) -> bool:
    if not db.run(_REMOVE_STREAM, {"stream_id": stream}):
        return False
    db.run(_REMOVE_EVENTS, {"stream_id": stream})
    ledger.record("stream.removed", {"stream": stream}, author=author, now=now)
    return True


def _backlog(db: Connection, stream: str) -> Backlog:
    waiting = db.one(_WAITING, {"stream_id": stream}) or (0, None)
    dropped = db.one(_DROPPED, {"stream_id": stream}) or (0, None)
    return Backlog(*waiting, *dropped)


def _queued(db: Connection, stream: str, *, at_most: int) -> tuple[QueuedEvent, ...]:
    rows = db.rows(_QUEUED, {"stream_id": stream, "at_most": at_most})
    return tuple(QueuedEvent(*row) for row in rows)


def _waits(db: Connection, stream: str, jti: str) -> bool:
    return db.one(_WAITS, {"stream_id": stream, "name": jti}) is not None


def _settle(db: Connection, stream: str, jtis: Sequence[str], *, reported: int) -> int:
    if reported:
        db.run(_REPORTED, {"stream_id": stream, "told": reported})
    return sum(db.run(_SETTLE, {"stream_id": stream, "name": jti}) for jti in jtis)


def _causes(db: Connection) -> EventCauses | None:
    if not db.rows(_STREAMS):
        return None
    before = _positions(db)
    newest = _number(db.one(_LAST_DECISION))
    upto = min(newest, before.decision + SPAN)
    found = db.rows(_DECIDED, {"after": before.decision, "upto": upto})
    governed = db.rows(_GOVERNED, {"after": before.governance, "at_most": SPAN})
    last = governed[-1][0] if governed else before.governance
    return EventCauses(
        before=before,
        after=Positions(max(upto, before.decision), last),
        decisions=tuple(_decided(db, digest) for (digest,) in found),
        governance=tuple(_governed(db, digest, record) for _, digest, record in governed),
        more=upto < newest or len(governed) == SPAN,
    )


def _positions(db: Connection) -> Positions:
    known = {source: int(number) for source, number in db.rows(_POSITIONS)}
    return Positions(known[_DECISIONS], known[_GOVERNANCE])


def _decided(db: Connection, digest: bytes) -> DecidedCause:
    made = decided.decision(db, digest)
    if made is None:
        raise RuntimeError("a decision has gone, though nothing deletes one")
    previous = DecisionRecord.parse(made.record).previous
    return DecidedCause(made, None if previous is None else decided.decision(db, previous))


def _governed(db: Connection, digest: bytes, record: bytes) -> GovernedCause:
    try:
        parsed = GovernanceRecord.parse(record)
    except MalformedError:
        # Of a later version: it is kept in the ledger, and is no event here.
        return GovernedCause(digest, record)
    if parsed.kind in {ENROLLED, READMITTED}:
        return GovernedCause(digest, record, latest=_latest(db, parsed.details.get("node")))
    if parsed.kind.startswith(REVOCATION):
        live = live_grants(db, since=parsed.time - MAX_LIFE, now=parsed.time)
        return GovernedCause(digest, record, grants=tuple(live))
    return GovernedCause(digest, record)


def _latest(db: Connection, node: object) -> StoredDecision | None:
    last = decided.lineage(db, node).decision if isinstance(node, bytes) else None
    return None if last is None else decided.decision(db, last)


def _enqueue(
    db: Connection,
    events: Mapping[str, Sequence[QueuedEvent]],
    causes: EventCauses,
    *,
    now: int,
) -> bool:
    streams = {row[0] for row in db.rows(_STREAMS)}
    if not streams or _positions(db) != causes.before:
        return False
    for stream, queued in events.items():
        if stream in streams:
            _let_wait(db, stream, queued, now)
    db.run(_MOVE, {"of": _DECISIONS, "to": causes.after.decision})
    db.run(_MOVE, {"of": _GOVERNANCE, "to": causes.after.governance})
    return True


def _add_event(db: Connection, stream: str, event: QueuedEvent, *, now: int) -> bool:
    if db.one(_HAS_STREAM, {"stream_id": stream}) is None:
        return False
    _let_wait(db, stream, [event], now)
    return True


def _let_wait(db: Connection, stream: str, events: Sequence[QueuedEvent], now: int) -> None:
    if not events:
        return
    db.many(_ADD_EVENTS, [(stream, each.jti, now, each.document) for each in events])
    surplus = _number(db.one(_WAITING, {"stream_id": stream})) - MAX_QUEUED
    if surplus > 0:
        db.run(_DROP_OLDEST, {"stream_id": stream, "count": surplus})
        db.run(_COUNT_DROPPED, {"stream_id": stream, "more": surplus, "at": now})


def drop_aged(db: Connection, *, now: int) -> int:
    """Drop some events that have waited too long; return how many."""
    dropped = 0
    for stream, *_ in db.rows(_STREAMS):
        aged = db.run(_DROP_AGED, {"stream_id": stream, "before": now - MAX_AGE})
        if aged:
            db.run(_COUNT_DROPPED, {"stream_id": stream, "more": aged, "at": now})
        dropped += aged
    return dropped
