"""A lease as its holder sees it: a stream of events, for as long as it is open.

Usable in three ways: iterate, wait for one event, or put ``fileno`` into a poll and ``receive``
what has come.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

from bootlease.errors import MalformedError, VerificationError
from bootlease.localapi import (
    Alive,
    Denied,
    Ended,
    EndedReason,
    Event,
    EventLines,
    Granted,
    Unreached,
)
from bootlease.localapi.wire import SILENT_AFTER
from bootlease.model import Finding
from bootlease.workload.connection import AgentGoneError, Connection

_UNNAMED: Final = Finding("workload.lease.refused", "The agent gives no reason for its refusal.")


class LeaseStream:
    """Events of one lease. Closing it gives the lease up, where it was opened with one.

    Attributes:
        handle: The workload's name for the lease.
    """

    def __init__(self, connection: Connection, handle: str) -> None:
        self.handle = handle
        self._connection = connection
        self._lines = EventLines()
        self._come: deque[Event] = deque()
        self._closed = False
        self._heard_at = time.monotonic()

    def fileno(self) -> int:
        """Return the file descriptor to poll for reading; -1 once closed."""
        return self._connection.fileno()

    @property
    def silent_for(self) -> float:
        """Seconds since the agent was last heard; it speaks every five."""
        return time.monotonic() - self._heard_at

    def receive(self) -> list[Event]:
        """Return the events that have come, without waiting.

        Raises:
            AgentGoneError: None has, and the agent has closed the stream.
            MalformedError: What came is no event; the stream is closed.
        """
        self._take()
        events = list(self._come)
        self._come.clear()
        if not events and self._closed:
            raise AgentGoneError("the agent has closed the stream")
        return events

    def next_event(self, timeout: float | None = None) -> Event | None:
        """Return the next event, a sign of life too; None where ``timeout`` seconds went by.

        Raises:
            AgentGoneError: The agent has closed the stream, or says nothing any more.
            MalformedError: What came is no event; the stream is closed.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._come:
            self._take()
            if self._come:
                break
            if self._closed:
                raise AgentGoneError("the agent has closed the stream")
            patience = SILENT_AFTER - self.silent_for
            if patience <= 0:
                raise AgentGoneError(f"the agent has said nothing for {SILENT_AFTER:g} s")
            left = patience if until is None else min(patience, until - time.monotonic())
            if left <= 0:
                return None
            self._connection.wait(left)
        return self._come.popleft()

    def granted(
        self, timeout: float, waiting: Callable[[Unreached], None] | None = None
    ) -> Granted:
        """Wait until the lease is granted, at first or anew.

        Args:
            timeout: Seconds to wait at most.
            waiting: Told of each attempt that brought no answer.

        Raises:
            VerificationError: The verifier refuses the node, or denies it this lease.
            AgentGoneError: Nothing was granted in time, or the agent is gone.
            MalformedError: What came is no event; the stream is closed.
        """
        until = time.monotonic() + timeout
        said = "the agent attests"
        while (event := self.next_event(max(0.0, until - time.monotonic()))) is not None:
            match event:
                case Granted():
                    return event
                case Denied(findings) | Ended(EndedReason.REFUSED, findings) if findings:
                    raise VerificationError(*findings)
                case Denied() | Ended(EndedReason.REFUSED):
                    raise VerificationError(_UNNAMED)
                case Unreached():
                    said = event.error
                    if waiting is not None:
                        waiting(event)
                case _:
                    continue
        raise AgentGoneError(f"no lease within {timeout:g} s: {said}")

    def __iter__(self) -> Iterator[Event]:
        """Yield events, signs of life left out, until ``AgentGoneError`` is raised."""
        while True:
            event = self.next_event()
            if event is not None and not isinstance(event, Alive):
                yield event

    def close(self) -> None:
        """Close the stream; closing again is harmless."""
        self._closed = True
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self) -> None:
        if self._closed:
            return
        try:
            data, ended = self._connection.received()
            events = self._lines.feed(data) if data else []
        except MalformedError:
            self.close()
            raise
        if data:
            self._heard_at = time.monotonic()
        self._come.extend(events)
        if ended:
            self.close()
