"""Every way in which the verifier says no over HTTP, in one table.

Specification: RFC 9457 (problem details). ``type`` is stable; ``findings`` and ``request`` are
extension members. A problem says what the client did or may do, never what went wrong inside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from bootlease.model import Finding
from bootlease.problems import Problem

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "tag:bootlease.dev,2026:problem/{}"


class ProblemKind(Problem):
    """What the verifier says no to."""

    MALFORMED = (400, "malformed", "The request is malformed")
    UNAUTHORIZED = (401, "unauthorized", "The admin credential is missing or wrong")
    FORBIDDEN = (403, "forbidden", "The credential has not the right to do this")
    UNVERIFIED = (403, "unverified-evidence", "The evidence does not verify")
    REFUSED = (403, "refused", "The node is refused")
    REVOKED = (403, "revoked", "An operator has revoked the node or its family")
    ENROLMENT_REFUSED = (403, "enrolment-refused", "The enrolment is refused")
    NOT_FOUND = (404, "not-found", "There is no such resource")
    UNKNOWN_NODE = (404, "unknown-node", "The node is not enrolled")
    UNKNOWN_ENROLMENT = (404, "unknown-enrolment", "There is no such pending enrolment")
    METHOD = (405, "method-not-allowed", "The resource does not have this method")
    TIMEOUT = (408, "too-slow", "The request took too long to arrive")
    SPENT = (409, "challenge-spent", "The challenge was used by other evidence")
    OUTDATED = (409, "challenge-outdated", "The challenge asks for less than policy does now")
    LOG_WANTED = (409, "log-wanted", "The event log must be sent in full")
    IMA_WANTED = (409, "ima-list-wanted", "The IMA list must be sent from its first entry")
    CONFLICT = (409, "conflict", "The request conflicts with what is recorded")
    LENGTH_WANTED = (411, "length-required", "The request does not say how long it is")
    TOO_LARGE = (413, "too-large", "The request is too large")
    MEDIA = (415, "unsupported-media-type", "The request's media type or encoding is not accepted")
    BUSY_CLIENT = (429, "too-many-requests", "Too many requests")
    DEFECT = (500, "internal", "The verifier failed")
    NO_HISTORY = (501, "no-history", "Nothing of earlier times is published")
    BUSY = (503, "busy", "The verifier is busy")
    UNAVAILABLE = (503, "unavailable", "The verifier cannot reach its store")

    @property
    def uri(self) -> str:
        """The problem's ``type``."""
        return _TYPE.format(self.label)


class ProblemError(Exception):
    """Ends a request with a problem document.

    Attributes:
        kind: Which problem.
        detail: One sentence for the client's operator.
        findings: Every finding, where checks were made.
        retry_after: Seconds to wait, where waiting helps.
        decision: Digest of the recorded decision, where there is one.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        findings: Sequence[Finding] = (),
        retry_after: int | None = None,
        decision: bytes | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.findings = tuple(findings)
        self.retry_after = retry_after
        self.decision = decision


def too_many(wait: int) -> ProblemError:
    """Return the problem of a client that asks too often."""
    return ProblemError(ProblemKind.BUSY_CLIENT, "Wait a moment, and ask again.", retry_after=wait)


def problem_members(error: ProblemError) -> dict[str, Any]:
    """Return the members of the problem document."""
    members: dict[str, Any] = {
        "type": error.kind.uri,
        "title": error.kind.title,
        "status": error.kind.status,
        "detail": error.detail,
    }
    if error.findings:
        members["findings"] = [finding.as_dict() for finding in error.findings]
    if error.decision is not None:
        members["decision"] = error.decision.hex()
    return members


def encode_problem(members: dict[str, Any]) -> bytes:
    """Return the document's bytes."""
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
