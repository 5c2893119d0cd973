"""Streams of security events: who gets them, and what is sent next.

Specifications: OpenID Shared Signals Framework 1.0 §8 (streams), RFC 8935 (push), RFC 8936 (poll).
A verifier is the transmitter. Its operator makes streams; receivers do not make their own, for what
they are told says how each node fares.

Events are hints, delivered at least once and nearly at once. The authority is the continuity
statement: where events had to be dropped, the receiver is told so by a ``stream-updated`` event
before all others.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from bootlease.endorsement import Enrolment
from bootlease.errors import MalformedError
from bootlease.ports import (
    Backlog,
    Clock,
    DeliveryMethod,
    EventCauses,
    EventStream,
    QueuedEvent,
    Store,
)
from bootlease.token import Signer
from bootlease.token.caep import Event, StreamSubject, StreamUpdated, Verification
from bootlease.token.eventkeys import EventKey, EventKeySet
from bootlease.token.secevent import MAX_AUDIENCE, SecurityEvent, sign_document
from bootlease.verifier.loopback import is_loopback
from bootlease.verifier.operators.access import new_secret, secret_digest
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.securityevents.source import (
    families_wanted,
    jti_of,
    occurrences,
    security_event,
)

STREAM_PREFIX: Final = "blstr_"
MAX_STREAMS: Final = 32
MAX_ENDPOINT: Final = 1024
MAX_AUTHORIZATION: Final = 4096
_ID_BYTES: Final = 16
_NO_DIGEST: Final = bytes(32)
_WORTH_NOTING: Final = 500
"""Decisions that are no events, after which it is noted that they were looked at."""
_SIGNED_HERE: Final = 2
"""More signatures are made on another thread: each takes most of a millisecond."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stream that an operator asks for.

    Attributes:
        audience: The receiver's name.
        endpoint: Where to push, or None: the receiver polls.
        authorization: Authorization header of each push, if the receiver wants one.
    """

    audience: str
    endpoint: str | None = None
    authorization: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.audience) <= MAX_AUDIENCE or not self.audience.isprintable():
            raise MalformedError(f"a stream's aud is 1 to {MAX_AUDIENCE} printable characters")
        if self.endpoint is not None:
            check_endpoint(self.endpoint)
        elif self.authorization is not None:
            raise MalformedError("an authorization header goes with an endpoint to push to")
        text = self.authorization
        if text is not None and not (
            0 < len(text) <= MAX_AUTHORIZATION and text.isascii() and text.isprintable()
        ):
            raise MalformedError(
                f"an authorization header has 1 to {MAX_AUTHORIZATION} printable ASCII characters"
            )


def check_endpoint(url: str) -> None:
    """Demand a URL that events can be pushed to.

    The operator alone chooses it, and may choose one in a private network: that is where relying
    parties are.

    Raises:
        MalformedError: It is not https, or http on this machine.
    """
    try:
        parts = urlsplit(url)
        sound = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        sound = False
    if (
        not sound
        or len(url) > MAX_ENDPOINT
        or not url.isascii()
        or not url.isprintable()
        or " " in url
        or parts.fragment
        or parts.username is not None
    ):
        raise MalformedError(f"{url!r:.80} is not the URL of an endpoint")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return
    raise MalformedError(f"{url!r:.80} must be https, or http on this machine")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event as it is sent.

    Attributes:
        jti: Its name.
        token: The SET.
    """

    jti: str
    token: str


class Streams:
    """The streams of one verifier.

    Args:
        store: Keeps them.
        signer: Signs events.
        issuer: The verifier's URL.
        clock: Dates events.

    Attributes:
        keys: What it publishes for its events.
        trouble: What keeps events from their receivers, by stream.
        version: Grows whenever there are other streams.
        waiting: Polls that wait for events, by stream.
    """

    def __init__(self, store: Store, signer: Signer, issuer: str, clock: Clock) -> None:
        self.keys: Final = EventKeySet((EventKey(signer.public),))
        self.trouble: Final[dict[str, str]] = {}
        self.version = 0
        self.waiting: Final = Counter[str]()
        self._store = store.streams
        self._nodes = store.node
        self._signer = signer
        self._issuer = issuer
        self._clock = clock
        self._known: Mapping[str, EventStream] = {}
        self._arrived: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._woken = asyncio.Event()
        self._reports: dict[str, tuple[str, int]] = {}

    async def load(self) -> None:
        """Take over the store's streams."""
        self._known = {each.id: each for each in await self._store.all()}
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def all(self) -> Sequence[EventStream]:
        """Return every stream, the oldest first."""
        return tuple(self._known.values())

    def get(self, stream: str) -> EventStream:
        """Return a stream.

        Raises:
            ProblemError: There is none of this id.
        """
        found = self._known.get(stream)
        if found is None:
            raise ProblemError(ProblemKind.NOT_FOUND, "There is no stream of this id.")
        return found

    def authenticated(self, stream: str, digest: bytes | None) -> EventStream | None:
        """Return the stream if this is the digest of its secret."""
        found = self._known.get(stream)
        expected = _NO_DIGEST if found is None else found.secret_digest
        return found if hmac.compare_digest(digest or b"", expected) else None

    async def create(self, wanted: Wanted, *, author: str) -> tuple[EventStream, str]:
        """Make a stream; return it with the secret that its receiver shows.

        Raises:
            ProblemError: There are as many as there may be.
        """
        secret = new_secret(STREAM_PREFIX)
        stream = EventStream(
            id=secrets.token_hex(_ID_BYTES),
            method=DeliveryMethod.POLL if wanted.endpoint is None else DeliveryMethod.PUSH,
            audience=wanted.audience,
            endpoint=wanted.endpoint,
            authorization=wanted.authorization,
            secret_digest=secret_digest(secret),
            created_at=self._clock.now(),
        )
        if not await self._store.add(stream, author=author, at_most=MAX_STREAMS):
            raise ProblemError(
                ProblemKind.CONFLICT, f"There are {MAX_STREAMS} streams; remove one first."
            )
        await self.load()
        return stream, secret

    async def remove(self, stream: str, *, author: str) -> None:
        """Delete a stream with what waits in it.

        Raises:
            ProblemError: There is none of this id.
        """
        self.get(stream)
        await self._store.remove(stream, now=self._clock.now(), author=author)
        await self.load()
        self._reports.pop(stream, None)
        self.trouble.pop(stream, None)
        self._arrival(self._arrived.pop(stream, None))

    async def verify(self, stream: EventStream, state: str | None) -> str:
        """Send an event that asks for nothing, and return its name (SSF §8.1.4)."""
        jti = jti_of(secrets.token_bytes(_ID_BYTES))
        document = self._about(stream, jti, Verification(state))
        await self._store.add_event(stream.id, QueuedEvent(jti, document), now=self._clock.now())
        self._arrival(self._arrived.get(stream.id))
        return jti

    async def backlog(self, stream: EventStream) -> Backlog:
        """Return what waits in a stream."""
        return await self._store.backlog(stream.id)

    async def waits(self, stream: EventStream, jti: str) -> bool:
        """Tell whether an event waits for its receiver."""
        return await self._store.waits(stream.id, jti)

    async def outgoing(self, stream: EventStream, *, at_most: int) -> list[Outgoing]:
        """Return what to send next, the oldest first, a report of what was dropped before all."""
        backlog = await self._store.backlog(stream.id)
        queued = list(await self._store.queued(stream.id, at_most=at_most))
        if backlog.dropped:
            queued.insert(0, self._report(stream, backlog))
        if len(queued) <= _SIGNED_HERE:
            return self._signed(queued)
        return await asyncio.to_thread(self._signed, queued)

    async def settle(self, stream: EventStream, jtis: Sequence[str]) -> int:
        """Forget events that the receiver has; return how many waited."""
        if not jtis:
            return 0
        name, dropped = self._reports.get(stream.id, ("", 0))
        told = name in jtis
        settled = await self._store.settle(stream.id, jtis, reported=dropped if told else 0)
        if told:
            self._reports.pop(stream.id, None)
        return settled + told

    async def step(self) -> bool:
        """Let events wait of what was recorded since; tell whether there is more."""
        if not self._known:
            return False
        causes = await self._store.causes()
        if causes is None or causes.before == causes.after:
            return False
        now = self._clock.now()
        enrolments = await self._enrolments(causes)
        # Aside: a reference set that is revoked may be thousands of events.
        events = await asyncio.to_thread(self._events, causes, enrolments, now)
        happened = any(events.values())
        governed = causes.after.governance != causes.before.governance
        # Where renewals are all that happened, nothing is written at each look.
        if governed or happened or _passed(causes) >= _WORTH_NOTING:
            await self._store.enqueue(events, causes, now=now)
        if happened:
            for arrived in self._arrived.values():
                arrived.set()
        return causes.more

    def _events(
        self, causes: EventCauses, enrolments: Mapping[bytes, Enrolment], now: int
    ) -> dict[str, list[QueuedEvent]]:
        happened = list(occurrences(causes, enrolments))
        return {
            stream.id: [
                _queued(security_event(each, number, stream, issuer=self._issuer, now=now))
                for number, each in enumerate(happened)
            ]
            for stream in self.all()
        }

    async def _enrolments(self, causes: EventCauses) -> dict[bytes, Enrolment]:
        found = {}
        for node in dict.fromkeys(families_wanted(causes)):
            enrolled = await self._nodes(node)
            if enrolled is not None:
                found[node] = enrolled.enrolment
        return found

    def wake(self) -> None:
        """Look for events now: something was recorded."""
        self._woken.set()

    async def woken(self, within: float) -> None:
        """Wait until ``wake`` was called, or for so many seconds."""
        await _within(self._woken, within)
        self._woken.clear()

    async def changed(self, seen: int, within: float) -> None:
        """Wait until there are other streams than in this version, or for so many seconds."""
        if self.version == seen:
            await _within(self._changed, within)

    def arrivals(self, stream: EventStream) -> asyncio.Event:
        """Return what is set when something arrives in a stream; not set now."""
        arrived = self._arrived.setdefault(stream.id, asyncio.Event())
        arrived.clear()
        return arrived

    def _about(self, stream: EventStream, jti: str, event: Event) -> bytes:
        return SecurityEvent(
            issuer=self._issuer,
            audience=stream.audience,
            jti=jti,
            issued_at=self._clock.now(),
            subject=StreamSubject(stream.id),
            event=event,
        ).encode()

    def _report(self, stream: EventStream, backlog: Backlog) -> QueuedEvent:
        # One name for one state: whoever acknowledges it was told of just these.
        parts = (stream.id, str(backlog.dropped), str(backlog.dropped_at))
        jti = jti_of(b"dropped", *(part.encode() for part in parts))
        self._reports[stream.id] = (jti, backlog.dropped)
        reason = (
            f"overflow: {backlog.dropped} events were dropped; look at the continuity statement"
        )
        return QueuedEvent(jti, self._about(stream, jti, StreamUpdated(reason)))

    def _signed(self, queued: Sequence[QueuedEvent]) -> list[Outgoing]:
        return [Outgoing(each.jti, sign_document(each.document, self._signer)) for each in queued]

    @staticmethod
    def _arrival(arrived: asyncio.Event | None) -> None:
        if arrived is not None:
            arrived.set()


def _passed(causes: EventCauses) -> int:
    return causes.after.decision - causes.before.decision


def _queued(event: SecurityEvent) -> QueuedEvent:
    return QueuedEvent(event.jti, event.encode())


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
