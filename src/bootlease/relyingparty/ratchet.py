"""The newest continuity statement that a relying party has; it only ever gets newer.

What a statement is stands in ``token.continuity``. This adds what one statement cannot say of
itself: that none is taken back, and for how long it counts *here*.

A statement counts for as many seconds as it says, from the moment at which it was asked for, on a
clock that nobody sets. The relying party's wall clock and the leeway for it are a second bound,
never an extension: a wall clock that was set back does not bring an old statement to life.

Not handled: memory over restarts. A relying party that starts takes the first statement that its
wall clock and the leeway let pass.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.relyingparty.keysource import KeySource
from bootlease.token.continuity import Continuity, stale, verify_statement
from bootlease.token.keys import KeySet
from bootlease.token.verify import DEFAULT_LEEWAY

_NONE: Final = "No continuity statement could be had: what was revoked is not known."


@dataclass(frozen=True, slots=True)
class _Held:
    statement: Continuity
    since: float

    @property
    def valid(self) -> int:
        """Seconds for which it counts."""
        return self.statement.expires_at - self.statement.issued_at


class HeldContinuity:
    """Takes statements and gives the newest one while it counts; safe to share between threads."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        leeway: int = DEFAULT_LEEWAY,
    ) -> None:
        """Hold nothing yet.

        Args:
            keys: Where ``issuer``'s keys come from.
            issuer: The verifier's URL, exact.
            clock: Seconds since the epoch.
            monotonic: Seconds of a clock that nobody sets.
            leeway: Seconds by which clocks may differ.
        """
        self._keys = keys
        self._issuer = issuer
        self._clock = clock
        self._monotonic = monotonic
        self._leeway = leeway
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._withdrawn: frozenset[str] = frozenset()

    def take(self, text: str, *, asked_at: float) -> None:
        """Hold a statement, if it is newer than the one in hand.

        Args:
            text: Unverified.
            asked_at: When it was asked for, or arrived unasked, on the monotonic clock.

        Raises:
            MalformedError: It is none.
            VerificationError: It does not count, or is older than the one in hand.
            TransportError: The keys to check it with cannot be had.
        """
        with self._lock:
            held = self._held
            before = None if held is None else held.statement
            fresh = self._verified(text, before)
            if before is not None:
                if fresh.sequence == before.sequence:
                    # The same one again: it counts no longer for that.
                    return
                self._demand_forward(fresh, before)
                self._withdrawn |= before.key_ids - fresh.key_ids
            self._held = _Held(fresh, asked_at)

    def current(self) -> Continuity:
        """Return the newest statement.

        Raises:
            VerificationError: There is none, or it is too old.
        """
        held = self._held
        if held is None:
            raise VerificationError(Finding("continuity.missing", _NONE))
        if self._monotonic() - held.since >= held.valid:
            raise VerificationError(stale(held.statement, self._clock()))
        return held.statement

    def age(self) -> float:
        """Return how much of the newest statement's time is over; 1 and more where none counts."""
        held = self._held
        return 1.0 if held is None else (self._monotonic() - held.since) / held.valid

    @property
    def valid(self) -> int | None:
        """Seconds for which the newest statement counts, if there was one."""
        return None if self._held is None else self._held.valid

    def _verified(self, text: str, before: Continuity | None) -> Continuity:
        keys = self._keys.key_set()
        try:
            return self._verify(text, keys, before)
        except VerificationError as exc:
            if exc.findings[0].id != "continuity.key.unknown":
                raise
            # A rotation may have happened since the keys were fetched.
            fresh = self._keys.refresh()
            if fresh is keys:
                raise
        return self._verify(text, fresh, before)

    def _verify(self, text: str, keys: KeySet, before: Continuity | None) -> Continuity:
        return verify_statement(
            text,
            self._still_trusted(keys),
            now=self._clock(),
            issuer=self._issuer,
            leeway=self._leeway,
            after=before,
        )

    def _still_trusted(self, keys: KeySet) -> KeySet:
        # A key set that is fetched now and then still has a key that the verifier withdrew a
        # moment ago: whoever stole it would list it again.
        if self._withdrawn.isdisjoint(key.key_id for key in keys.keys):
            return keys
        left = tuple(key for key in keys.keys if key.key_id not in self._withdrawn)
        if not left:
            raise VerificationError(
                Finding("continuity.key.none-left", "Every key that is trusted here was withdrawn.")
            )
        return KeySet(left)

    def _demand_forward(self, fresh: Continuity, before: Continuity) -> None:
        if fresh.min_epoch < before.min_epoch:
            raise VerificationError(
                Finding(
                    "continuity.epoch.back",
                    "The continuity statement lets leases count again that had ended.",
                    expected=f"at least {before.min_epoch}",
                    seen=str(fresh.min_epoch),
                )
            )
        # The sequence says which is newer; the clock must not contradict it by more than clocks do.
        if fresh.issued_at < before.issued_at - self._leeway:
            raise VerificationError(
                Finding(
                    "continuity.issued.back",
                    "The continuity statement is newer by its number and older by its time.",
                    expected=f"at least {before.issued_at}",
                    seen=str(fresh.issued_at),
                )
            )


def statement_text(body: bytes) -> str:
    """Return a statement's text, unverified.

    Raises:
        MalformedError: It is not ASCII.
    """
    try:
        return body.strip().decode("ascii")
    except UnicodeDecodeError as exc:
        raise MalformedError("continuity statement: not ASCII text") from exc
