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
        evidence_ima: The same where the policy looks at IMA: a list of 24 MiB besides.
        evidence_core: Longest evidence document without its logs; bounds what the parser builds.
            64 leases on certified keys, with the signatures of an RSA AK, are some 55 kB.
        evidence_core_per_lease: The same for each lease, where policy grants more of them at once.
        enrolment: Longest enrolment message.
        admin: Longest admin upload but those of reference sets.
        reference: Longest reference set; one of 250,000 files has this length.
        small: Bodies up to this length are read without a share of any budget.
        ordinary: Bodies up to this length, full evidence among them, share one budget; what is
            longer competes with its like.
        ordinary_bytes: What of such bodies may be in memory at once.
        huge_bytes: What of longer ones, beyond ``ordinary``, may be in memory at once.
        admin_bytes: What of admin uploads may be in memory at once.
        ordinary_per_client: Bodies longer than ``small`` of one client at once.
        huge_per_client: Bodies longer than ``ordinary`` of one client at once.
        body_time: From the first to the last byte of a body.
        header_time: From a connection's or request's first moment to the end of its headers.
        keep_alive: Idle time between requests.
        keep_alive_crowded: The same where half of the connections are taken.
        connections: Open connections.
        connections_per_client: Open connections of one client address.
        live_challenges: Challenges that were asked for and are live, per node.
        challenge_time: How long a challenge that was asked for waits for its answer.
        pending_enrolments: Enrolments that wait for their secret.
        enrolment_time: How long they wait.
        tracked_clients: Clients and nodes whose rates are remembered; bounds memory.
        challenges: Challenge requests, for each client and node.
        challenges_per_client: Challenge requests of one client address.
        failures: Evidence that does not verify, for each client and node.
        failures_per_client: Evidence that does not verify, of one client address.
        own_failures: Evidence that does not verify though it names a challenge that only its node
            can know, for each client and node.
        slow_bodies: Bodies of one client that did not arrive in time, before it has to do without
            those longer than ``ordinary``.
        refusals: Decisions against one node.
        grants_per_life: Grants to one node within the life of a lease.
        unknown_nodes: Requests of one client address in the name of nodes that are not enrolled.
        enrolments: Enrolment requests of one client address.
        enrolments_per_node: Enrolments of one node.
        logins: Wrong admin credentials of one client address.
        ledger: Requests of one client address for what the ledger publishes. A monitor that catches
            up asks for 256 entries at a time.
        exchange: Longest token exchange: a token of 16 kB as text, a grant, and what names them.
        exchanges: Token exchanges of one client address.
        delegations_per_life: Leases delegated from those of one node within the life of a lease.
        used_proofs: Proofs of possession that are remembered so that none is used twice.
        verifications: Verification events that the receiver of one stream asks for.
        continuity: For how long a continuity statement is believed before a policy says so.
        statements: Requests of one client address for what is published of leases.
        listeners: Streams of continuity statements at once.
        listeners_per_client: Those of one client address.
        listener_time: How long a listener may take for one statement before it is dropped.
    """

    evidence: int = 10 * 1024 * 1024
    evidence_ima: int = 34 * 1024 * 1024
    evidence_core: int = 64 * 1024
    evidence_core_per_lease: int = 1024
    enrolment: int = 64 * 1024
    admin: int = 4 * 1024 * 1024
    reference: int = 32 * 1024 * 1024
    small: int = 16 * 1024
    ordinary: int = 256 * 1024
    ordinary_bytes: int = 16 * 1024 * 1024
    huge_bytes: int = 48 * 1024 * 1024
    admin_bytes: int = 48 * 1024 * 1024
    ordinary_per_client: int = 4
    huge_per_client: int = 2
    body_time: float = 15.0
    header_time: float = 10.0
    keep_alive: int = 75
    keep_alive_crowded: int = 15
    connections: int = 4096
    connections_per_client: int = 256
    live_challenges: int = 64
    challenge_time: int = 60
    pending_enrolments: int = 4096
    enrolment_time: int = 120
    tracked_clients: int = 100_000
    challenges: Rate = field(default=Rate(6, 60))
    challenges_per_client: Rate = field(default=Rate(30_000, 60))
    failures: Rate = field(default=Rate(30, 60))
    failures_per_client: Rate = field(default=Rate(600, 60))
    own_failures: Rate = field(default=Rate(300, 60))
    slow_bodies: Rate = field(default=Rate(2, 60))
    refusals: Rate = field(default=Rate(30, 60))
    grants_per_life: int = 32
    unknown_nodes: Rate = field(default=Rate(600, 60))
    enrolments: Rate = field(default=Rate(1_200, 60))
    enrolments_per_node: Rate = field(default=Rate(5, 60))
    logins: Rate = field(default=Rate(60, 60))
    ledger: Rate = field(default=Rate(1_000, 2))
    exchange: int = 64 * 1024
    exchanges: Rate = field(default=Rate(600, 60))
    delegations_per_life: int = 256
    used_proofs: int = 100_000
    verifications: Rate = field(default=Rate(30, 60))
    continuity: int = 15
    statements: Rate = field(default=Rate(1_000, 10))
    listeners: int = 1024
    listeners_per_client: int = 32
    listener_time: float = 5.0


DEFAULT_LIMITS = Limits()
