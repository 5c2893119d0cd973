"""What the agent says of the guard's lease, across restarts of the agent.

A thread does all the waiting, so that the guard never does: an agent that accepts connections and
then hangs must not hold up the end of a lease.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.localapi import Denied, Event
from bootlease.workload import LeaseStream

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_IN_USE: Final = "workload.handle.in-use"


@dataclass(frozen=True, slots=True)
class Away:
    """The agent cannot be reached, or has gone; the guard asks again.

    Attributes:
        error: Why, one line.
    """

    error: str


Said = Event | Away


class Feed:
    """Holds a lease through the agent for as long as this process lives.

    Args:
        ask: Opens the stream, always with the same handle.
    """

    def __init__(self, ask: Callable[[], LeaseStream]) -> None:
        self._ask = ask
        self._said: deque[Said] = deque()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to ask."""
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when something was said."""
        return self._read

    def take(self) -> list[Said]:
        """Return what was said since the last call, without waiting."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        said = []
        while self._said:
            said.append(self._said.popleft())
        return said

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                with self._ask() as stream:
                    pause = _FIRST_PAUSE
                    for event in stream:
                        self._tell(event)
            except VerificationError as exc:
                if not any(finding.id == _IN_USE for finding in exc.findings):
                    self._tell(Denied(exc.findings))
                    return
                # The agent has not yet seen that the connection before this one has ended.
                wait = _FIRST_PAUSE
            except (TransportError, MalformedError, OSError) as exc:
                self._tell(Away(str(exc)))
                wait = getattr(exc, "retry_after", None) or pause
            self._stop.wait(min(wait, _LONGEST_PAUSE))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _tell(self, said: Said) -> None:
        self._said.append(said)
        # A full pipe says as much as one more byte would.
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")
