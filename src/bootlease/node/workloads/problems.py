"""Every way in which the agent says no to a workload, in one table.

Specification: RFC 9457 (problem details), as the verifier has it. A problem says what the workload
did or may do; never what another workload does, nor what went wrong inside.
"""

from __future__ import annotations

from typing import Final

from bootlease.localapi.findings import wire_findings
from bootlease.model import Finding
from bootlease.node.workloads.peers import Peer
from bootlease.problems import Problem
from bootlease.token import strictjson

_TYPE: Final = "tag:bootlease.dev,2026:problem/workload-{}"


class ProblemKind(Problem):
    """What the agent says no to."""

    MALFORMED = (400, "malformed", "The request is malformed")
    NOT_PERMITTED = (403, "not-permitted", "No rule permits this")
    NOT_FOUND = (404, "not-found", "There is no such resource")
    UNKNOWN_LEASE = (404, "unknown-lease", "There is no such lease")
    METHOD = (405, "method-not-allowed", "The resource does not have this method")
    TIMEOUT = (408, "too-slow", "The request took too long to arrive")
    IN_USE = (409, "in-use", "The handle is in use")
    NO_LEASE = (409, "no-lease", "The lease does not stand now")
    OWN_KEY = (409, "own-key", "The agent does not have the lease's key")
    LENGTH_WANTED = (411, "length-required", "The request does not say how long it is")
    TOO_LARGE = (413, "too-large", "The request is too large")
    MEDIA = (415, "unsupported-media-type", "The request's media type is not accepted")
    TOO_MANY = (429, "too-many", "Too much is asked at once")
    UNAVAILABLE = (503, "unavailable", "The agent cannot do this now")


class ProblemError(Exception):
    """Ends a request with a problem document.

    Attributes:
        kind: Which problem.
        findings: Why, at least one.
        retry_after: Seconds to wait, where waiting helps.
    """

    def __init__(
        self, kind: ProblemKind, *findings: Finding, retry_after: int | None = None
    ) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.kind = kind
        self.findings = findings
        self.retry_after = retry_after

    def encode(self) -> bytes:
        """Return the problem document."""
        return strictjson.serialise(
            {
                "type": _TYPE.format(self.kind.label),
                "title": self.kind.title,
                "status": self.kind.status,
                "detail": str(self),
                "findings": wire_findings(self.findings),
            }
        )


def malformed(why: str) -> ProblemError:
    """Return the problem of a request that is none."""
    return ProblemError(
        ProblemKind.MALFORMED,
        Finding("workload.request.malformed", f"The request is malformed: {why}."),
    )


def peer_gone() -> ProblemError:
    """Return the problem of a process that ended before the agent had looked at it."""
    return ProblemError(
        ProblemKind.NOT_PERMITTED,
        Finding(
            "workload.peer.gone",
            "The process that opened the connection has ended, or cannot be seen from here.",
        ),
    )


def nobody(peer: Peer) -> ProblemError:
    """Return the problem of a process that no rule speaks of; it is told what was seen of it."""
    return ProblemError(
        ProblemKind.NOT_PERMITTED,
        Finding(
            "workload.peer.not-permitted", f"No rule of the agent speaks of this process: {peer}."
        ),
    )


def busy(message: str, *, retry_after: int = 1) -> ProblemError:
    """Return the problem of a bound that is reached."""
    return ProblemError(
        ProblemKind.TOO_MANY, Finding("workload.agent.busy", message), retry_after=retry_after
    )


def unknown_lease() -> ProblemError:
    """Return the problem of a handle that names no lease of this process.

    One answer for a handle that nobody has and for one that is another's: it tells nothing.
    """
    return ProblemError(
        ProblemKind.UNKNOWN_LEASE,
        Finding("workload.lease.unknown", "No lease with this handle is open to this process."),
    )


def in_use() -> ProblemError:
    """Return the problem of a handle by which a lease is open."""
    return ProblemError(
        ProblemKind.IN_USE,
        Finding("workload.handle.in-use", "A stream with this handle is open already."),
        retry_after=1,
    )


def too_long(rule: str) -> ProblemError:
    """Return the problem of a lease for which its rule has no bytes of the evidence left."""
    return ProblemError(
        ProblemKind.TOO_MANY,
        Finding(
            "workload.leases.too-long",
            f"The leases of rule {rule} would take the room of other rules' leases: ask for fewer"
            " or shorter scope names.",
        ),
        retry_after=5,
    )


def no_such_key() -> ProblemError:
    """Return the problem of a kind of confirmation key that a rule permits, and no agent makes."""
    return ProblemError(
        ProblemKind.UNAVAILABLE,
        Finding("workload.confirmation.unavailable", "This agent makes no such key."),
    )
