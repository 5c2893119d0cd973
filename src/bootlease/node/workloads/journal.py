"""What the Workload API's server says for the log.

Numbers, names of rules, and of who is refused the paths by which the kernel knows its program and
its cgroup, cut and made legible; never what a workload asked for, and never more than so many lines
a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from bootlease.model import Finding, legible
from bootlease.node.logline import Event, Level
from bootlease.node.workloads.leases import OpenLease
from bootlease.node.workloads.peers import Peer

_REFUSED_EVERY: Final = 1.0
"""Seconds between two refusals of one user that are logged."""
_FAILED_EVERY: Final = 1.0
"""Seconds between two defects that are logged."""
_REMEMBERED: Final = 1024
_SHOWN: Final = 128


class Journal:
    """Writes to the agent's log.

    Args:
        say: Takes each event.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._refused_at: dict[int, float] = {}
        self._turned_away = 0
        self._failed_at = -_FAILED_EVERY

    def changed(self, what: str, lease: OpenLease) -> None:
        """Tell that a lease was opened or closed."""
        who = lease.peer.credentials
        text = f"process {who.pid} of user {who.uid}, rule {lease.rule.name}: lease {what}"
        self._say(Event(f"workload.{what}", text, pid=who.pid, uid=who.uid, rule=lease.rule.name))

    def note_refusal(self, peer: Peer, findings: Sequence[Finding]) -> None:
        """Tell that a process may not have what it asks for."""
        who, now = peer.credentials, time.monotonic()
        # Nobody fills the log by asking again and again.
        if now - self._refused_at.get(who.uid, -_REFUSED_EVERY) < _REFUSED_EVERY:
            return
        if len(self._refused_at) >= _REMEMBERED:
            self._refused_at.clear()
        self._refused_at[who.uid] = now
        ids = ", ".join(sorted({finding.id for finding in findings}))
        self._say(
            Event(
                "workload.refused",
                f"process {who.pid} is refused: {ids} ({peer})",
                pid=who.pid,
                uid=who.uid,
                gid=who.gid,
                exe=peer.exe,
                cgroups=[legible(place, at_most=_SHOWN) for place in peer.cgroups],
            )
        )

    def turned_away(self, count: int) -> None:
        """Count connections that were not let in; ``beat`` tells of them."""
        self._turned_away += count

    def beat(self) -> None:
        """Tell what was counted since the last time."""
        count, self._turned_away = self._turned_away, 0
        if count:
            text = f"{count} connections of workloads were turned away: too many"
            self._say(Event("workload.turned-away", text, level=Level.WARNING, count=count))

    def failed(self, exc: object) -> None:
        """Tell of a defect; of one in a second at most, for workloads may know how to meet it."""
        now = time.monotonic()
        if now - self._failed_at < _FAILED_EVERY:
            return
        self._failed_at = now
        text = f"the Workload API failed: {type(exc).__name__}: {exc!a:.200}"
        self._say(Event("workload.failed", text, level=Level.ERROR))
