"""Findings and problem documents (RFC 9457) on the Workload API.

An answer with an error is one also where its document cannot be read, so ``parse_problem`` then
returns what little is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.findings import MAX_TEXT, parse_findings
from bootlease.localapi.wire import MAX_ANSWER
from bootlease.model import Finding, legible
from bootlease.token import strictjson

MAX_FINDINGS: Final = 64
_SENT: Final = 32
_SENT_TEXT: Final = {"id": 128, "message": 512, "expected": 256, "seen": 256}
"""Findings that are sent, and characters of each: together always less than ``MAX_ANSWER``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the agent did not do what it was asked.

    Attributes:
        text: Title and detail in one line.
        findings: What its checks found.
    """

    text: str
    findings: tuple[Finding, ...] = ()


def parse_problem(data: bytes) -> Problem:
    """Read a problem document, as far as it is one."""
    if len(data) > MAX_ANSWER:
        return Problem("no reason given")
    try:
        members = strictjson.parse_object(data)
        found = parse_findings(members.get("findings", []), at_most=MAX_FINDINGS)
    except MalformedError:
        return Problem("no reason given")
    said = [
        legible(value, at_most=MAX_TEXT)
        for value in (members.get("title"), members.get("detail"))
        if type(value) is str
    ]
    return Problem(": ".join(filter(None, said)) or "no reason given", found)


def wire_findings(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    """Return the wire form of findings, cut to what a client reads.

    However much a verifier found, a workload hears that its lease is over.
    """
    return [
        {
            name: legible(value, at_most=_SENT_TEXT[name]) if name in _SENT_TEXT else value
            for name, value in finding.as_dict().items()
        }
        for finding in findings[:_SENT]
    ]
