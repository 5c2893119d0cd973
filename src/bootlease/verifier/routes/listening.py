"""Listeners: who hears of every continuity statement as it is made, by server-sent events.

Specification: WHATWG HTML, "Server-sent events". An event ``continuity`` carries one statement; its
``id`` is nothing to continue from: whoever connects again gets the newest.

There are so many listeners at once, and so many of one client. One that does not take a statement
in time is dropped: what waits for it would fill the memory, and it counts as stale by then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from bootlease.ports import Clock
from bootlease.token.continuity import CONTINUITY_EVENT
from bootlease.verifier.continuity.statements import Statements
from bootlease.verifier.http_protocol import ABORT
from bootlease.verifier.limits import Limits
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import ProblemError, ProblemKind

EVENT_STREAM: Final = "text/event-stream"
_RETRY_AFTER: Final = 5


class Listeners:
    """Counts who listens.

    Args:
        limits: Bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of_client: Counter[str] = Counter()
        self._all = 0

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Take a place and give it back.

        Raises:
            ProblemError: There is none.
        """
        self.demand_room(client)
        self._all += 1
        self._of_client[client] += 1
        try:
            yield
        finally:
            self._all -= 1
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def demand_room(self, client: str) -> None:
        """Demand that there is a place for this client.

        Raises:
            ProblemError: There is none.
        """
        if self._of_client[client] >= self._limits.listeners_per_client:
            raise ProblemError(
                ProblemKind.BUSY_CLIENT,
                "This client has as many streams open as it may have.",
                retry_after=_RETRY_AFTER,
            )
        if self._all >= self._limits.listeners:
            raise ProblemError(
                ProblemKind.BUSY, "Too many streams are open; poll.", retry_after=_RETRY_AFTER
            )

    def __len__(self) -> int:
        return self._all


class StatementStream(Response):
    """An answer that goes on: one event for each statement, until one side has enough.

    Args:
        statements: What is streamed.
        clock: Tells the time.
        listeners: Counts who listens.
        client: Who does.
        limits: Bounds.
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        statements: Statements,
        clock: Clock,
        listeners: Listeners,
        client: str,
        limits: Limits,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._statements = statements
        self._clock = clock
        self._listeners = listeners
        self._client = client
        self._patience = limits.listener_time
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client is gone, too slow, or the verifier ends."""
        with self._listeners.place(self._client):
            gone = asyncio.create_task(_gone(receive))
            try:
                await self._stream(send, gone)
            except TimeoutError:
                log_event("listener-dropped", client=self._client)
                _aborting(scope)()
            finally:
                gone.cancel()

    async def _stream(self, send: Send, gone: asyncio.Task[None]) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        while not gone.done() and not self._statements.closed:
            # Before the statement is read: what changes meanwhile is not missed.
            changed = self._statements.next_change()
            try:
                await self._send(send, self._statements.statement(self._clock.now()))
                await asyncio.wait(
                    {gone, changed},
                    timeout=self._statements.fresh,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                self._statements.forget(changed)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, statement: str) -> None:
        event = f"event: {CONTINUITY_EVENT}\ndata: {statement}\n\n".encode("ascii")
        async with asyncio.timeout(self._patience):
            await send({"type": "http.response.body", "body": event, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _aborting(scope: Scope) -> Callable[[], Any]:
    # A connection that is only closed waits for what is still to be sent, perhaps for ever.
    abort: Callable[[], Any] = scope["state"].get(ABORT, lambda: None)
    return abort
