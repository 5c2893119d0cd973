"""Receives security events: what a verifier says has ended, a moment after it has.

Specifications: RFC 8417 (SET), RFC 8935 §2 (push: the receiving endpoint and its errors). How to
poll for them is in ``eventpoll``.

An event is a hint. What still counts is said by the continuity statement, so the natural thing to
do with an event is to ask for a fresh one. Events come at least once and in no promised order; an
event that was received before is taken note of, and nobody is called again.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.relyingparty.eventkeys import EventKeySource
from bootlease.token import strictjson
from bootlease.token.eventkeys import EventKeySet
from bootlease.token.secevent import (
    MAX_AUDIENCE,
    MAX_SET,
    SECEVENT,
    SecurityEvent,
    VerifiedSecurityEvent,
    verify_set,
)

REMEMBERED: Final = 10_000
"""Names of events: some 2 MB. One that was forgotten and comes again is one more hint."""

_ACCEPTED, _BAD_REQUEST, _UNAUTHORIZED, _NO_METHOD, _BUSY = 202, 400, 401, 405, 503
_MAX_DESCRIPTION: Final = 256
_CODES: Final = {
    "set.key.unknown": "invalid_key",
    "set.algorithm.mismatch": "invalid_key",
    "set.signature.invalid": "invalid_key",
    "set.issuer.mismatch": "invalid_issuer",
    "set.audience.mismatch": "invalid_audience",
}
"""Error codes of RFC 8935 §2.4 by finding; any other is ``invalid_request``."""

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Headers = Iterable[tuple[bytes, bytes]]


class EventReceiver:
    """Takes the security events of one verifier; safe to share between threads."""

    def __init__(
        self,
        keys: EventKeySource,
        *,
        issuer: str,
        audience: str,
        on_event: Callable[[SecurityEvent], None],
        remembered: int = REMEMBERED,
    ) -> None:
        """Prepare to receive.

        Args:
            keys: Where ``issuer``'s event keys come from.
            issuer: The verifier's URL, exact.
            audience: This receiver's name, as its stream has it.
            on_event: Called with every event that is new, one at a time. A ``TransportError`` of it
                means that it could not act now, and the event comes again.
            remembered: How many names of events to remember.

        Raises:
            ValueError: Issuer or audience is empty or too long.
        """
        if not issuer or not 0 < len(audience) <= MAX_AUDIENCE:
            raise ValueError("a receiver needs an issuer and an audience")
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._on_event = on_event
        self._remembered = remembered
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, text: str, *, name: str | None = None) -> SecurityEvent | None:
        """Prove that an event is the verifier's, for this receiver, and act on it if it is new.

        Args:
            text: An unverified SET.
            name: The ``jti`` that it was given under, where it was.

        Returns:
            The event, or None where it was received before.

        Raises:
            MalformedError: Not a SET, or not of this name.
            VerificationError: It does not count.
            TransportError: The keys cannot be had, or the event could not be acted on.
        """
        event = self._verified(text).content
        if name is not None and name != event.jti:
            # RFC 8936 §2.3: else its acknowledgement would be another event's.
            raise MalformedError("an event is given under another name than its own")
        # Held while it is acted on: whoever has it again meanwhile must not say that it is done.
        with self._lock:
            if event.jti in self._seen:
                return None
            self._on_event(event)
            self._seen[event.jti] = None
            if len(self._seen) > self._remembered:
                self._seen.popitem(last=False)
        return event

    def _verified(self, text: str) -> VerifiedSecurityEvent:
        keys = self._keys.key_set()
        try:
            return self._verify(text, keys)
        except VerificationError as exc:
            if exc.findings[0].id != "set.key.unknown":
                raise
            # The verifier may have another key since its keys were fetched.
            fresh = self._keys.refresh()
            if fresh is keys:
                raise
            return self._verify(text, fresh)

    def _verify(self, text: str, keys: EventKeySet) -> VerifiedSecurityEvent:
        return verify_set(text, keys, issuer=self._issuer, audience=self._audience)


def error_members(error: MalformedError | VerificationError) -> dict[str, str]:
    """Return how a receiver tells the verifier why it does not take an event (RFC 8935 §2.3)."""
    first = error.findings[0].id if isinstance(error, VerificationError) else ""
    code = _CODES.get(first, "invalid_request")
    return {"err": code, "description": str(error)[:_MAX_DESCRIPTION]}


class PushEndpoint:
    """An ASGI application that events are pushed to; mount it where the stream's URL points.

    Args:
        receiver: Takes the events.
        authorization: The Authorization header that each push must carry, as the stream has it.
            Without one, the signatures alone keep strangers out, at the cost of checking them.
    """

    def __init__(self, receiver: EventReceiver, *, authorization: str | None = None) -> None:
        self._receiver = receiver
        self._authorization = None if authorization is None else authorization.encode()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request.

        Raises:
            RuntimeError: It is no HTTP request.
        """
        if scope["type"] != "http":
            raise RuntimeError("events are pushed over HTTP")
        status, members = await self._answer(scope, receive)
        headers = [(b"cache-control", b"no-store")]
        body = b""
        if members is not None:
            body = strictjson.serialise(members)
            headers += [(b"content-type", b"application/json"), (b"content-language", b"en")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: _Scope, receive: _Receive) -> tuple[int, dict[str, str] | None]:
        if scope["method"] != "POST":
            return _NO_METHOD, _refused("invalid_request", "Events are pushed by POST.")
        if not self._admits(_values(scope["headers"], b"authorization")):
            return _UNAUTHORIZED, _refused("authentication_failed", "The push is not authorized.")
        if _values(scope["headers"], b"content-type") != [SECEVENT.encode()]:
            return _BAD_REQUEST, _refused("invalid_request", f"The body must be {SECEVENT}.")
        body = await _body(receive)
        if body is None:
            return _BAD_REQUEST, _refused("invalid_request", f"A SET has at most {MAX_SET} bytes.")
        try:
            # Aside: fetching keys and acting on an event may take their time.
            await asyncio.to_thread(self._receiver.take, body.decode("latin-1"))
        except (MalformedError, VerificationError) as exc:
            return _BAD_REQUEST, error_members(exc)
        except TransportError:
            return _BUSY, None
        return _ACCEPTED, None

    def _admits(self, given: list[bytes]) -> bool:
        expected = self._authorization
        if expected is None:
            return True
        return len(given) == 1 and hmac.compare_digest(given[0], expected)


def _values(headers: _Headers, name: bytes) -> list[bytes]:
    return [value for each, value in headers if each.lower() == name]


async def _body(receive: _Receive) -> bytes | None:
    """Return the body, or None where it is too long or ended early."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_SET:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _refused(code: str, description: str) -> dict[str, str]:
    return {"err": code, "description": description}
