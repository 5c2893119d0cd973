"""Findings that several aspects of a boot share."""

from __future__ import annotations

from typing import Final

from bootlease.eventlog import Event, type_name
from bootlease.model import Effect, Finding

MAX_FINDINGS: Final = 64
"""Findings of one effect in one aspect; a log of 100,000 altered events would bury its reader."""


def keep(findings: list[Finding], finding: Finding) -> None:
    """Add a finding unless there are ``MAX_FINDINGS`` of its effect.

    Notes never crowd out what refuses.
    """
    if len(findings) < 2 * MAX_FINDINGS:
        same = sum(each.effect is finding.effect for each in findings)
        if same < MAX_FINDINGS:
            findings.append(finding)


def data_mismatch(event: Event) -> Finding:
    """Say that an event's data is not what was measured, although its type demands that."""
    return Finding(
        "boot.event.data-mismatch",
        f"event {event.number}, PCR {event.pcr}: the data of this {type_name(event.type)} event"
        " is not what was measured; somebody altered the log.",
        pcr=event.pcr,
        event=event.number,
    )


def malformed_body(event: Event, trouble: str | None) -> Finding:
    """Say that an event's data cannot be read; the event counts as a digest only."""
    return Finding(
        "boot.event.malformed-body",
        f"event {event.number}, PCR {event.pcr}: the data of this {type_name(event.type)} event"
        " cannot be read, so it says nothing.",
        Effect.NOTES,
        pcr=event.pcr,
        event=event.number,
        seen=trouble,
    )
