"""Findings in JSON that somebody else wrote: in problem documents (RFC 9457) and events.

What is written is ``Finding.as_dict()``. A finding tells people what to do, so one that is known in
part only is no finding; members that are not known are ignored.
"""

from __future__ import annotations

from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.model import Effect, Finding, legible

MAX_TEXT: Final = 2048
"""Characters of a finding's texts, and of a problem's title and detail."""
_MAX_ID: Final = 128
_MAX_NUMBER: Final = 1 << 32


def parse_findings(value: object, *, at_most: int) -> tuple[Finding, ...]:
    """Read a list of ``Finding.as_dict()``.

    Args:
        value: Unverified JSON.
        at_most: How many there may be.

    Returns:
        The findings, unverified; their texts are fit for a terminal.

    Raises:
        MalformedError: It is none.
    """
    if type(value) is not list or len(value) > at_most:
        raise MalformedError(f"findings are not a list of at most {at_most}")
    return tuple(_finding(finding) for finding in value)


def _finding(value: Any) -> Finding:  # noqa: ANN401 - unverified JSON
    if type(value) is not dict:
        raise MalformedError("a finding is not an object")
    try:
        effect = Effect(value.get("effect"))
    except ValueError as exc:
        raise MalformedError("a finding has an unknown effect") from exc
    return Finding(
        id=_text(value, "id", _MAX_ID),
        message=_text(value, "message", MAX_TEXT),
        effect=effect,
        pcr=_number(value, "pcr"),
        event=_number(value, "event"),
        expected=_text(value, "expected", MAX_TEXT) if "expected" in value else None,
        seen=_text(value, "seen", MAX_TEXT) if "seen" in value else None,
    )


def _text(finding: dict[str, Any], name: str, at_most: int) -> str:
    value = finding.get(name)
    if type(value) is not str or len(value) > at_most:
        raise MalformedError(f"a finding's {name} is not text of at most {at_most} characters")
    return legible(value, at_most=at_most)


def _number(finding: dict[str, Any], name: str) -> int | None:
    value = finding.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < _MAX_NUMBER):
        raise MalformedError(f"a finding's {name} is not a number")
    return value
