"""What an explanation says, in a form for programs and for people.

Text of a log is escaped before it gets here: whatever is shown, an attacker may have written.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bootlease.model import Finding, refusals


class Status(enum.Enum):
    """What became of one event."""

    APPROVED = "approved"
    """The nearest reference has it, or its rules or the PCR's value cover it."""
    UNKNOWN = "unknown"
    """Attested, and the nearest reference does not have it."""
    REFUSED = "refused"
    """A rule speaks against it."""
    UNATTESTED = "unattested"
    """Nothing proves that it happened."""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event of a log.

    Attributes:
        number: Its number.
        type: Its type by name.
        digest: Its digest in the bank that is explained.
        text: What it says of itself.
        status: What became of it.
        findings: Ids of what refuses it.
    """

    number: int
    type: str
    digest: bytes
    text: str
    status: Status
    findings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "number": self.number,
            "type": self.type,
            "digest": self.digest.hex(),
            "text": self.text,
            "status": self.status.value,
            "findings": list(self.findings),
        }


@dataclass(frozen=True, slots=True)
class PCRTimeline:
    """What was measured into one PCR, in order. Of two PCRs, no quote says which came first.

    Attributes:
        pcr: The PCR.
        holds: What firmware and boot loaders measure there.
        attested: The log leads to the quoted value.
        why: Why it is not attested.
        events: Its events, in order.
        left_out: Events beyond those.
        missing: What the nearest reference expects and nobody measured.
        counts: How many events have each status, those left out too.
    """

    pcr: int
    holds: str
    attested: bool
    why: str | None
    events: tuple[TimelineEvent, ...]
    left_out: int
    missing: tuple[str, ...]
    counts: Mapping[Status, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "pcr": self.pcr,
            "holds": self.holds,
            "attested": self.attested,
            "why": self.why,
            "counts": {status.value: count for status, count in self.counts.items()},
            "events": [event.as_dict() for event in self.events],
            "left_out": self.left_out,
            "missing": list(self.missing),
        }


@dataclass(frozen=True, slots=True)
class Nearest:
    """The reference set that a boot is nearest to.

    Attributes:
        name: Its name.
        version: Its version.
        digest: Its digest.
        matches: The boot is what it describes.
        known: Events that it has, of those in the PCRs that policy demands.
        measured: Events there.
        missing: Events that it expects and nobody measured.
        misses: Findings that keep the boot from matching.
        others: Name, version and misses of the other accepted sets.
    """

    name: str
    version: str
    digest: bytes
    matches: bool
    known: int
    measured: int
    missing: int
    misses: int
    others: tuple[tuple[str, int], ...]

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest.hex(),
            "matches": self.matches,
            "known": self.known,
            "measured": self.measured,
            "missing": self.missing,
            "misses": self.misses,
            "others": [{"reference": label, "misses": misses} for label, misses in self.others],
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs between two boots.

    Attributes:
        what: What it is about.
        before: As it was, if it was there.
        after: As it is, if it is there.
        pcr: The PCR it was measured into, if it is about one.
        event: Number of the event in the later log, if it is about one.
    """

    what: str
    before: str | None
    after: str | None
    pcr: int | None = None
    event: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, absent members left out."""
        full = {
            "what": self.what,
            "pcr": self.pcr,
            "event": self.event,
            "before": self.before,
            "after": self.after,
        }
        return {key: value for key, value in full.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two boots.

    Attributes:
        meaning: What the boot means now that it did not before.
        events: What was measured.
        pcrs: PCRs whose quoted values differ.
    """

    meaning: tuple[Change, ...]
    events: tuple[Change, ...]
    pcrs: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "meaning": [each.as_dict() for each in self.meaning],
            "events": [each.as_dict() for each in self.events],
            "pcrs": list(self.pcrs),
        }


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """What a record says of its decision.

    Attributes:
        digest: Digest of the record.
        node: Node id.
        time: Seconds since the epoch.
        policy: Name and epoch of the policy.
        reset_count: The TPM's resetCount: names the boot; None where it is not known any more.
    """

    digest: bytes
    node: bytes
    time: int
    policy: str
    reset_count: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "decision": self.digest.hex(),
            "node": self.node.hex(),
            "time": self.time,
            "policy": self.policy,
            "reset_count": self.reset_count,
        }


@dataclass(frozen=True, slots=True)
class History:
    """What was decided about the node before.

    Attributes:
        good: The last decision that granted; None where there was none.
        same_boot: It was about the same boot.
        refused_since: Time of the first refusal after it.
        refusals: Refusals after it, this one included.
        changes: What differs from it; None where its evidence is not kept any more.
    """

    good: DecisionFacts | None
    same_boot: bool
    refused_since: int | None
    refusals: int
    changes: Changes | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "last_good": None if self.good is None else self.good.as_dict(),
            "same_boot": self.same_boot,
            "refused_since": self.refused_since,
            "refusals": self.refusals,
            "changes": None if self.changes is None else self.changes.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """What an operator can do.

    Attributes:
        remedies: What puts the node right again, and what no approval can.
        approvals: What would have to be approved, in words: ``+`` what a new reference has, ``-``
            what it has not, ``~`` what else it must let pass.
        caveats: What to know before approving.
        commands: How, as command lines of ``bootlease``, in order.
    """

    remedies: tuple[str, ...]
    approvals: tuple[str, ...]
    caveats: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "remedies": list(self.remedies),
            "approvals": list(self.approvals),
            "caveats": list(self.caveats),
            "commands": [list(command) for command in self.commands],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a boot was accepted or refused, and what can be done.

    Attributes:
        accepted: The verdict.
        findings: Everything that was found.
        decision: The decision, where it was recorded.
        history: What came before it, where decisions were recorded.
        nearest: The nearest reference, where there is one to compare with.
        timeline: What was measured, by PCR; empty where there is no log to read.
        advice: What to do.
        notes: What this explanation lacks, and why.
    """

    accepted: bool
    findings: tuple[Finding, ...]
    decision: DecisionFacts | None
    history: History | None
    nearest: Nearest | None
    timeline: tuple[PCRTimeline, ...]
    advice: Advice
    notes: tuple[Finding, ...] = ()

    @property
    def refusing(self) -> tuple[Finding, ...]:
        """What refuses."""
        return refusals(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "verdict": "accepted" if self.accepted else "refused",
            "decision": None if self.decision is None else self.decision.as_dict(),
            "findings": [finding.as_dict() for finding in self.findings],
            "history": None if self.history is None else self.history.as_dict(),
            "nearest_reference": None if self.nearest is None else self.nearest.as_dict(),
            "timeline": [each.as_dict() for each in self.timeline],
            "advice": self.advice.as_dict(),
            "notes": [note.as_dict() for note in self.notes],
        }
