"""The steps of an appraisal that look at the boot: selection, log, meaning, reference values.

Each step is a function of verified values that returns findings, so that further steps (the
meaning of the log, IMA) join the list without touching the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bootlease.appraisal.bootlog import TCG_LOG, BootLog, check_replay, check_separators
from bootlease.appraisal.cache import AppraisalCache, BootVerdict, VerdictKey
from bootlease.appraisal.quote import check_selection
from bootlease.errors import MalformedError
from bootlease.evidence import VerifiedEvidence
from bootlease.model import Effect, Finding
from bootlease.policy import Policy
from bootlease.reference import ReferenceSet, appraise_reference, note_unknown_names

BOOT_CHAIN_PCRS: Final = (0, 2, 4)
"""Firmware, option ROMs and boot loader: what runs until the operating system does."""


def verdict_key(
    evidence: VerifiedEvidence, references: Sequence[ReferenceSet], policy: Policy, now: int
) -> VerdictKey:
    """Return everything that the verdict on a boot depends on.

    The attested digest covers PCR values in the order of the selection, but not the selection.
    """
    quote = evidence.quote
    return (
        evidence.log_digests.get(TCG_LOG),
        quote.pcr_digest,
        quote.selections,
        policy.digest,
        *[(reference.digest, reference.valid_at(now)) for reference in references],
    )


def appraise_boot(
    evidence: VerifiedEvidence,
    log: BootLog | None,
    references: Sequence[ReferenceSet],
    policy: Policy,
    *,
    cache: AppraisalCache | None,
    now: int,
) -> BootVerdict:
    """Judge what was quoted and booted, from the cache where the same was judged before.

    Args:
        evidence: Verified evidence.
        log: The log whose digest the evidence names; ``None`` where the cache knows the verdict,
            or where the log is not at hand, which refuses.
        references: The sets that the policy accepts.
        policy: The policy.
        cache: Verdicts so far, if any are kept.
        now: Seconds since the epoch.

    Raises:
        ValueError: ``log`` is another than the one the evidence names.
    """
    digest = evidence.log_digests.get(TCG_LOG)
    if log is not None and log.digest != digest:
        raise ValueError("the log given is not the one that the evidence names")
    key = verdict_key(evidence, references, policy, now)
    verdict = None if cache is None else cache.get(key)
    if verdict is not None:
        return verdict
    verdict = _judge(evidence, log, references, policy, now)
    if cache is not None and log is not None:
        cache.put(key, verdict)
    return verdict


def _judge(
    evidence: VerifiedEvidence,
    log: BootLog | None,
    references: Sequence[ReferenceSet],
    policy: Policy,
    now: int,
) -> BootVerdict:
    # 3. A3 to A6: what is not in the signed selection is not known.
    selection = check_selection(evidence.quote, policy.quote.selection)
    if log is None or isinstance(log.content, MalformedError):
        finding = _no_log(evidence) if log is None else _malformed(log)
        return BootVerdict(selection, (finding,), (), None, ())
    replayed = log.content
    quoted, required = evidence.quote.pcrs, policy.quote.selection
    # 4. The log leads exactly to the quoted PCRs. From here on its digests are attested.
    log_findings = check_replay(replayed, quoted, required)
    # 5. Meaning of the log: so far, that firmware's events end where they must.
    log_findings += check_separators(replayed, required)
    # 6. Reference values.
    outcome = appraise_reference(replayed, quoted, references, required, now=now)
    unknown = note_unknown_names(
        policy.accept,
        references,
        effect=Effect.REFUSES if outcome.reference is None else Effect.NOTES,
    )
    return BootVerdict(
        selection,
        log_findings,
        outcome.findings + unknown,
        outcome.reference,
        outcome.considered,
        _covers_boot_chain(outcome.reference, policy),
    )


def _no_log(evidence: VerifiedEvidence) -> Finding:
    digest = evidence.log_digests.get(TCG_LOG)
    if digest is None:
        return Finding("eventlog.missing", "The evidence names no boot event log.")
    return Finding(
        "eventlog.unavailable",
        "The event log that the evidence names is not at hand; send it in full.",
        seen=digest.hex(),
    )


def _malformed(log: BootLog) -> Finding:
    return Finding(
        "eventlog.malformed",
        f"The event log does not parse: {log.content}",
        seen=log.digest.hex(),
    )


def _covers_boot_chain(reference: ReferenceSet | None, policy: Policy) -> bool:
    if reference is None:
        return False
    demanded = policy.quote.selection.get(reference.bank, ())
    return all(pcr in demanded and pcr in reference.pcrs for pcr in BOOT_CHAIN_PCRS)
