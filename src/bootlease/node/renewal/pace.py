"""What an attempt brought, and how long to wait for the next.

A refusal, an answer that does not come, a wish that is denied: each is asked for again ever more
slowly, and a grant begins from the front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.node.calls import UnavailableError
from bootlease.node.lease import HeldLease
from bootlease.node.observing import Outcome
from bootlease.node.pacing import REFUSED, UNREACHABLE, Jitter, renewal_delay
from bootlease.node.renewal.denials import DeniedError
from bootlease.node.wishbook import NothingWishedError, Wishes
from bootlease.ports import Clock

IDLE: Final = 3600.0
"""Seconds between two looks into an empty book of wishes; whoever wishes wakes the agent."""


class Pace:
    """Counts what attempts bring.

    Args:
        wishes: When something is due, and what was denied.
        clock: CLOCK_BOOTTIME.
        jitter: Source of jitter.
    """

    def __init__(self, wishes: Wishes, clock: Clock, jitter: Jitter) -> None:
        self._wishes = wishes
        self._clock = clock
        self._jitter = jitter
        self._unreachable = 0
        self._refused = 0

    def outcome(self, attempt: Callable[[], HeldLease]) -> Outcome:
        """Make an attempt, and say when the next is due."""
        try:
            lease = attempt()
        except NothingWishedError:
            self._unreachable = self._refused = 0
            due = self._wishes.next_due(self._clock.boottime())
            return Outcome(IDLE if due is None else min(IDLE, due))
        except DeniedError as exc:
            self._unreachable = self._refused = 0
            self._wishes.denied(exc.denied, self._clock.boottime(), self._jitter)
            due = self._wishes.next_due(self._clock.boottime())
            return Outcome(IDLE if due is None else due, denied=exc.denied)
        except VerificationError as exc:
            self._refused += 1
            self._unreachable = 0
            return Outcome(REFUSED.delay(self._refused, self._jitter), error=exc)
        except (TransportError, MalformedError) as exc:
            self._unreachable += 1
            wait = UNREACHABLE.delay(self._unreachable, self._jitter)
            asked = exc.retry_after if isinstance(exc, UnavailableError) else None
            return Outcome(max(wait, asked or 0.0), error=exc)
        self._unreachable = self._refused = 0
        left = lease.remaining(self._clock)
        wait = renewal_delay(lease.life, left, self._jitter)
        return Outcome(wait, granted=lease, denied=lease.denied)
