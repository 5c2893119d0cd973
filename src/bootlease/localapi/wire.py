"""What both sides of the Workload API must write alike: paths, header names, bounds."""

from __future__ import annotations

from typing import Final

SOCKET: Final = "/run/bootlease/workload.sock"
"""Where an agent listens unless told otherwise."""
SOCKET_VARIABLE: Final = "BOOTLEASE_WORKLOAD_SOCKET"
LEASE_VARIABLE: Final = "BOOTLEASE_LEASE"
"""Environment variables of a workload: the socket, and the handle of its lease."""

LEASES: Final = "/v1/leases"
CURRENT: Final = "/v1/leases/current"
EVENTS: Final = "/v1/leases/events"
PROOFS: Final = "/v1/proofs"
INFO: Final = "/v1/info"

GUARD_HEADER: Final = "Bootlease-Workload"
"""Every request has it, with the value ``true``. Who can only make a program fetch a URL (SSRF)
cannot add a header of his own."""
LEASE_HEADER: Final = "Bootlease-Lease"
"""The handle of a lease."""

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
PROBLEM: Final = "application/problem+json"

MAX_HEAD: Final = 8 * 1024
"""Bytes of a request's or an answer's first line and headers."""
MAX_BODY: Final = 16 * 1024
"""Bytes of a request's body."""
MAX_ANSWER: Final = 256 * 1024
"""Bytes of an answer's body, and of one event."""

ALIVE_EVERY: Final = 5.0
"""Seconds between two signs of life on a stream that has nothing else to say."""
SILENT_AFTER: Final = 15.0
"""Seconds of silence after which a client takes the agent for dead."""
