"""A lease that was asked for as optional, and denied while others were granted.

Layout: docs/protocol.md, "Lease answer". What a verifier says of it is its word over TLS, under no
signature; the record of the decision says the same, and that the ledger holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.evidence.fields import Fields
from bootlease.evidence.request import MAX_LEASES
from bootlease.model import PCR_COUNT, Effect, Finding, legible

MAX_REASONS: Final = 4
"""Findings that are given for one denied lease: one is enough to deny it."""

_MAX_ID: Final = 128
_MAX_TEXT: Final = 2048
_MAX_NUMBER: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class DeniedLease:
    """One lease that was left out.

    Attributes:
        index: Its place among the leases asked for, from 0.
        findings: Why: one at least, each a note, for it refuses nothing but this lease.
    """

    index: int
    findings: tuple[Finding, ...]

    def wire(self) -> list[Any]:
        """Return the wire form."""
        return [self.index, [finding.as_dict() for finding in self.findings]]


def parse_denied(values: Sequence[Any]) -> tuple[DeniedLease, ...]:
    """Read what a verifier says of the leases that it left out.

    Raises:
        MalformedError: It is of another form, or not in the order of the leases asked for.
    """
    denied = tuple(map(_parse_one, values))
    places = [each.index for each in denied]
    if sorted(set(places)) != places:
        raise MalformedError("lease answer names denied leases in no order, or one twice")
    return denied


def _parse_one(value: object) -> DeniedLease:
    if not isinstance(value, list | tuple) or len(value) != 2:  # noqa: PLR2004 - a pair
        raise MalformedError("denied lease is not a number and findings")
    index, findings = value
    if type(index) is not int or not 0 <= index < MAX_LEASES:
        raise MalformedError("denied lease has an impossible number")
    if not isinstance(findings, list | tuple) or not 0 < len(findings) <= MAX_REASONS:
        raise MalformedError(f"denied lease needs 1 to {MAX_REASONS} findings")
    return DeniedLease(index, tuple(map(_parse_finding, findings)))


def _parse_finding(value: object) -> Finding:
    fields = Fields(value, "finding of a denied lease")
    if fields.text("effect", at_most=_MAX_ID) != Effect.NOTES.value:
        raise MalformedError("finding of a denied lease refuses more than that lease")
    return Finding(
        id=legible(fields.text("id", at_most=_MAX_ID), at_most=_MAX_ID),
        message=legible(fields.text("message", at_most=_MAX_TEXT), at_most=_MAX_TEXT),
        effect=Effect.NOTES,
        pcr=fields.unsigned("pcr", at_most=PCR_COUNT - 1) if fields.has("pcr") else None,
        event=fields.unsigned("event", at_most=_MAX_NUMBER) if fields.has("event") else None,
        expected=_text(fields, "expected"),
        seen=_text(fields, "seen"),
    )


def _text(fields: Fields, name: str) -> str | None:
    if not fields.has(name):
        return None
    return legible(fields.text(name, at_most=_MAX_TEXT), at_most=_MAX_TEXT)
