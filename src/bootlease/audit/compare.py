"""A decision as recorded, beside the same decision made again: where they differ.

A later version may say a finding in better words and decides the same: what a finding is, is all of
it but its sentence (docs/adr/0010-replay-across-versions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bootlease.appraisal import AttestationResult, CodeIdentity
from bootlease.ledger import DecisionRecord
from bootlease.model import Effect, Finding
from bootlease.token import ExecutionClaims


def other_verdict(record: DecisionRecord, result: AttestationResult) -> Finding:
    """Return the finding for another verdict than the one recorded."""
    return Finding(
        "replay.record.differs",
        "Made again, the decision has another outcome than the one recorded.",
        expected=_outcome(len(record.leases), record.findings),
        seen=_outcome(len(result.leases), result.findings),
    )


def _outcome(leases: int, findings: Sequence[Finding]) -> str:
    ids = ", ".join(finding.id for finding in findings)
    verdict = f"granted {leases}" if leases else "refused"
    return f"{verdict}: {ids}" if ids else verdict


_COMPARED: Final = tuple(
    name for name in DecisionRecord.__dataclass_fields__ if name not in {"encoded", "digest"}
)


def in_recorded_words(
    record: DecisionRecord, again: DecisionRecord, code: CodeIdentity | None
) -> tuple[DecisionRecord, tuple[Finding, ...]]:
    """Return the record made now in the sentences of the program that decided, and a note of it.

    Where that program is the one that runs, its sentences are the same or somebody altered them;
    then, and where more than sentences differ, the record is returned as it is.

    Args:
        record: As recorded.
        again: As made now.
        code: The program that runs; ``None`` where it is not known, and may be another.
    """
    same_program = code is not None and code.digest == record.code
    if same_program or again.findings == record.findings or _unsaid(again) != _unsaid(record):
        return again, ()
    reworded = [
        one.id for one, other in zip(record.findings, again.findings, strict=True) if one != other
    ]
    note = Finding(
        "replay.wording-differs",
        "The program that replays says the same findings in other words.",
        effect=Effect.NOTES,
        seen=", ".join(dict.fromkeys(reworded)),
    )
    return replace(again, findings=record.findings), (note,)


def _unsaid(record: DecisionRecord) -> list[Finding]:
    return [replace(finding, message="") for finding in record.findings]


def compare_records(record: DecisionRecord, again: DecisionRecord) -> tuple[Finding, ...]:
    """Return the finding for a record that is not the one made now, if it is not."""
    if again.encoded == record.encoded:
        return ()
    members = [name for name in _COMPARED if getattr(record, name) != getattr(again, name)]
    return (
        Finding(
            "replay.record.differs",
            f"Made again, the decision's record differs in {', '.join(members) or 'its bytes'}.",
            expected=record.digest.hex(),
            seen=again.digest.hex(),
        ),
    )


def compare_claims(
    recorded: Sequence[bytes], made: Sequence[ExecutionClaims]
) -> tuple[Finding, ...]:
    """Return the finding for leases whose claims are not those made now."""
    digests = [claims.digest for claims in made]
    if digests == list(recorded):
        return ()
    return (
        Finding(
            "replay.claims.differs",
            "Made again, the leases' claims are not those that were recorded.",
            expected=_joined(recorded),
            seen=_joined(digests),
        ),
    )


def _joined(digests: Sequence[bytes]) -> str:
    return ", ".join(digest.hex() for digest in digests) or "none"
