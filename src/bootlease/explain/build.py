"""Making an explanation of what an appraisal was given and came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootlease.appraisal import AttestationResult, BootLog
from bootlease.appraisal.ima import accepted_ima
from bootlease.eventlog import ReplayedLog
from bootlease.evidence import VerifiedEvidence
from bootlease.explain.advice import Case, Names, advise
from bootlease.explain.boot import Boot
from bootlease.explain.timeline import Compared, compare, nearest, timeline
from bootlease.explain.values import DecisionFacts, Explanation, History, PCRTimeline
from bootlease.model import Finding
from bootlease.policy import Policy
from bootlease.reference import IMAReferenceSet, ReferenceSet


@dataclass(frozen=True, slots=True)
class Appraised:
    """What an appraisal was given, and what it came to.

    Attributes:
        evidence: Verified evidence.
        log: Its boot log; None where it is not at hand.
        policy: The policy.
        references: The registered reference sets.
        ima_references: The registered IMA sets.
        now: Seconds since the epoch at which it was appraised.
        result: What it came to.
    """

    evidence: VerifiedEvidence
    log: BootLog | None
    policy: Policy
    references: Sequence[ReferenceSet]
    ima_references: Sequence[IMAReferenceSet]
    now: int
    result: AttestationResult

    def boot(self) -> Boot | None:
        """Return the boot; None where there is no log that parses."""
        if self.log is None or not isinstance(self.log.content, ReplayedLog):
            return None
        return Boot.of(self.log.content, self.evidence.quote.pcrs, self.policy)


def explain(
    appraised: Appraised,
    names: Names,
    *,
    boot: Boot | None = None,
    decision: DecisionFacts | None = None,
    history: History | None = None,
    notes: tuple[Finding, ...] = (),
) -> Explanation:
    """Explain an appraisal.

    Args:
        appraised: The appraisal.
        names: What commands call things.
        boot: What ``appraised.boot()`` returned, where it was asked before.
        decision: The decision, where it was recorded.
        history: What came before it.
        notes: What to say besides.
    """
    boot = boot or appraised.boot()
    accepted = [each for each in appraised.references if each.name in appraised.policy.accept]
    compared: Compared | None = None
    shown: tuple[PCRTimeline, ...] = ()
    if boot is not None:
        compared = compare(boot, accepted, appraised.now)
    if boot is not None and compared is not None:
        shown = timeline(boot, compared, appraised.result.findings)
    listed = appraised.evidence.ima_list()
    advice = advise(
        Case(
            appraised.result.findings,
            appraised.policy,
            accepted,
            accepted_ima(appraised.ima_references, appraised.policy),
            names,
            boot,
            compared,
            shown,
            has_list=bool(listed),
        )
    )
    return Explanation(
        accepted=appraised.result.accepted,
        findings=appraised.result.findings,
        decision=decision,
        history=history,
        nearest=None if compared is None else nearest(compared, shown),
        timeline=shown,
        advice=advice,
        notes=notes,
    )
