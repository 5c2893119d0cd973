"""One request while its lease lives: what its application may still say, and when that ends.

Specification: ASGI 3.0, HTTP & WebSocket 2.5. An answer that was begun and is cut short ends
without its last chunk, so that no client takes the half for the whole; a WebSocket is closed with
1008 (RFC 6455 §7.4.1).

Not handled: bytes that the server or the kernel took before the end and the client has not read.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from bootlease.errors import BootleaseError, VerificationError
from bootlease.model import Finding
from bootlease.relyingparty.checker import CheckedRequest, TokenChecker
from bootlease.relyingparty.refusals import Refusal, refusal_for
from bootlease.token.verify import expired

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GUARD: Final = "bootlease.guard"
"""Where in the ASGI scope a handler's dependency finds the request's guard."""

_DENIAL: Final = "websocket.http.response"
_POLICY_VIOLATION: Final = 1008
_STARTS: Final = frozenset(
    {"http.response.start", "websocket.accept", f"{_DENIAL}.start", "websocket.close"}
)


_UNDEMANDED: Final = Finding("request.scope.undemanded", "Nothing here says who may ask for this.")


class _Phase(enum.Enum):
    WAITING = enum.auto()
    ANSWERING = enum.auto()
    WITHHELD = enum.auto()
    COMPLETE = enum.auto()


class Guarded:
    """A request that was let pass, until its answer is complete or its lease is over."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        checker: TokenChecker,
        checked: CheckedRequest,
        *,
        scope_due: bool,
    ) -> None:
        """Guard a request; made in the event loop that answers it.

        Args:
            scope: The request's ASGI scope.
            send: The server's.
            checker: Has checked the request.
            checked: What it found.
            scope_due: Whether the handler has to demand a scope before it is heard.
        """
        self.checked: Final = checked
        self.over: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._scope_due = scope_due
        self._scope = scope
        self._send = send
        self._checker = checker
        self._phase = _Phase.WAITING
        self._refusal: Refusal | None = None
        self._ended: BootleaseError | None = None

    @property
    def complete(self) -> bool:
        """Whether the answer has left whole, so that there is nothing to end."""
        return self._phase is _Phase.COMPLETE

    def demand(self, name: str) -> CheckedRequest:
        """Prove that the lease covers a scope name; what was not demanded is not answered.

        Raises:
            VerificationError: It does not.
        """
        try:
            self._checker.demand_scope(self.checked.token, name)
        except VerificationError as exc:
            self._refusal = refusal_for(exc)
            raise
        self._scope_due = False
        return self.checked

    def judge(self) -> BootleaseError | None:
        """Return why the lease counts no more, if it does not; may take seconds."""
        try:
            self._checker.recheck(self.checked.token)
        except BootleaseError as exc:
            return exc
        return None

    def expire(self) -> None:
        """End the request: the lease's time is over."""
        claims = self.checked.token.claims
        self.end(VerificationError(expired(claims, claims.expires_at)))

    def end(self, error: BootleaseError) -> None:
        """End the request, unless its answer is complete."""
        if self._ended is None and not self.complete:
            self._ended = error
            if not self.over.done():
                self.over.set_result(None)

    async def send(self, message: Message) -> None:
        """Pass on what the application says, while the lease lives.

        Raises:
            OSError: The lease is over; to the application it is as if the client were gone.
        """
        # The timer may be late where the application keeps the event loop busy.
        if self._ended is None and self._checker.remaining(self.checked.token) <= 0:
            self.expire()
        if self._ended is not None:
            raise OSError("the lease is over")
        if self._phase is _Phase.WITHHELD:
            return
        kind = message["type"]
        if self._phase is _Phase.WAITING and kind in _STARTS:
            self._phase = _Phase.ANSWERING
            if self._scope_due and self._refusal is None:
                self._refusal = refusal_for(VerificationError(_UNDEMANDED))
            if self._refusal is not None:
                self._phase = _Phase.WITHHELD
                await refuse(self._scope, self._send, self._refusal)
                return
        await self._send(message)
        if _is_last(message):
            self._phase = _Phase.COMPLETE

    async def finish(self) -> None:
        """Say what is left to say when the application has returned or was stopped."""
        refusal = self._refusal if self._ended is None else refusal_for(self._ended)
        if self._phase is _Phase.WAITING and refusal is not None:
            self._phase = _Phase.WITHHELD
            await refuse(self._scope, self._send, refusal)
        elif self._phase is _Phase.ANSWERING and self._ended is not None:
            if self._scope["type"] == "websocket":
                await self._send(
                    {"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "lease over"}
                )
            self._phase = _Phase.COMPLETE


def _is_last(message: Message) -> bool:
    kind: str = message["type"]
    if kind in {"http.response.body", f"{_DENIAL}.body"}:
        return not message.get("more_body")
    return kind == "websocket.close"


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answer with a refusal where nothing was answered yet."""
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers()]
    headers.append((b"content-length", str(len(refusal.body)).encode("ascii")))
    kind = "http.response"
    if scope["type"] == "websocket":
        if _DENIAL not in (scope.get("extensions") or {}):
            # The server makes 403 of it.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        kind = _DENIAL
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": refusal.body})
