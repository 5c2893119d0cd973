"""What an agent says of itself while it runs: lines of its log, and ``status.json``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from bootlease.errors import BootleaseError, TransportError, VerificationError
from bootlease.model import Finding
from bootlease.node.lease import EndReason, HeldLease, Holding
from bootlease.node.logline import Event, Level
from bootlease.node.observing import Outcome
from bootlease.node.status import LeaseState, LeaseStatus, Status
from bootlease.node.wishbook import WishId
from bootlease.ports import Clock

_END_STATES: Final = {
    EndReason.LAPSED: LeaseState.LAPSED,
    EndReason.REBOOTED: LeaseState.LAPSED,
    EndReason.REFUSED: LeaseState.REFUSED,
    EndReason.STOPPED: LeaseState.STOPPED,
    EndReason.UNWANTED: LeaseState.NONE,
    EndReason.UNUSABLE: LeaseState.LAPSED,
}
_LEVELS: Final = {
    EndReason.LAPSED: Level.WARNING,
    EndReason.REBOOTED: Level.WARNING,
    EndReason.REFUSED: Level.ERROR,
    EndReason.STOPPED: Level.INFO,
    EndReason.UNWANTED: Level.INFO,
    EndReason.UNUSABLE: Level.ERROR,
}


class StatusStore(Protocol):
    """Where a status is published."""

    def report(self, status: Status) -> None:
        """Publish ``status``."""


class Reporter:
    """Keeps ``status.json`` and the log true to what happens; both threads tell it.

    Args:
        issuer: The verifier.
        store: Where the status goes.
        clock: Wall clock.
        say: Takes one line for people.
    """

    def __init__(
        self, issuer: str, store: StatusStore, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._say = say
        self._lock = threading.Lock()
        self._idle = False
        self._status = Status(LeaseState.NONE, issuer, clock.now(), os.getpid())

    def started(self) -> None:
        """Tell that the agent runs."""
        self._publish()

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Tell what a step brought, in status and log."""
        if outcome.granted is not None:
            self._say_granted(outcome.granted, outcome)
        elif isinstance(outcome.error, VerificationError):
            self._say_refused(outcome.error, outcome.wait)
        elif outcome.error is not None:
            self._say(
                Event(
                    "attempt.failed",
                    f"{self._failure(outcome)}; next attempt in {outcome.wait:.1f} s",
                    level=Level.WARNING,
                    error=str(outcome.error),
                    next_in=_tenths(outcome.wait),
                )
            )
        elif outcome.idle and not self._idle:
            self._say(Event("agent.idle", "nothing is wished for: no lease is asked for"))
        self._idle = outcome.idle
        for wish_id, findings in outcome.denied.items():
            self._say(_denied_line(wish_id, findings))
        self._outcome(outcome, node, next_attempt_at=self._clock.now() + int(outcome.wait))

    def _say_granted(self, lease: HeldLease, outcome: Outcome | None = None) -> None:
        text, claims = _granted_line(lease, self._clock), lease.tokens[0].claims
        if outcome is not None:
            text += f", renewal in {outcome.wait:.1f} s"
        self._say(
            Event(
                "lease.granted",
                text,
                seq=lease.sequence,
                lineage=claims.lineage.root.hex(),
                leases=len(lease.holdings),
                expires_at=lease.expires_at,
                life=lease.life,
                next_in=None if outcome is None else _tenths(outcome.wait),
                took=None if outcome is None else round(outcome.seconds, 3),
            )
        )

    def _say_refused(self, refused: VerificationError, wait: float) -> None:
        # A line for each finding; programs find all of them in the first.
        first, *others = [str(finding) for finding in refused.findings]
        notes = list(_notes(refused))
        self._say(
            Event(
                "attempt.refused",
                first,
                level=Level.ERROR,
                findings=refused.findings,
                next_in=_tenths(wait),
                notes=notes or None,
            )
        )
        for line in (*others, *notes):
            self._say(line)
        self._say(f"next attempt in {wait:.0f} s")

    def _failure(self, outcome: Outcome) -> str:
        with self._lock:
            known = self._status
        left = (known.expires_at or 0) - self._clock.now()
        if known.state is LeaseState.HELD and left > 0:
            return f"no renewal: {outcome.error}; the lease still holds for {left} s"
        if known.renewed_at is None:
            return f"no lease yet: {outcome.error}"
        return f"no lease: {outcome.error}"

    def attempted(self, outcome: Outcome, node: bytes | None) -> None:
        """Tell what an only attempt brought; whoever made it complains about an error."""
        if outcome.granted is not None:
            self._say_granted(outcome.granted)
        self._outcome(outcome, node, next_attempt_at=None)

    def _outcome(self, outcome: Outcome, node: bytes | None, **changes: object) -> None:
        changes |= {"node": None if node is None else node.hex(), "error": None, "findings": ()}
        changes["notes"] = _notes(outcome.error)
        if outcome.granted is not None:
            changes |= _granted(outcome.granted, self._clock.now())
        elif isinstance(outcome.error, VerificationError):
            changes |= {"state": LeaseState.REFUSED, "findings": outcome.error.findings}
            changes |= {"error": str(outcome.error), "leases": (), "expires_at": None}
        elif outcome.error is not None:
            changes["error"] = str(outcome.error)
        self._publish(**changes)

    def ended(self, reason: EndReason, lease: HeldLease) -> None:
        """Tell that a lease ended."""
        text = f"lease {lease.sequence} has ended: {reason.value}"
        self._say(
            Event(
                "lease.ended",
                text,
                level=_LEVELS[reason],
                seq=lease.sequence,
                leases=len(lease.holdings),
                reason=reason.value,
            )
        )
        self._publish(state=_END_STATES[reason], leases=(), expires_at=None)

    def stopped(self) -> None:
        """Tell that the agent stops."""
        self._publish(state=LeaseState.STOPPED, leases=(), expires_at=None, next_attempt_at=None)

    def _publish(self, **changes: object) -> None:
        with self._lock:
            updated = {**changes, "updated_at": self._clock.now()}
            self._status = replace(self._status, **updated)  # type: ignore[arg-type]
            try:
                self._store.report(self._status)
            except TransportError as exc:
                # A full disk must not end a lease that stands.
                self._say(Event("status.failed", str(exc), level=Level.ERROR))


def _notes(error: BootleaseError | None) -> tuple[str, ...]:
    return tuple(getattr(error, "__notes__", ()))


def _granted(lease: HeldLease, now: int) -> dict[str, object]:
    return {
        "state": LeaseState.HELD,
        "sequence": lease.sequence,
        "expires_at": lease.expires_at,
        "renewed_at": now,
        "leases": tuple(map(_lease, lease.holdings)),
    }


def _lease(holding: Holding) -> LeaseStatus:
    claims = holding.token.claims
    return LeaseStatus(
        *(claims.lease_id.hex(), claims.scope, claims.audience, claims.expires_at),
        level=claims.level,
        workload=holding.holder,
    )


def _granted_line(lease: HeldLease, clock: Clock) -> str:
    claims, others = lease.tokens[0].claims, len(lease.holdings) - 1
    more = f" and {others} more" if others else ""
    return (
        f"lease {claims.lineage.seq} granted: {' '.join(claims.scope)} for {claims.audience}{more},"
        f" {lease.remaining(clock):.0f} s left"
    )


def _denied_line(wish_id: WishId, findings: tuple[Finding, ...]) -> Event:
    text = "one lease is denied: " + "; ".join(finding.message for finding in findings)
    return Event("lease.denied", text, level=Level.WARNING, findings=findings, wish=wish_id)


def _tenths(seconds: float) -> float:
    return round(seconds, 1)
