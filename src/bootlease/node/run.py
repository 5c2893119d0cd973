"""Running an agent until it is told to stop.

Two threads. The worker attests, and may hang in the network or in the TPM. The main thread does
nothing that can hang: it watches the clocks, ends the lease at its deadline and waits for SIGTERM
or SIGINT, which it takes with ``sigtimedwait`` so that no handler runs in the middle of a write.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from bootlease.errors import BootleaseError, MalformedError, TransportError, VerificationError
from bootlease.node.agent import NodeAgent, Outcome
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.status import LeaseState, LeaseStatus, Status
from bootlease.ports import Clock

STOP_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_TICK: Final = 0.25
"""Seconds between two looks at the clocks: CLOCK_MONOTONIC, by which threads wait, stands still
while the machine sleeps, so a wait cannot simply last until the deadline."""
_SHORTEST_TICK: Final = 0.005
_GOODBYE: Final = 3.0

_END_STATES: Final = {
    EndReason.LAPSED: LeaseState.LAPSED,
    EndReason.REBOOTED: LeaseState.LAPSED,
    EndReason.REFUSED: LeaseState.REFUSED,
    EndReason.STOPPED: LeaseState.STOPPED,
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
        self._status = Status(LeaseState.NONE, issuer, clock.now(), os.getpid())

    def started(self) -> None:
        """Tell that the agent runs."""
        self._publish()

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Tell what a step brought, in status and log."""
        if outcome.granted is not None:
            line = _granted_line(outcome.granted, self._clock)
            self._say(f"{line}, renewal in {outcome.wait:.1f} s")
        elif isinstance(outcome.error, VerificationError):
            for finding in outcome.error.findings:
                self._say(str(finding))
            for note in _notes(outcome.error):
                self._say(note)
            self._say(f"next attempt in {outcome.wait:.0f} s")
        else:
            self._say(f"{self._failure(outcome)}; next attempt in {outcome.wait:.1f} s")
        self._outcome(outcome, node, next_attempt_at=self._clock.now() + int(outcome.wait))

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
            self._say(_granted_line(outcome.granted, self._clock))
        self._outcome(outcome, node, next_attempt_at=None)

    def _outcome(self, outcome: Outcome, node: bytes | None, **changes: object) -> None:
        changes |= {"node": None if node is None else node.hex(), "error": None, "findings": ()}
        changes["notes"] = _notes(outcome.error)
        if outcome.granted is not None:
            changes |= _granted(outcome.granted, self._clock.now())
        elif isinstance(outcome.error, VerificationError):
            changes |= {"state": LeaseState.REFUSED, "findings": outcome.error.findings}
            changes |= {"error": str(outcome.error), "leases": (), "expires_at": None}
        else:
            changes["error"] = str(outcome.error)
        self._publish(**changes)

    def ended(self, reason: EndReason, lease: HeldLease) -> None:
        """Tell that a lease ended."""
        number = lease.tokens[0].claims.lineage.seq
        self._say(f"lease {number} has ended: {reason.value}")
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
                self._say(str(exc))


def _notes(error: BootleaseError | None) -> tuple[str, ...]:
    return tuple(getattr(error, "__notes__", ()))


def _granted(lease: HeldLease, now: int) -> dict[str, object]:
    return {
        "state": LeaseState.HELD,
        "sequence": lease.tokens[0].claims.lineage.seq,
        "expires_at": lease.expires_at,
        "renewed_at": now,
        "leases": tuple(
            LeaseStatus(token.claims.lease_id.hex(), token.claims.scope, token.claims.audience)
            for token in lease.tokens
        ),
    }


def _granted_line(lease: HeldLease, clock: Clock) -> str:
    claims = lease.tokens[0].claims
    return (
        f"lease {claims.lineage.seq} granted: {' '.join(claims.scope)} for {claims.audience},"
        f" {lease.remaining(clock):.0f} s left"
    )


@dataclass(frozen=True, slots=True)
class Stopped:
    """How an agent ended.

    Attributes:
        signal: What told it to stop.
        clean: Its worker has ended too; otherwise it hangs in the TPM or the network, and whoever
            exits now must not wait for it nor close what it uses.
    """

    signal: signal.Signals
    clean: bool


def run_until_stopped(
    agent: NodeAgent, keeper: LeaseKeeper, reporter: Reporter, wake: threading.Event
) -> Stopped:
    """Run ``agent`` until SIGINT or SIGTERM; take back its tokens then.

    Args:
        agent: To be stepped, in a thread of its own.
        keeper: Its keeper; the deadline is enforced here.
        reporter: Told what happens.
        wake: Ends the worker's waiting; set by whoever sees the lease end.

    Raises:
        RuntimeError: The worker ended by itself, which it never should.
    """
    stop = threading.Event()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    worker = threading.Thread(
        target=_work, args=(agent, reporter, stop, wake), name="attest", daemon=True
    )
    try:
        reporter.started()
        worker.start()
        caught = _watch(keeper, worker)
    finally:
        stop.set()
        wake.set()
        _quietly(keeper.close)
        worker.join(_GOODBYE)
        reporter.stopped()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return Stopped(caught, clean=not worker.is_alive())


def run_once(agent: NodeAgent, reporter: Reporter) -> HeldLease:
    """Make one attempt, and leave what it granted where it was handed out.

    Raises:
        VerificationError: The verifier refuses this node.
        TransportError: Verifier or TPM gave no usable answer.
        MalformedError: The verifier cannot read the request.
    """
    try:
        lease = agent.renew()
    except (VerificationError, TransportError, MalformedError) as exc:
        reporter.attempted(Outcome(0.0, error=exc), agent.node)
        raise
    reporter.attempted(Outcome(0.0, granted=lease), agent.node)
    return lease


def _work(
    agent: NodeAgent, reporter: Reporter, stop: threading.Event, wake: threading.Event
) -> None:
    while not stop.is_set():
        wake.clear()
        outcome = agent.step()
        if stop.is_set():
            break
        reporter.stepped(outcome, agent.node)
        wake.wait(outcome.wait)


def _watch(keeper: LeaseKeeper, worker: threading.Thread) -> signal.Signals:
    while worker.is_alive():
        caught = signal.sigtimedwait(STOP_SIGNALS, keeper.next_look(_SHORTEST_TICK, _TICK))
        if caught is not None:
            return signal.Signals(caught.si_signo)
        _quietly(keeper.enforce)
    raise RuntimeError("the agent's worker ended by itself")


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except TransportError:
        # Tokens that cannot be taken back: the keeper tries again at every look, and the reporter
        # has told. Nothing here may stop the watch.
        return
