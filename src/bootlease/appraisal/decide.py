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
7. The lineage continues, or a new one begins with full evidence.
8. The node's endorsement still stands.
9. Policy grants what is asked for.

All steps run and all findings are collected: one refusal answers every question.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bootlease.appraisal.bootlog import BootLog
from bootlease.appraisal.cache import AppraisalCache, BootVerdict
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
from bootlease.appraisal.steps import appraise_boot, verdict_key
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.evidence import Challenge, VerifiedEvidence
from bootlease.lineage import HighWaterMark, Prior, continue_lineage
from bootlease.model import Effect, Finding
from bootlease.policy import Admission, Policy, PolicyEpoch
from bootlease.reference import ReferenceSet
from bootlease.token import Tier, TrustVector
from bootlease.token.scope import uncovered


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
    cache: AppraisalCache | None = None,
) -> AttestationResult:
    """Decide about verified evidence.

    Proves, if accepted: the enrolled TPM vouched for a boot that an accepted reference set
    describes, in the lineage stated, and policy grants every lease asked for. Does not prove
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
    lineage, continuity = continue_lineage(prior, evidence, now=now)
    # 8.
    endorsement = check_endorsement(enrolment, roots, rules, now)
    # 9.
    expires_at = challenge.issued_at + rules.lease.life
    wishes = check_request(evidence, rules, expires_at, now)
    findings = (
        *identity,
        *boot.selection_findings,
        *boot.log_findings,
        *boot.reference_findings,
        *continuity,
        *endorsement,
        *wishes,
    )
    vector, tier = _vector(enrolment, (*identity, *endorsement), boot)
    granted = not _refuses(findings)
    return AttestationResult(
        node=enrolment.node,
        nonce=evidence.nonce,
        evidence=evidence.digest,
        findings=findings,
        vector=vector,
        tier=tier,
        lineage=lineage,
        clock_info=quote.clock_info,
        policy=policy.claim,
        reference=boot.claim,
        considered=boot.considered,
        leases=evidence.leases if granted else (),
        expires_at=expires_at,
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


def check_endorsement(
    enrolment: Enrolment, roots: TrustedRoots, rules: Policy, now: int
) -> tuple[Finding, ...]:
    """Demand that what let the node in would still let it in."""
    findings: list[Finding] = []
    endorsement = enrolment.endorsement
    if endorsement is None:
        findings.append(unendorsed(enrolment.ek_digest, rules))
    else:
        if endorsement.root not in roots:
            findings.append(
                Finding(
                    "endorsement.root.untrusted",
                    "The root that vouched for the node's TPM is no longer trusted.",
                    seen=endorsement.root.hex(),
                )
            )
        if now > endorsement.not_after:
            findings.append(
                Finding(
                    "endorsement.expired",
                    "The certificates that vouched for the node's TPM have expired.",
                    expected=f"until {endorsement.not_after}",
                    seen=str(now),
                )
            )
        if enrolment.ek_digest not in rules.enrolment.allow_ek:
            findings += not_allowed(enrolment.ek_digest, rules)
    return tuple(findings)


def unendorsed(ek_digest: bytes, rules: Policy) -> Finding:
    """Return the finding that an EK without certificate always leaves."""
    if ek_digest in rules.enrolment.unsafe_unendorsed_ek:
        return Finding(
            "endorsement.none",
            "No manufacturer vouches for the node's TPM; the policy lists its EK by hand.",
            effect=Effect.NOTES,
        )
    return Finding(
        "endorsement.missing",
        "No manufacturer vouches for the node's TPM, and the policy does not list its EK.",
        seen=ek_digest.hex(),
    )


def not_allowed(ek_digest: bytes, rules: Policy) -> tuple[Finding, ...]:
    """Return a finding if an allowlist does not have this EK."""
    if rules.enrolment.admit is not Admission.ALLOWLIST or ek_digest in rules.enrolment.allow_ek:
        return ()
    return (
        Finding(
            "enrolment.ek.not-allowed",
            "The node's EK is not on the policy's allowlist.",
            expected="an EK of enrolment.allow_ek",
            seen=ek_digest.hex(),
        ),
    )


def check_request(
    evidence: VerifiedEvidence, rules: Policy, expires_at: int, now: int
) -> tuple[Finding, ...]:
    """Demand that policy grants every lease asked for, while it still has life left."""
    lease_rules = rules.lease
    findings: list[Finding] = []
    if now >= expires_at:
        findings.append(
            Finding(
                "lease.life.over",
                "A lease on this challenge would already be over: its life counts from the "
                "challenge's issue.",
                expected=f"before {expires_at}",
                seen=str(now),
            )
        )
    if len(evidence.leases) > lease_rules.max_leases:
        findings.append(
            Finding(
                "policy.leases.too-many",
                "The evidence asks for more leases than the policy grants at once.",
                expected=str(lease_rules.max_leases),
                seen=str(len(evidence.leases)),
            )
        )
    for lease in evidence.leases:
        findings += _denied(rules, lease.scope, lease.audience)
    return tuple(findings)


@functools.lru_cache(maxsize=4096)
def _denied(rules: Policy, scope: tuple[str, ...], audience: str) -> tuple[Finding, ...]:
    # A lease asks for the same at each of its renewals.
    shown = "".join(char if char.isprintable() else "?" for char in audience)
    findings = [
        Finding(
            "policy.scope.denied",
            f"The policy does not grant the scope {name} for {shown}.",
            seen=name,
        )
        for name in uncovered(rules.lease.scopes, scope)
    ]
    if audience not in rules.lease.audiences:
        findings.append(
            Finding(
                "policy.audience.denied",
                f"The policy grants nothing for the audience {shown}.",
                seen=shown,
            )
        )
    return tuple(findings)


def _refuses(findings: Sequence[Finding]) -> bool:
    return bool(findings) and any(finding.effect is Effect.REFUSES for finding in findings)


def _vector(
    enrolment: Enrolment,
    identity: Sequence[Finding],
    boot: BootVerdict,
) -> tuple[TrustVector, Tier]:
    """Assign AR4SI values (§2.3.4); what was not proven is not claimed.

    Hardware is never asserted: a certificate names a make, and a software TPM's names one too.
    """
    instance: int | None = None
    if _refuses(identity):
        instance = IDENTITY_NOT_TRUSTWORTHY
    elif enrolment.endorsement is not None:
        instance = IDENTITY_RECOGNISED
    executables: int | None = None
    if boot.log_findings:
        executables = CRYPTO_FAILED
    elif boot.reference is None:
        executables = EXECUTABLES_UNRECOGNISED
    elif boot.covers_boot_chain and not boot.selection_findings:
        executables = EXECUTABLES_APPROVED_DURING_BOOT
    return trust_vector(instance, executables)
