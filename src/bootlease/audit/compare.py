"""A decision as recorded, beside the same decision made again: where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bootlease.appraisal import AttestationResult
from bootlease.ledger import DecisionRecord
from bootlease.model import Finding
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
