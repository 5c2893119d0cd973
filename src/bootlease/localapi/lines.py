"""A stream's bytes, cut into events wherever they were cut on their way."""

from __future__ import annotations

from bootlease.errors import MalformedError
from bootlease.localapi.events import Event, parse_event
from bootlease.localapi.wire import MAX_ANSWER


class EventLines:
    """Collects bytes, gives events."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes in, and return the events that are complete with them.

        Raises:
            MalformedError: A line is no event, or none ends; the stream is of no use any more.
        """
        # Only what is new can hold an end of line, so that a slow line costs no second look.
        if b"\n" not in data:
            self._rest += data
            self._bound()
            return []
        head, *lines = data.split(b"\n")
        whole = [bytes(self._rest) + head, *lines[:-1]]
        self._rest = bytearray(lines[-1])
        self._bound()
        return [parse_event(line) for line in whole]

    def _bound(self) -> None:
        if len(self._rest) > MAX_ANSWER:
            raise MalformedError(f"an event has at most {MAX_ANSWER} bytes")
