"""Where a relying party learns what was revoked: the verifier's continuity statements.

``PolledContinuity`` asks when it is used and the statement in hand has aged; nothing runs beside
the program. ``streamed.StreamedContinuity`` learns of a revocation as it happens. Who wants
neither has to write ``UnsafeNoContinuity``.

A statement that cannot be renewed is believed until it is too old, and then nothing is granted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import httpx2

from bootlease.errors import BootleaseError, TransportError, VerificationError
from bootlease.relyingparty.fetching import TIMEOUT, fetch, require_safe
from bootlease.relyingparty.keysource import KeySource
from bootlease.relyingparty.ratchet import HeldContinuity, statement_text
from bootlease.token.continuity import MAX_STATEMENT, Continuity
from bootlease.token.verify import DEFAULT_LEEWAY

POLL_AT: Final = 1 / 3
"""Part of a statement's time after which a new one is asked for: two tries are left."""

_RETRY_PART: Final = 0.1
_RETRY: Final = 0.25
"""Seconds between tries while there is no statement: strangers' requests cannot cause more."""

_MAX_RETRY: Final = 5.0


class ContinuitySource(Protocol):
    """Gives the newest statement of one verifier."""

    def current(self) -> Continuity:
        """Return it; may ask the verifier, and so may take seconds.

        Raises:
            VerificationError: There is none that counts.
            TransportError: It cannot be had.
        """


class UnsafeNoContinuity:
    """Instead of a source: revocation is not looked at, and a lease counts until it expires.

    Neither a revoked lease, node or parent nor an ended policy epoch nor a withdrawn signing key is
    noticed before that.
    """


class StaticContinuity:
    """One statement that somebody else keeps fresh, or that a test made."""

    def __init__(self, statement: Continuity) -> None:
        """Hold a verified statement."""
        self.statement = statement

    def current(self) -> Continuity:
        """Return it, however old it is: the checker looks at that."""
        return self.statement


class PolledContinuity:
    """Asks the verifier again once a third of the statement's time is over.

    One request at a time asks. Others go on with the statement in hand while it counts, and wait
    where there is none.
    """

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
        poll_at: float = POLL_AT,
    ) -> None:
        """Prepare to ask; nothing is asked yet.

        Args:
            url: The verifier's ``/v1/continuity``; https unless on this machine.
            keys: Where ``issuer``'s keys come from.
            issuer: The verifier's URL, exact.
            client: Lends its TLS trust and timeouts.
            clock: Seconds since the epoch.
            monotonic: Seconds of a clock that nobody sets.
            leeway: Seconds by which clocks may differ.
            poll_at: Part of a statement's time after which to ask again.

        Raises:
            ValueError: ``url`` is not https, or ``poll_at`` no part of 1.
        """
        if not 0 < poll_at < 1:
            raise ValueError("a statement is asked for before its time is over")
        self._url = require_safe(url, "a continuity statement")
        self._own_client = client is None
        self._client = client or httpx2.Client(timeout=TIMEOUT)
        self._monotonic = monotonic
        self._poll_at = poll_at
        self.held: Final = HeldContinuity(
            keys, issuer=issuer, clock=clock, monotonic=monotonic, leeway=leeway
        )
        self._lock = threading.Lock()
        self._next_try = float("-inf")
        self._trouble: BootleaseError | None = None
        self._asks = 0

    def current(self) -> Continuity:
        """Return the newest statement, asked for anew when the one in hand has aged.

        Raises:
            VerificationError: There is none that counts, with what was wrong with the last one.
        """
        age = self.held.age()
        if age >= self._poll_at:
            self._renew(counts=age < 1)
        try:
            return self.held.current()
        except VerificationError as exc:
            trouble = self._trouble
            if isinstance(trouble, VerificationError):
                raise VerificationError(*exc.findings, *trouble.findings) from trouble
            raise exc from trouble

    def refresh(self) -> None:
        """Ask at once, however fresh the statement in hand is: something is said to have ended.

        Whoever calls while another call asks gets what is asked for after that, all of them once.

        Raises:
            TransportError: There is no answer that counts; what is in hand stays as it is.
        """
        before = self._asks
        with self._lock:
            if self._asks == before:
                self._ask(self._monotonic())
            trouble = self._trouble
        if trouble is not None:
            raise TransportError(f"no newer continuity statement: {trouble}") from trouble

    def close(self) -> None:
        """Close the connections that are this object's own."""
        if self._own_client:
            self._client.close()

    def _renew(self, *, counts: bool) -> None:
        # While a statement counts, nobody but the one who asks waits for the answer.
        if not self._lock.acquire(blocking=not counts):
            return
        try:
            now = self._monotonic()
            if self.held.age() < self._poll_at or now < self._next_try:
                return
            self._ask(now)
        finally:
            self._lock.release()

    def _ask(self, now: float) -> None:
        self._asks += 1
        try:
            text = statement_text(fetch(self._client, self._url, at_most=MAX_STATEMENT))
            self.held.take(text, asked_at=now)
            self._trouble = None
        except BootleaseError as exc:
            self._trouble = exc
            valid = self.held.valid
            pause = _RETRY if valid is None else min(_MAX_RETRY, _RETRY_PART * valid)
            self._next_try = self._monotonic() + pause
