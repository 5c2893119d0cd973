"""Streams of security events as the verifier keeps them, and what events are made of."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bootlease.ports.continuity import StoredGrant
from bootlease.ports.values import StoredDecision


class DeliveryMethod(enum.Enum):
    """How a stream's events reach their receiver; the value is the method's URN."""

    PUSH = "urn:ietf:rfc:8935"
    POLL = "urn:ietf:rfc:8936"


@dataclass(frozen=True, slots=True)
class EventStream:
    """A stream, as an operator made it.

    Attributes:
        id: 32 hex digits.
        method: How events reach the receiver.
        audience: The receiver's name: ``aud`` of each event.
        endpoint: Where events are pushed to; None where they are polled.
        authorization: Authorization header of each push, if there is one.
        secret_digest: SHA-256 of what the receiver shows when it polls or asks.
        created_at: Seconds since the epoch.
    """

    id: str
    method: DeliveryMethod
    audience: str
    endpoint: str | None
    authorization: str | None = field(repr=False)
    secret_digest: bytes = field(repr=False)
    created_at: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a stream.

    Attributes:
        queued: How many events wait for the receiver.
        oldest_at: Since when the oldest of them waits.
        dropped: How many had no room or waited too long, and the receiver was not told of yet.
        dropped_at: When the last of these was dropped.
    """

    queued: int = 0
    oldest_at: int | None = None
    dropped: int = 0
    dropped_at: int | None = None


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event that waits for its receiver.

    Attributes:
        jti: Its name.
        document: The claims of its SET, JSON; it is signed when it is sent.
    """

    jti: str
    document: bytes


@dataclass(frozen=True, slots=True)
class Positions:
    """How far the decisions and governance records have been made into events.

    Attributes:
        decision: Number of the last decision.
        governance: Number of the last governance record.
    """

    decision: int
    governance: int


@dataclass(frozen=True, slots=True)
class DecidedCause:
    """A refusal, or the first grant of a lineage.

    Attributes:
        decision: The decision.
        before: The node's decision before it, if there was one.
    """

    decision: StoredDecision
    before: StoredDecision | None


@dataclass(frozen=True, slots=True)
class GovernedCause:
    """A governance record.

    Attributes:
        digest: Of the record.
        record: The record.
        latest: The latest decision about the node that the record says begins anew.
        grants: What the verifier had granted and was live, where the record is a revocation.
    """

    digest: bytes
    record: bytes
    latest: StoredDecision | None = None
    grants: tuple[StoredGrant, ...] = ()


@dataclass(frozen=True, slots=True)
class EventCauses:
    """What happened between two positions.

    Attributes:
        before: Where this begins.
        after: Where this ends.
        decisions: Decisions that may be events, the oldest first.
        governance: Governance records, the oldest first.
        more: There is more behind it.
    """

    before: Positions
    after: Positions
    decisions: tuple[DecidedCause, ...]
    governance: tuple[GovernedCause, ...]
    more: bool = False


class EventStreams(Protocol):
    """Streams and what waits in them.

    Every write is durable when its call returns. Every method may raise ``StoreBusyError`` or
    ``StoreUnavailableError``.
    """

    async def add(self, stream: EventStream, *, author: str, at_most: int) -> bool:
        """Keep a stream, with a governance record; False where there are ``at_most``.

        It gets what happens from now on.
        """

    async def remove(self, stream: str, *, now: int, author: str) -> bool:
        """Delete a stream with what waits in it; False where there is none."""

    async def all(self) -> Sequence[EventStream]:
        """Return every stream, the oldest first."""

    async def backlog(self, stream: str) -> Backlog:
        """Return what waits in a stream."""

    async def queued(self, stream: str, *, at_most: int) -> Sequence[QueuedEvent]:
        """Return the events that have waited longest."""

    async def waits(self, stream: str, jti: str) -> bool:
        """Tell whether an event waits in a stream."""

    async def settle(self, stream: str, jtis: Sequence[str], *, reported: int = 0) -> int:
        """Delete events that the receiver has; return how many there were.

        Args:
            stream: The stream.
            jtis: Names of the events.
            reported: How many dropped events the receiver was told of.
        """

    async def causes(self) -> EventCauses | None:
        """Return some of what happened since the last ``enqueue``; None without streams."""

    async def enqueue(
        self, events: Mapping[str, Sequence[QueuedEvent]], causes: EventCauses, *, now: int
    ) -> bool:
        """Let events wait in their streams and note how far they go, at once.

        False where that was done by somebody else meanwhile.
        """

    async def add_event(self, stream: str, event: QueuedEvent, *, now: int) -> bool:
        """Let one event wait in a stream; False where there is no such stream."""
