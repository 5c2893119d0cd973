"""What an agent counts and measures; docs/agent.md has the names and their meaning."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bootlease import __version__
from bootlease.errors import VerificationError
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.observing import Outcome
from bootlease.node.service.openmetrics import Counter, Gauge, Histogram, Info, Total, exposition
from bootlease.node.wishbook import Wishes
from bootlease.ports import Clock

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_GRANTED, _REFUSED, _FAILED = "granted", "refused", "failed"
_STATM: Final = Path("/proc/self/statm")


class AgentMetrics:
    """Counts what an agent does; an ``Observer``.

    Args:
        keeper: What is held.
        wishes: What is wished for.
        clock: Both clocks.
        connections: How many connections the Workload API serves.
    """

    def __init__(
        self,
        keeper: LeaseKeeper,
        wishes: Wishes,
        clock: Clock,
        connections: Callable[[], int],
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._attempts = Counter(
            *("bootlease_agent_attempts", "Attempts to get or renew leases, by what they brought."),
            *("result", (_GRANTED, _REFUSED, _FAILED)),
        )
        self._denied = Counter(
            "bootlease_agent_denials", "Wishes that were denied while the node was not."
        )
        self._ends = Counter(
            *("bootlease_agent_ends", "Leases that ended without a renewal, by reason."),
            *("reason", tuple(reason.value for reason in EndReason)),
        )
        self._reloads = Counter(
            *("bootlease_agent_reloads", "Configurations that were read again."),
            *("result", ("accepted", _REFUSED)),
        )
        self._attempt_seconds = Histogram(
            "bootlease_agent_attempt_seconds",
            "Time that an attempt took, from its beginning to the leases in hand.",
            _SECONDS,
            unit="seconds",
        )
        self._quote_seconds = Histogram(
            "bootlease_agent_quote_seconds",
            "Time that the TPM and the logs took for evidence.",
            _SECONDS,
            unit="seconds",
        )
        self._families = (
            *(Info("bootlease_agent", "The agent.", version=__version__), *self._gauges()),
            Gauge("bootlease_agent_wishes", "Leases wished for.", lambda: len(wishes)),
            Gauge(
                "bootlease_agent_workload_connections",
                "Connections to the Workload API.",
                connections,
            ),
            *(self._attempts, self._denied, self._ends, self._reloads),
            *(self._attempt_seconds, self._quote_seconds),
            Total("process_cpu_seconds", "CPU time used.", _cpu, unit="seconds"),
            Gauge("process_resident_memory_bytes", "Resident memory.", _resident, unit="bytes"),
        )

    def _gauges(self) -> tuple[Gauge, Gauge]:
        return (
            Gauge("bootlease_agent_leases", "Leases held.", self._leases),
            Gauge(
                "bootlease_agent_deadline_seconds",
                "Time until the leases end unless they are renewed; 0 without a lease.",
                self._left,
                unit="seconds",
            ),
        )

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Count what a step brought."""
        del node
        self._denied.add(amount=len(outcome.denied))
        if outcome.granted is None and outcome.error is None:
            return
        if outcome.granted is not None:
            self._attempts.add(_GRANTED)
            self._attempt_seconds.observe(outcome.seconds)
        else:
            refused = isinstance(outcome.error, VerificationError)
            self._attempts.add(_REFUSED if refused else _FAILED)
        if outcome.quote_seconds is not None:
            self._quote_seconds.observe(outcome.quote_seconds)

    def ended(self, reason: EndReason, lease: HeldLease) -> None:
        """Count leases that ended."""
        self._ends.add(reason.value, len(lease.holdings))

    def reloaded(self, *, accepted: bool) -> None:
        """Count a configuration that was read again."""
        self._reloads.add("accepted" if accepted else _REFUSED)

    def exposition(self) -> bytes:
        """Return everything in the OpenMetrics text format."""
        return exposition(self._families)

    def _leases(self) -> float:
        lease = self._keeper.held
        return 0.0 if lease is None else float(len(lease.holdings))

    def _left(self) -> float:
        lease = self._keeper.held
        return 0.0 if lease is None else round(lease.remaining(self._clock), 3)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round(used.ru_utime + used.ru_stime, 3)


def _resident() -> float:
    pages = int(_STATM.read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
