"""The lease in hand, and its end.

Everything that decides whether a lease still stands lives in this file. A lease ends at the first
of: its deadline by CLOCK_BOOTTIME, its ``exp`` by the wall clock, a refusal, a reboot, the agent's
stop. Once over it stays over: no clock that is set back revives it, and no answer that comes late.

The keeper's methods may be called from two threads: one renews (and may hang in the network or in
the TPM), the other watches the clocks.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bootlease.errors import TransportError
from bootlease.model import Finding
from bootlease.node.confirm import ConfirmationKey
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Holder, WishId
from bootlease.ports import Clock
from bootlease.token import VerifiedToken


class EndReason(enum.Enum):
    """Why a lease ended."""

    LAPSED = "lapsed"
    REFUSED = "refused"
    REBOOTED = "rebooted"
    STOPPED = "stopped"
    UNWANTED = "unwanted"
    """Nobody wishes for anything any more."""
    UNUSABLE = "unusable"
    """Granted, but it could not be handed out."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one wish was granted.

    Attributes:
        id: The wish's id.
        wish: What was wished for.
        token: The execution token, verified.
        encoded: The token as bytes.
        key: Its confirmation key.
        holder: Whose wish it is; None where it stands by itself.
    """

    id: WishId
    wish: LeaseWish
    token: VerifiedToken
    encoded: bytes = field(repr=False)
    key: ConfirmationKey = field(repr=False)
    holder: Holder | None = None


@dataclass(frozen=True, slots=True)
class HeldLease:
    """What one decision granted this node: a token for each wish, all until one deadline.

    Attributes:
        holdings: What each wish was granted, at least one.
        expires_at: Wall clock (seconds since the epoch) at which the first of them ends.
        deadline: CLOCK_BOOTTIME at which they end at the latest.
        life: Seconds from the challenge's issue to their end.
        denied: Why a wish that was asked for along with them was granted nothing.
    """

    holdings: tuple[Holding, ...]
    expires_at: int
    deadline: float
    life: float
    denied: Mapping[WishId, tuple[Finding, ...]] = field(default_factory=dict)

    @property
    def tokens(self) -> tuple[VerifiedToken, ...]:
        """The execution tokens, verified."""
        return tuple(holding.token for holding in self.holdings)

    @property
    def encoded(self) -> tuple[bytes, ...]:
        """The tokens as bytes, in the same order."""
        return tuple(holding.encoded for holding in self.holdings)

    @property
    def keys(self) -> tuple[ConfirmationKey, ...]:
        """The confirmation key of each, in the same order."""
        return tuple(holding.key for holding in self.holdings)

    @property
    def sequence(self) -> int:
        """Its number in its lineage."""
        return self.holdings[0].token.claims.lineage.seq

    def of(self, wish_id: WishId) -> Holding | None:
        """Return what a wish was granted, if anything."""
        return next((holding for holding in self.holdings if holding.id == wish_id), None)

    def remaining(self, clock: Clock) -> float:
        """Return the seconds that are left, by whichever clock leaves fewer; not below 0."""
        by_wall_clock = float(self.expires_at - clock.now())
        return max(0.0, min(by_wall_clock, self.deadline - clock.boottime()))


class LeaseOutput(Protocol):
    """Where tokens and keys are handed to workloads.

    Called with the keeper's lock held: an output that waits for somebody keeps the lease from
    ending in time.
    """

    def granted(self, lease: HeldLease) -> None:
        """Hand out what ``lease`` holds.

        Raises:
            TransportError: It cannot be handed out.
        """

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Take back whatever was handed out; nothing may have been.

        Args:
            reason: Why the lease is over.
            findings: Why the verifier refused, where it did.

        Raises:
            TransportError: It cannot be taken back; the same is told again soon.
        """


class LeaseKeeper:
    """Holds at most one lease, and never longer than it stands.

    Args:
        clock: Both clocks that a lease ends by.
        output: Where tokens go.
        on_end: Told once for every lease that ends, after its tokens were taken back.
    """

    def __init__(
        self,
        clock: Clock,
        output: LeaseOutput,
        on_end: Callable[[EndReason, HeldLease], None] | None = None,
    ) -> None:
        self._clock = clock
        self._output = output
        self._on_end = on_end
        self._lock = threading.RLock()
        self._held: HeldLease | None = None
        self._handed_out = False
        self._over: tuple[EndReason, tuple[Finding, ...]] = (EndReason.STOPPED, ())
        self._closed = False

    @property
    def valid(self) -> bool:
        """A lease is held and stands at this moment."""
        return self.current() is not None

    @property
    def held(self) -> HeldLease | None:
        """The lease in hand as it is, over or not; waits for nobody and ends nothing."""
        return self._held

    def current(self) -> HeldLease | None:
        """Return the lease that stands at this moment; ends one that does not."""
        with self._lock:
            self.enforce()
            return self._held

    def take(self, lease: HeldLease) -> None:
        """Hold ``lease`` in place of what is held, and hand out its tokens.

        Raises:
            TransportError: It is over already, the keeper is closed, or its tokens cannot be
                handed out; then nothing of it is held.
        """
        with self._lock:
            if self._closed:
                raise TransportError("the agent is stopping")
            if lease.remaining(self._clock) <= 0:
                raise TransportError(_late(lease, self._clock))
            self._held = lease
            self._handed_out = True
            try:
                self._output.granted(lease)
            except TransportError:
                self._held = None
                self._over = EndReason.UNUSABLE, ()
                self._take_back()
                raise
            self.enforce()

    def enforce(self) -> None:
        """End the lease if its time has come.

        Raises:
            TransportError: Its tokens cannot be taken back; the next call tries again.
        """
        with self._lock:
            if self._held is not None and self._held.remaining(self._clock) <= 0:
                self.end(EndReason.LAPSED)
            elif self._held is None and self._handed_out:
                self._take_back()

    def next_look(self, shortest: float, longest: float) -> float:
        """Return the seconds after which ``enforce`` must be called again."""
        with self._lock:
            left = longest if self._held is None else self._held.remaining(self._clock)
        return min(longest, max(shortest, left))

    def end(self, reason: EndReason, findings: tuple[Finding, ...] = ()) -> None:
        """End the lease now, if one is held.

        Args:
            reason: Why.
            findings: Why the verifier refused, where it did.

        Raises:
            TransportError: Its tokens cannot be taken back; the lease is over all the same.
        """
        with self._lock:
            lease, self._held = self._held, None
            self._over = reason, findings
            try:
                self._take_back()
            finally:
                if lease is not None and self._on_end is not None:
                    self._on_end(reason, lease)

    def close(self) -> None:
        """End the lease and take no other.

        Raises:
            TransportError: Its tokens cannot be taken back.
        """
        with self._lock:
            self._closed = True
            self.end(EndReason.STOPPED)

    def _take_back(self) -> None:
        self._output.ended(*self._over)
        self._handed_out = False


def _late(lease: HeldLease, clock: Clock) -> str:
    behind = clock.now() - lease.expires_at
    if behind >= 0 and clock.boottime() < lease.deadline:
        return (
            f"the lease ended {behind} s ago by this machine's clock although it has just been"
            " granted: set the clock (NTP)"
        )
    return "the verifier's answer came after the lease's end"
