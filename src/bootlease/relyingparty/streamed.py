"""Learns of a revocation as it happens: the verifier's stream of continuity statements.

Specification: WHATWG HTML §9.2 (server-sent events). A thread holds one connection to the
verifier. Every change arrives at once, and a heartbeat at each third of a statement's time. Where
the stream breaks the thread connects again, later each time, and meanwhile the statement is polled.

Not handled: ``Last-Event-ID``: a verifier begins each stream with its newest statement.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import httpx2

from bootlease.errors import BootleaseError, TransportError
from bootlease.relyingparty.continuity import PolledContinuity
from bootlease.relyingparty.fetching import TIMEOUT, require_safe
from bootlease.relyingparty.keysource import KeySource
from bootlease.token.continuity import CONTINUITY_EVENT, MAX_STATEMENT, Continuity
from bootlease.token.verify import DEFAULT_LEEWAY

MISSED: Final = 0.7
"""Part of a statement's time after which the stream is behind by two heartbeats: then it is asked
for, whatever the connection looks like."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_FIRST_SILENCE: Final = 30.0
"""Seconds without a word before the first statement has said how often there will be one."""

_EVENT_OVERHEAD: Final = 256


class StreamedContinuity:
    """Keeps the newest statement by listening; begins when it is first asked."""

    def __init__(
        self,
        url: str,
        keys: KeySource,
        *,
        issuer: str,
        client: httpx2.Client | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        leeway: int = DEFAULT_LEEWAY,
    ) -> None:
        """Prepare to listen; nothing is asked yet.

        Args:
            url: The verifier's ``/v1/continuity``; the stream is at ``/stream`` below it. https
                unless on this machine.
            keys: Where ``issuer``'s keys come from.
            issuer: The verifier's URL, exact.
            client: Lends its TLS trust.
            clock: Seconds since the epoch.
            monotonic: Seconds of a clock that nobody sets.
            leeway: Seconds by which clocks may differ.

        Raises:
            ValueError: ``url`` is not https.
        """
        self._own_client = client is None
        self._client = client or httpx2.Client(timeout=TIMEOUT)
        self._polled = PolledContinuity(
            url,
            keys,
            issuer=issuer,
            client=self._client,
            clock=clock,
            monotonic=monotonic,
            leeway=leeway,
            poll_at=MISSED,
        )
        self._held = self._polled.held
        self._url = require_safe(f"{url}/stream", "a continuity statement")
        self._monotonic = monotonic
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._socket: socket.socket | None = None
        self._pause = _FIRST_PAUSE

    def current(self) -> Continuity:
        """Return the newest statement.

        Raises:
            VerificationError: There is none that counts.
        """
        try:
            return self._polled.current()
        finally:
            # Afterwards: the first statement says how long a stream may be silent.
            if self._thread is None or not self._thread.is_alive():
                self._begin()

    def refresh(self) -> None:
        """Ask at once, besides listening; as ``PolledContinuity.refresh``."""
        self._polled.refresh()

    def close(self) -> None:
        """Stop listening, and close the connections that are this object's own."""
        self._stopped.set()
        thread, connection = self._thread, self._socket
        if connection is not None:
            # Closing what another thread reads from is undefined; an end of the stream is not.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if thread is not None:
            thread.join(TIMEOUT)
        if self._own_client:
            self._client.close()

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        self.close()

    def _begin(self) -> None:
        with self._start:
            # A thread does not survive a fork: a server's worker begins its own, when first asked.
            running = self._thread is not None and self._thread.is_alive()
            if not running and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="bootlease-continuity", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except (BootleaseError, httpx2.HTTPError, httpx2.StreamError, OSError):
                # Whatever it was, the statement is polled until a stream is there again.
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            finally:
                self._socket = None
            # Relying parties that lost one verifier do not all come back at one moment.
            self._stopped.wait(self._pause * random.uniform(0.5, 1))  # noqa: S311 - no secret

    def _listen(self) -> None:
        """Take statements until the stream ends, the verifier is silent, or one does not count."""
        silence = self._held.valid or _FIRST_SILENCE
        timeout = httpx2.Timeout(TIMEOUT, read=silence)
        headers = {"Accept": "text/event-stream"}
        with self._client.stream(
            "GET", self._url, headers=headers, timeout=timeout, follow_redirects=False
        ) as response:
            if response.status_code != httpx2.codes.OK:
                raise TransportError(f"{self._url} answered {response.status_code}")
            network = response.extensions.get("network_stream")
            self._socket = None if network is None else network.get_extra_info("socket")
            events = httpx2.EventSource(response, max_event_size=MAX_STATEMENT + _EVENT_OVERHEAD)
            for event in events:
                if self._stopped.is_set():
                    return
                if event.event == CONTINUITY_EVENT:
                    self._held.take(event.data, asked_at=self._monotonic())
                    self._pause = _FIRST_PAUSE
