"""When the agent attests, in turn or out of it: for wishes that cannot wait for the next renewal.

A renewal serves every wish, so the agent gathers for a moment before it begins one. Workloads that
come and go in a loop must neither wear out the TPM nor the verifier: out of turn it attests in
bursts of bounded size only, and less often while it is refused or reaches nobody. Whoever wishes in
between waits a few seconds longer, and is served along with all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bootlease.errors import VerificationError
from bootlease.node.observing import Outcome
from bootlease.node.wakeup import Wakeup
from bootlease.node.wishbook import Wishes
from bootlease.ports import Clock

GATHER: Final = 0.05
"""Seconds in which further wishes may come that the same quote serves."""
APART: Final = 0.2
"""Seconds between two attempts at least, where the last was granted."""
APART_UNREACHED: Final = 1.0
APART_REFUSED: Final = 5.0
BURST: Final = 12
"""Attempts out of turn that may follow each other, and that a life has room for besides: together
with the renewals in turn they stay below the 32 that a verifier grants a node in the life of a
lease, unless it was told otherwise."""
_UNKNOWN_LIFE: Final = 60.0
LOOK: Final = 5.0
"""Seconds between two looks at the clock."""


@dataclass(slots=True)
class _Allowance:
    """How many attempts out of turn are left."""

    left: float = BURST
    counted_at: float = 0.0
    life: float = _UNKNOWN_LIFE

    def next_at(self, now: float) -> float:
        """Return when there is one."""
        pause = self.life / BURST
        self.left = min(BURST, self.left + (now - self.counted_at) / pause)
        self.counted_at = now
        return now if self.left >= 1 else now + (1 - self.left) * pause

    def take(self) -> None:
        """Use one up."""
        self.left -= 1


class Schedule:
    """Waits between two attempts.

    Args:
        wishes: Where new wishes stand.
        wakeup: Notified by whoever wishes; hurried where a lease has just ended, or the agent is
            to stop.
        clock: CLOCK_BOOTTIME.
    """

    def __init__(self, wishes: Wishes, wakeup: Wakeup, clock: Clock) -> None:
        self._wishes = wishes
        self._wakeup = wakeup
        self._clock = clock
        self._allowance = _Allowance(counted_at=clock.boottime())

    def wait(self, outcome: Outcome) -> None:
        """Return when the next attempt is due, in turn or out of it.

        Args:
            outcome: What the last one brought.
        """
        if outcome.granted is not None:
            self._allowance.life = outcome.granted.life
        ended = self._clock.boottime()
        due = ended + outcome.wait
        while not self._wakeup.hurried():
            now = self._clock.boottime()
            if now >= due:
                return
            if self._wishes.has_new:
                earliest = max(now + GATHER, ended + _apart(outcome), self._allowance.next_at(now))
                if earliest < due:
                    self._allowance.take()
                self._wakeup.hurried(min(earliest, due) - now)
                return
            # By CLOCK_MONOTONIC, which stands still while the machine sleeps.
            self._wakeup.wait(min(due - now, LOOK))


def _apart(outcome: Outcome) -> float:
    if isinstance(outcome.error, VerificationError):
        return APART_REFUSED
    return APART if outcome.error is None else APART_UNREACHED
