"""How much of the agent a workload may have: every bound of the Workload API's server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds.

    Attributes:
        connections: Open at once, of everybody.
        per_uid: Open at once, of one user.
        strangers: Open at once, of processes that no rule speaks of.
        strangers_per_uid: The same, of one user.
        rate: Connections a second that one user may open, over some time.
        burst: How many it may open at once after it was quiet.
        lease_rate: Leases a second that may be opened under one rule, over some time: each may make
            the agent attest out of turn.
        lease_burst: How many at once after it was quiet.
        request_seconds: A request's time to arrive.
        answer_seconds: An answer's time to be read.
        unread: Bytes that a stream may leave unread in the agent, beyond what the kernel holds.
        accepts: Connections taken at one turn of the loop, before all others have theirs.
        pause: Seconds without taking connections after a turn that was spent on too many.
    """

    connections: int = 1024
    per_uid: int = 320
    strangers: int = 64
    strangers_per_uid: int = 4
    rate: float = 400.0
    burst: float = 800.0
    lease_rate: float = 4.0
    lease_burst: float = 256.0
    request_seconds: float = 5.0
    answer_seconds: float = 5.0
    unread: int = 64 * 1024
    accepts: int = 16
    pause: float = 0.002


DEFAULT_LIMITS: Final = Limits()
FDS_PER_CONNECTION: Final = 2
"""The socket, and the descriptor that tells when its process ends."""
FDS_APART: Final = 128
"""File descriptors that the agent needs for everything else."""
