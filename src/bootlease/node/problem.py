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
from bootlease.model import Effect, Finding
from bootlease.token import strictjson

PROBLEM_TYPE: Final = "application/problem+json"
MAX_PROBLEM: Final = 256 * 1024
MAX_FINDINGS: Final = 256
_MAX_ID: Final = 128
_MAX_TEXT: Final = 2048
_MAX_NUMBER: Final = 1 << 32
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
        findings = members.get("findings", [])
        if type(findings) is not list or len(findings) > MAX_FINDINGS:
            return None
        parsed = tuple(_finding(finding) for finding in findings)
        decision = _digest(members["decision"]) if "decision" in members else None
    except MalformedError:
        return None
    said = [_line(members.get(name)) for name in ("title", "detail")]
    return Problem(": ".join(filter(None, said)) or "no reason given", parsed, decision)


def printable(text: str) -> str:
    """Return ``text`` in one line without control characters: it is not ours to trust."""
    return "".join(character if character.isprintable() else " " for character in text)


def _digest(value: Any) -> str:  # noqa: ANN401 - unverified JSON
    if type(value) is not str or not _DIGEST.fullmatch(value):
        raise MalformedError("a problem's decision is not a SHA-256 digest in hex")
    return value


def _line(value: Any) -> str:  # noqa: ANN401 - unverified JSON
    return printable(value[:_MAX_TEXT]) if type(value) is str else ""


def _finding(value: Any) -> Finding:  # noqa: ANN401 - unverified JSON
    if type(value) is not dict:
        raise MalformedError("a finding is not an object")
    try:
        effect = Effect(value.get("effect"))
    except ValueError as exc:
        raise MalformedError("a finding has an unknown effect") from exc
    return Finding(
        id=_text(value, "id", _MAX_ID),
        message=_text(value, "message", _MAX_TEXT),
        effect=effect,
        pcr=_number(value, "pcr"),
        event=_number(value, "event"),
        expected=_text(value, "expected", _MAX_TEXT) if "expected" in value else None,
        seen=_text(value, "seen", _MAX_TEXT) if "seen" in value else None,
    )


def _text(finding: dict[str, Any], name: str, at_most: int) -> str:
    value = finding.get(name)
    if type(value) is not str or len(value) > at_most:
        raise MalformedError(f"a finding's {name} is not text of at most {at_most} characters")
    return printable(value)


def _number(finding: dict[str, Any], name: str) -> int | None:
    value = finding.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < _MAX_NUMBER):
        raise MalformedError(f"a finding's {name} is not a number")
    return value
