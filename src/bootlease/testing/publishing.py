"""A verifier that publishes keys and continuity statements, and does nothing else.

Real HTTP, real signatures, invented claims: a relying party is tested against it without TPM,
store or enrolment.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from bootlease.testing.served import served
from bootlease.testing.tokens import FakeIssuer
from bootlease.token.continuity import CONTINUITY, CONTINUITY_EVENT

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_STEP: Final = 0.005
_OK: Final = 200


class PublishingVerifier:
    """Publishes a statement of ``issuer``, and its next ones, over HTTP.

    Attributes:
        issuer: Signs tokens and statements.
        valid: Seconds for which each statement counts.
        polls: How often a statement was asked for.
        streams: How many streams were opened.
        status: Status of every answer; other than 200 it says nothing.
        delay: Seconds before each answer to a poll.
        streaming: Whether a stream is offered, and goes on.
        heartbeats: Whether a stream says anything without a change.
    """

    def __init__(self, issuer: FakeIssuer | None = None, *, valid: int = 3) -> None:
        """Publish a statement by which nothing has ended."""
        self.issuer: Final = issuer or FakeIssuer()
        self.valid = valid
        self.polls = self.streams = 0
        self.status = _OK
        self.delay = 0.0
        self.streaming = self.heartbeats = True
        self._changes: dict[str, Any] = {}
        self._sequence = 0
        self._revision = 0
        self._lock = threading.Lock()
        self.url = ""

    def publish(self, **changes: Any) -> None:  # noqa: ANN401 - any member
        """Change what statements say: see ``FakeIssuer.statement``."""
        self._changes.update(changes)
        self._revision += 1

    def statement(self) -> str:
        """Return a new statement."""
        now = int(time.time())
        with self._lock:
            self._sequence += 1
            said = {
                "issuer": self.url,
                "issued_at": now,
                "expires_at": now + self.valid,
                "sequence": self._sequence,
                **self._changes,
            }
        return self.issuer.statement(**said)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        path = scope["path"]
        if self.status != _OK:
            await _answer(send, self.status, b"", "text/plain")
        elif path == "/.well-known/jwks.json":
            body = json.dumps(self.issuer.keys.to_jwks()).encode()
            await _answer(send, _OK, body, "application/jwk-set+json")
        elif path == "/v1/continuity":
            self.polls += 1
            await asyncio.sleep(self.delay)
            await _answer(send, _OK, self.statement().encode(), CONTINUITY)
        elif path == "/v1/continuity/stream" and self.streaming:
            self.streams += 1
            await self._stream(receive, send)
        else:
            await _answer(send, 404, b"", "text/plain")

    async def _stream(self, receive: _Receive, send: _Send) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": _OK, "headers": headers})
        said, at = -1, 0.0
        while self.streaming and not gone.done():
            due = self.heartbeats and time.monotonic() >= at + self.valid / 3
            if said != self._revision or due:
                said, at = self._revision, time.monotonic()
                text = f"event: {CONTINUITY_EVENT}\ndata: {self.statement()}\n\n"
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            await asyncio.sleep(_STEP)
        gone.cancel()
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: _Send, status: int, body: bytes, media: str) -> None:
    headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def publishing(verifier: PublishingVerifier) -> Iterator[PublishingVerifier]:
    """Serve ``verifier`` and give it, its ``url`` set."""
    with served(verifier) as url:
        verifier.url = url
        yield verifier
