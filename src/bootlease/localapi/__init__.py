"""Messages of the Workload API: how workloads and the agent of their node speak to each other.

Bytes to values and back, without I/O; docs/workload-api.md has the wire. The server is
``bootlease.node.workloads``, the client ``bootlease.workload``.
"""

from bootlease.localapi.events import (
    Alive,
    Denied,
    Ended,
    EndedReason,
    Event,
    Granted,
    Unreached,
    encode_event,
    parse_event,
)
from bootlease.localapi.findings import Problem, parse_problem
from bootlease.localapi.lines import EventLines
from bootlease.localapi.requests import (
    HANDLE_BYTES,
    ConfirmationChoice,
    LeaseAsk,
    ProofAsk,
    is_handle,
    parse_lease_ask,
    parse_proof_ask,
)
from bootlease.localapi.response import ResponseReader

__all__ = [
    "HANDLE_BYTES",
    "Alive",
    "ConfirmationChoice",
    "Denied",
    "Ended",
    "EndedReason",
    "Event",
    "EventLines",
    "Granted",
    "LeaseAsk",
    "Problem",
    "ProofAsk",
    "ResponseReader",
    "Unreached",
    "encode_event",
    "is_handle",
    "parse_event",
    "parse_lease_ask",
    "parse_problem",
    "parse_proof_ask",
]
