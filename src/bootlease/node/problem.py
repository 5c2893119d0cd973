"""Problem documents: why a verifier refused.

Specification: RFC 9457 (application/problem+json), with the members ``findings``, a list of
``Finding.as_dict()``, and ``decision``, the hex digest under which a refusal is recorded. Members
that are not known are ignored, as RFC 9457 §3.2 demands; one that is known and has another form
makes the document say nothing rather than half.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.findings import MAX_TEXT, parse_findings
from bootlease.model import Finding, legible
from bootlease.token import strictjson

PROBLEM_TYPE: Final = "application/problem+json"
MAX_PROBLEM: Final = 256 * 1024
MAX_FINDINGS: Final = 256
_DIGEST: Final = re.compile("[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a problem document says: the verifier's word, unsigned.

    Attributes:
        text: Title and detail in one line, fit for a terminal.
        findings: Every finding that it lists.
        decision: Under what digest the verifier recorded its decision, if it did.
    """

    text: str
    findings: tuple[Finding, ...]
    decision: str | None = None


def parse_problem(data: bytes) -> Problem | None:
    """Read a problem document; None where the bytes are none.

    An error answer that cannot be read is still an error answer, so this raises nothing.
    """
    if len(data) > MAX_PROBLEM:
        return None
    try:
        members = strictjson.parse_object(data)
        findings = parse_findings(members.get("findings", []), at_most=MAX_FINDINGS)
        decision = _digest(members["decision"]) if "decision" in members else None
    except MalformedError:
        return None
    said = [_line(members.get(name)) for name in ("title", "detail")]
    return Problem(": ".join(filter(None, said)) or "no reason given", findings, decision)


def _digest(value: Any) -> str:  # noqa: ANN401 - unverified JSON
    if type(value) is not str or not _DIGEST.fullmatch(value):
        raise MalformedError("a problem's decision is not a SHA-256 digest in hex")
    return value


def _line(value: Any) -> str:  # noqa: ANN401 - unverified JSON
    return legible(value, at_most=MAX_TEXT) if type(value) is str else ""
