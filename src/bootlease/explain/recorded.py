"""Explaining a recorded decision: made again from what was recorded, beside the last good one.

The decision is made again as for ``bootlease replay``; what that finds different is told. Where its
evidence is not kept any more, the recorded findings are all there is to explain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from bootlease.appraisal import CodeIdentity, read_boot_log
from bootlease.audit import DecisionInputs, Replayed, Replayer
from bootlease.audit.build import Recorded
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import IMA_LIST, TCG_LOG
from bootlease.explain.advice import Names, remedies_of
from bootlease.explain.boot import Boot
from bootlease.explain.build import Appraised, explain
from bootlease.explain.changes import compare_boots
from bootlease.explain.values import Changes, DecisionFacts, Explanation, History
from bootlease.ledger import DecisionRecord
from bootlease.model import Effect, Finding, PCRValues
from bootlease.reference import IMAReferenceSet, ReferenceSet

MAX_BACK: Final = 200_000
"""Decisions that are looked through for the last good one: a refusal each minute for months."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was decided about a node before a decision.

    Attributes:
        good: The last decision that granted.
        refusals: How many refused after it.
        refused_since: Time of the first of those.
    """

    good: Recorded | None
    refusals: int
    refused_since: int | None


class DecisionSource(DecisionInputs, Protocol):
    """Where recorded decisions and their inputs come from."""

    def decision(self, digest: bytes) -> Recorded | None:
        """Return a decision by the digest of its record."""


class ExplanationSource(DecisionSource, Protocol):
    """The same, with what came before."""

    def before(self, record: DecisionRecord) -> Before:
        """Return what was decided about the node before."""


@dataclass(frozen=True, slots=True)
class RecordedBoot:
    """What a decision was made about, as far as it can be saved.

    Attributes:
        log: The boot log.
        quoted: The quoted values.
        ima: The entries of the IMA list that came along.
        reference: The nearest reference.
    """

    log: bytes | None
    quoted: PCRValues
    ima: bytes | None
    reference: ReferenceSet | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation, and what it is about.

    Attributes:
        explanation: The explanation.
        boot: What can be saved; None where it is not kept any more.
    """

    explanation: Explanation
    boot: RecordedBoot | None


def look_back(source: DecisionSource, record: DecisionRecord) -> Before:
    """Go back through the decisions about a node to the last one that granted."""
    refusals, since, wanted = 0, None, record.previous
    for _ in range(MAX_BACK):
        recorded = None if wanted is None else source.decision(wanted)
        if recorded is None:
            break
        earlier = DecisionRecord.parse(recorded.record)
        if earlier.granted:
            return Before(recorded, refusals, since)
        refusals, since, wanted = refusals + 1, earlier.time, earlier.previous
    return Before(None, refusals, since)


def recorded_decision(digest: bytes, source: DecisionSource) -> tuple[DecisionRecord, Recorded]:
    """Return a decision by the digest of its record.

    Raises:
        VerificationError: There is none, or another record is under the digest.
    """
    recorded = source.decision(digest)
    if recorded is None:
        raise VerificationError(
            Finding("decision.unknown", "No such decision is recorded.", seen=digest.hex())
        )
    record = DecisionRecord.parse(recorded.record)
    if record.digest != digest:
        raise VerificationError(
            Finding("stored.record.altered", "The record is not the one of its digest.")
        )
    return record, recorded


def explain_decision(
    digest: bytes,
    source: ExplanationSource,
    reach: tuple[str, ...] = (),
    *,
    saved: str | None = None,
    code: CodeIdentity | None = None,
) -> Explained:
    """Explain a recorded decision.

    Args:
        digest: Digest of its record.
        source: Where it and its inputs are kept.
        reach: Options of ``bootlease`` that lead to that place, such as ``("--data", "v")``.
        saved: The folder into which log and values are saved, if they are.
        code: The program that runs now, to note where another one decided.

    Raises:
        VerificationError: There is no such decision.
        MalformedError: A record does not parse.
    """
    record, recorded = recorded_decision(digest, source)
    replayer = Replayer(source, code)
    replayed = replayer.replay(record, recorded.claims)
    before = source.before(record)
    subject = ("explain", digest.hex(), *reach)
    names = Names(subject, record.issuer, saved)
    appraised = _appraised(record, replayed, source)
    if appraised is None:
        history = _history(record, before, None)
        decision = _facts(record)
        return Explained(
            Explanation(
                record.granted,
                record.findings,
                decision,
                history,
                None,
                (),
                remedies_of(record.findings),
                _notes(replayed),
            ),
            None,
        )
    boot = appraised.boot()
    history = _history(record, before, _Earlier.of(before, replayer, source), boot, appraised)
    explanation = explain(
        appraised,
        names,
        boot=boot,
        decision=_facts(record, appraised),
        history=history,
        notes=_notes(replayed),
    )
    return Explained(explanation, recorded_boot(appraised, explanation, _log(replayed, source)))


def _notes(replayed: Replayed) -> tuple[Finding, ...]:
    # That another version decided is told where it came to something else.
    return tuple(
        finding
        for finding in replayed.findings
        if not (replayed.identical and finding.effect is Effect.NOTES)
    )


def _facts(record: DecisionRecord, appraised: Appraised | None = None) -> DecisionFacts:
    return DecisionFacts(
        record.digest,
        record.node,
        record.time,
        f"{record.policy_id}, epoch {record.policy_epoch}",
        None if appraised is None else appraised.result.clock_info.reset_count,
    )


def _appraised(
    record: DecisionRecord, replayed: Replayed, source: DecisionInputs
) -> Appraised | None:
    """Return what a decision was made of; None where something is not kept any more."""
    if replayed.result is None or replayed.evidence is None:
        return None
    try:
        policy = source.policy(record.policy_digest, record.policy_epoch)
        sets = [source.reference(digest) for digest in record.references]
        log = _log(replayed, source)
    except MalformedError:
        return None
    if policy is None or policy.digest != record.policy_digest:
        return None
    return Appraised(
        replayed.evidence,
        None if log is None else read_boot_log(log, policy.quote.banks),
        policy,
        [each for each in sets if isinstance(each, ReferenceSet)],
        [each for each in sets if isinstance(each, IMAReferenceSet)],
        record.time,
        replayed.result,
    )


def _log(replayed: Replayed, source: DecisionInputs) -> bytes | None:
    evidence = replayed.evidence
    digest = None if evidence is None else evidence.log_digests.get(TCG_LOG)
    if evidence is None or digest is None:
        return None
    # Where only its digest came along, the log may be known from before: the AK signed the digest.
    return evidence.logs.get(TCG_LOG) or source.log(digest)


def recorded_boot(
    appraised: Appraised, explanation: Explanation, log: bytes | None
) -> RecordedBoot:
    """Return what of an appraised boot can be saved."""
    digest = None if explanation.nearest is None else explanation.nearest.digest
    nearest = next((each for each in appraised.references if each.digest == digest), None)
    evidence = appraised.evidence
    return RecordedBoot(log, evidence.quote.pcrs, evidence.logs.get(IMA_LIST), nearest)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """The last good decision, as far as it can be made again."""

    record: DecisionRecord
    appraised: Appraised | None

    @classmethod
    def of(cls, before: Before, replayer: Replayer, source: DecisionInputs) -> _Earlier | None:
        if before.good is None:
            return None
        record = DecisionRecord.parse(before.good.record)
        replayed = replayer.replay(record, before.good.claims)
        return cls(record, _appraised(record, replayed, source))


def _history(
    record: DecisionRecord,
    before: Before,
    earlier: _Earlier | None,
    boot: Boot | None = None,
    appraised: Appraised | None = None,
) -> History:
    since = before.refused_since
    if since is None and not record.granted:
        since = record.time
    refusals = before.refusals + (not record.granted)
    if earlier is None:
        good = None if before.good is None else _facts(DecisionRecord.parse(before.good.record))
        return History(good, same_boot=False, refused_since=since, refusals=refusals, changes=None)
    facts = _facts(earlier.record, earlier.appraised)
    same = (
        appraised is not None
        and earlier.appraised is not None
        and (_boot_of(appraised) == _boot_of(earlier.appraised))
    )
    return History(facts, same, since, refusals, _changes(boot, earlier, appraised))


def _boot_of(appraised: Appraised) -> tuple[int, int]:
    clock = appraised.result.clock_info
    return clock.reset_count, clock.restart_count


def _changes(boot: Boot | None, earlier: _Earlier, appraised: Appraised | None) -> Changes | None:
    if boot is None or appraised is None or earlier.appraised is None:
        return None
    content = None if earlier.appraised.log is None else earlier.appraised.log.content
    if content is None or isinstance(content, MalformedError):
        return None
    quoted = earlier.appraised.evidence.quote.pcrs
    return compare_boots(Boot.of(content, quoted, appraised.policy), boot)


def values_file(quoted: PCRValues) -> Mapping[str, Mapping[str, str]]:
    """Return quoted values as ``bootlease reference learn --quoted`` reads them."""
    return {
        bank.label: {str(pcr): value.hex() for pcr, value in values.items()}
        for bank, values in quoted.items()
    }
