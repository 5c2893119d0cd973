"""What a request may cost, in one place.

Sizes are bytes, times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a window.

    Attributes:
        count: How many.
        window: Seconds.
    """

    count: int
    window: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what strangers can make the verifier do.

    Attributes:
        evidence: Longest evidence document: an event log of 8 MiB and what surrounds it.
        evidence_core: Longest evidence document without its logs; bounds what the parser builds.
        enrolment: Longest enrolment message.
        admin: Longest admin upload.
        small: Bodies up to this length are read without asking for a place.
        large_places: Longer bodies that may be in memory at once.
        body_time: From the first to the last byte of a body.
        header_time: From a connection's or request's first moment to the end of its headers.
        keep_alive: Idle time between requests.
        connections: Open connections.
        live_challenges: Challenges that were asked for and are live, per node.
        pending_enrolments: Enrolments that wait for their secret.
        enrolment_time: How long they wait.
        tracked_clients: Clients and nodes whose rates are remembered; bounds memory.
        challenges: Challenge requests, for each client and node.
        challenges_per_client: Challenge requests of one client address.
        failures: Evidence that does not verify, for each client and node.
        failures_per_client: Evidence that does not verify, of one client address.
        enrolments: Enrolment requests of one client address.
        logins: Wrong admin credentials of one client address.
    """

    evidence: int = 10 * 1024 * 1024
    evidence_core: int = 256 * 1024
    enrolment: int = 64 * 1024
    admin: int = 4 * 1024 * 1024
    small: int = 16 * 1024
    large_places: int = 4
    body_time: float = 15.0
    header_time: float = 10.0
    keep_alive: int = 75
    connections: int = 4096
    live_challenges: int = 64
    pending_enrolments: int = 4096
    enrolment_time: int = 120
    tracked_clients: int = 100_000
    challenges: Rate = field(default=Rate(30, 60))
    challenges_per_client: Rate = field(default=Rate(30_000, 60))
    failures: Rate = field(default=Rate(30, 60))
    failures_per_client: Rate = field(default=Rate(600, 60))
    enrolments: Rate = field(default=Rate(1_200, 60))
    logins: Rate = field(default=Rate(60, 60))


DEFAULT_LIMITS = Limits()
