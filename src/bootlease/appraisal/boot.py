"""The steps of an appraisal that look at the boot: selection, log, meaning, reference values.

Each step is a function of verified values that returns findings. What they come to depends on
nothing else than ``verdict_key`` says, so it can be remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bootlease.appraisal.bootlog import BootLog, check_replay, check_separators
from bootlease.appraisal.cache import AppraisalCache, BootVerdict, VerdictKey
from bootlease.appraisal.meaning import check_meaning
from bootlease.appraisal.phases import check_phases
from bootlease.appraisal.quote import check_selection
from bootlease.bootstate.tri import Tri
from bootlease.errors import MalformedError
from bootlease.eventlog import LogFormat
from bootlease.evidence import TCG_LOG, VerifiedEvidence
from bootlease.model import Effect, Finding, HashAlg, PCRValues
from bootlease.policy import Policy
from bootlease.reference import ReferenceSet, appraise_reference, note_unknown_names
from bootlease.reference.bootfacts import FactsByBank

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
        # PCR 10 moves with every file where IMA is appraised, and no verdict here is about it.
        _boot_values(quote.pcrs, policy) if policy.ima.required else quote.pcr_digest,
        quote.selections,
        policy.digest,
        *[(reference.digest, reference.valid_at(now)) for reference in references],
    )


def _boot_values(quoted: PCRValues, policy: Policy) -> tuple[bytes | None, ...]:
    return tuple(
        [
            quoted.get(bank, {}).get(pcr)
            for bank, pcrs in policy.boot_selection.items()
            for pcr in pcrs
        ]
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
    if log.content.log.format is LogFormat.CCEL:
        return BootVerdict(selection, (_registers(log),), (), None, ())
    replayed, required = log.content, policy.boot_selection
    # 4. The log, and the phases that policy names after it, lead exactly to the quoted PCRs.
    # From here on its digests are attested.
    quoted, log_findings = check_phases(replayed, evidence.quote.pcrs, required, policy.boot.phases)
    replay_findings = check_replay(replayed, quoted, required)
    facts = FactsByBank(replayed, _attested(required, replay_findings))
    log_findings += replay_findings + check_separators(replayed, required)
    # 5. Meaning of the log.
    meaning = check_meaning(facts, policy)
    # 6. Reference values.
    outcome = appraise_reference(replayed, quoted, references, required, now=now, facts=facts)
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
        meaning,
        _secure_boot(facts, required),
    )


def _secure_boot(facts: FactsByBank, required: Mapping[HashAlg, Sequence[int]]) -> Tri:
    """Return the state that all banks prove; where they differ, or one proves none, no state."""
    proven = [facts.of(bank) for bank in required]
    states = [Tri.UNKNOWN if each is None else each.secure_boot.state for each in proven]
    return states[0] if len(set(states)) == 1 else Tri.UNKNOWN


def _attested(
    required: Mapping[HashAlg, Sequence[int]], findings: Sequence[Finding]
) -> Mapping[HashAlg, Sequence[int]]:
    """Leave out what the log did not lead to: its events there are nobody's word."""
    if not findings:
        return required
    unexplained = {finding.pcr for finding in findings}
    return {
        bank: [pcr for pcr in pcrs if pcr not in unexplained] for bank, pcrs in required.items()
    }


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


def _registers(log: BootLog) -> Finding:
    # D26: one byte of the header, which nothing signs, would have PCR 1, that the running system
    # extends, read as the register that holds Secure Boot.
    return Finding(
        "eventlog.registers",
        "The event log is of measurement registers, not of PCRs: it explains nothing that a TPM "
        "quotes.",
        seen=log.digest.hex(),
    )


def _covers_boot_chain(reference: ReferenceSet | None, policy: Policy) -> bool:
    if reference is None:
        return False
    demanded = policy.quote.selection.get(reference.bank, ())
    return all(pcr in demanded and pcr in reference.pcrs for pcr in BOOT_CHAIN_PCRS)
