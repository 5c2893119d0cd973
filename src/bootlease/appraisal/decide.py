"""Appraisal: verified evidence in, attestation result out. A pure function.

What precedes it, structure, signature, challenge and binding, is ``verify_evidence``'s: a failure
there says nothing about the node. From here on, whatever refuses is the node's own state or
wish, is recorded, and ends its lineage. The steps (design section 4, step 4):

1. The AK is the enrolled one, a primary of the endorsement hierarchy.
2. The TPM's counters only went forward.
3. Every PCR that policy demands is in the signed selection, in every bank it demands.
4. The event log leads exactly to the quoted PCRs.
5. The log is well formed; its meaning.
6. The boot is what an accepted reference set describes.
7. The IMA list leads to the quoted PCR 10, and names only what may be loaded.
8. The lineage continues, or a new one begins with full evidence.
9. The node's endorsement still stands.
10. Policy grants what is asked for, all but what is optional, and grants at all (``leases``).

All steps run and all findings are collected: one refusal answers every question.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootlease.appraisal.boot import appraise_boot, verdict_key
from bootlease.appraisal.bootlog import BootLog
from bootlease.appraisal.cache import AppraisalCache, BootVerdict
from bootlease.appraisal.endorsed import check_endorsement
from bootlease.appraisal.facts import build_facts
from bootlease.appraisal.ima import IMAVerdict, appraise_ima
from bootlease.appraisal.leases import check_request
from bootlease.appraisal.quote import check_clock, check_signer
from bootlease.appraisal.result import (
    CRYPTO_FAILED,
    EXECUTABLES_APPROVED_DURING_BOOT,
    EXECUTABLES_UNRECOGNISED,
    IDENTITY_NOT_TRUSTWORTHY,
    IDENTITY_RECOGNISED,
    AttestationResult,
    trust_vector,
)
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.evidence import Challenge, VerifiedEvidence
from bootlease.lineage import HighWaterMark, Prior, continue_lineage
from bootlease.model import Effect, Finding
from bootlease.policy import Mode, Policy, PolicyEpoch
from bootlease.policy.facts import NO_FACTS
from bootlease.reference import ReferenceSet
from bootlease.reference.imaset import IMAReferenceSet
from bootlease.token import Tier, TrustVector


def appraise(
    evidence: VerifiedEvidence,
    log: BootLog | None,
    *,
    challenge: Challenge,
    prior: Prior | None,
    high_water: HighWaterMark,
    enrolment: Enrolment,
    roots: TrustedRoots,
    references: Sequence[ReferenceSet],
    policy: PolicyEpoch,
    now: int,
    ima_references: Sequence[IMAReferenceSet] = (),
    cache: AppraisalCache | None = None,
) -> AttestationResult:
    """Decide about verified evidence.

    Proves, if accepted: the enrolled TPM vouched for a boot that an accepted reference set
    describes, in the lineage stated, and policy grants the leases of the result. Does not prove
    what runs after boot, nor that nobody has tampered with the machine's buses. The caller must
    still record the decision before it answers, and spend the challenge in that transaction.

    Args:
        evidence: Evidence that the AK signed for ``challenge``.
        log: The boot log of the digest that the evidence names. ``None`` if ``verdict_known``
            says that ``cache`` needs none, or if it is not at hand, which refuses.
        challenge: The challenge as issued.
        prior: Where the node's live lineage stands, if it has one.
        high_water: The furthest that the node's TPM was ever seen to stand, in any lineage.
        enrolment: The node's record.
        roots: Manufacturers trusted now.
        references: The registered reference sets; policy decides which are accepted.
        policy: The policy in force.
        now: Seconds since the epoch.
        ima_references: The registered IMA sets; policy decides which are accepted.
        cache: Verdicts on boots so far; changes speed, never the result.

    Returns:
        The result, with every finding.

    Raises:
        ValueError: Evidence, challenge, log and enrolment do not belong together.
    """
    rules = policy.policy
    if evidence.nonce != challenge.nonce or challenge.node != enrolment.node:
        raise ValueError("evidence, challenge and enrolment do not belong together")
    quote = evidence.quote
    # 1. A24: the name of another key, or of one elsewhere in the TPM, is another identity.
    identity = check_signer(quote, enrolment.ak_qualified_name)
    # 2. A22, A23: rollback and copies of a TPM's state show in its counters.
    identity += check_clock(
        None if prior is None else prior.clock_info,
        quote.clock_info,
        high_water=high_water,
        unsafe=rules.quote.unsafe_clock,
    )
    # 3. to 6.
    accepted = _accepted(references, rules)
    boot = appraise_boot(evidence, log, accepted, rules, cache=cache, now=now)
    # 7.
    ima = appraise_ima(evidence, prior, ima_references, rules, now=now)
    # 8.
    lineage, continuity = continue_lineage(prior, evidence, now=now)
    # 9.
    endorsement = check_endorsement(enrolment, roots, rules, now)
    vector, tier = _vector(enrolment, (*identity, *endorsement), boot, ima)
    # 10.
    expires_at = challenge.issued_at + rules.lease.life
    facts = NO_FACTS
    if rules.authorization.uses:
        facts = build_facts(
            evidence,
            rules=rules,
            enrolment=enrolment,
            lineage=lineage,
            boot=boot,
            ima=ima,
            vector=vector,
            tier=tier,
            now=now,
        )
    verdict = check_request(evidence, rules, facts, expires_at, now)
    findings = (
        *identity,
        *boot.selection_findings,
        *boot.log_findings,
        *boot.meaning_findings,
        *boot.reference_findings,
        *ima.findings,
        *continuity,
        *endorsement,
        *verdict.findings,
    )
    told = len(findings)
    if rules.mode is Mode.REPORT_ONLY:
        findings = (*findings, _only_reported(findings))
    granted = not _refuses(findings)
    if not granted:
        first = told - len(verdict.findings)
        findings = (*findings[:first], *verdict.brief(), *findings[told:])
    leases, denied = (verdict.leases, verdict.denied) if granted else ((), ())
    considered = (*boot.considered, *ima.considered) if ima.considered else boot.considered
    # In the result's order: a call by so many names takes as long again as what it passes.
    # fmt: off
    return AttestationResult(
        enrolment.node, evidence.nonce, evidence.digest, findings, vector, tier, lineage,
        quote.clock_info, policy.claim, boot.claim, considered, leases, expires_at,
        ima.progress, facts, denied,
    )
    # fmt: on


def _only_reported(findings: Sequence[Finding]) -> Finding:
    verdict = "refused" if _refuses(findings) else "granted"
    return Finding(
        "policy.report-only",
        "The policy only reports, and grants nothing: enforced, it would have "
        f"{verdict} what is asked for.",
        seen=verdict,
    )


def verdict_known(
    cache: AppraisalCache,
    evidence: VerifiedEvidence,
    references: Sequence[ReferenceSet],
    policy: PolicyEpoch,
    *,
    now: int,
) -> bool:
    """Tell whether ``appraise`` with ``cache`` will need no log for this evidence."""
    rules = policy.policy
    key = verdict_key(evidence, _accepted(references, rules), rules, now)
    return cache.get(key) is not None


def _accepted(references: Sequence[ReferenceSet], rules: Policy) -> tuple[ReferenceSet, ...]:
    names = rules.accept
    return tuple([reference for reference in references if reference.name in names])


def _refuses(findings: Sequence[Finding]) -> bool:
    return bool(findings) and any(finding.effect is Effect.REFUSES for finding in findings)


def _vector(
    enrolment: Enrolment,
    identity: Sequence[Finding],
    boot: BootVerdict,
    ima: IMAVerdict,
) -> tuple[TrustVector, Tier]:
    """Assign AR4SI values (§2.3.4); what was not proven is not claimed.

    Hardware is never asserted: a certificate names a make, and a software TPM's names one too.
    Nor is it that only approved executables were loaded after the boot (2): a list of what the
    kernel measured does not say what its own policy told it to measure.
    """
    instance: int | None = None
    if _refuses(identity):
        instance = IDENTITY_NOT_TRUSTWORTHY
    elif enrolment.endorsement is not None:
        instance = IDENTITY_RECOGNISED
    executables: int | None = None
    if boot.log_findings or not ima.replayed:
        executables = CRYPTO_FAILED
    elif boot.reference is None or _refuses((*boot.meaning_findings, *ima.findings)):
        executables = EXECUTABLES_UNRECOGNISED
    elif boot.covers_boot_chain and not boot.selection_findings:
        executables = EXECUTABLES_APPROVED_DURING_BOOT
    return trust_vector(instance, executables)
