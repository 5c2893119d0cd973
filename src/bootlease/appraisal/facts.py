"""The facts that authorization decides over, from what an appraisal has. A pure function.

Facts are what attested events and quotes proved, what a manufacturer certified, and what an
operator said. What the node says of itself, such as the level at which its agent enforces, is no
fact; nor is when the machine booted, which no quote says: ``lineage_age`` counts from the first
decision of the lineage, which a boot outlives by as long as it went unattested before.
"""

from __future__ import annotations

import functools
from typing import Final

from bootlease.appraisal.cache import BootVerdict
from bootlease.appraisal.ima import IMAVerdict
from bootlease.endorsement import Enrolment, TPMIdentity
from bootlease.endorsement.make import vendor_name
from bootlease.evidence import VerifiedEvidence
from bootlease.lineage import Lineage
from bootlease.model import Effect
from bootlease.policy import Facts, Policy
from bootlease.token import Tier, TrustVector


def build_facts(
    evidence: VerifiedEvidence,
    *,
    rules: Policy,
    enrolment: Enrolment,
    lineage: Lineage,
    boot: BootVerdict,
    ima: IMAVerdict,
    vector: TrustVector,
    tier: Tier,
    now: int,
) -> Facts:
    """Return the facts about the node that evidence is from.

    Args:
        evidence: Verified evidence.
        rules: The policy.
        enrolment: The node's record.
        lineage: The decision's place in its lineage.
        boot: What its boot came to.
        ima: What its list of loaded files came to.
        vector: The attestation result's claims.
        tier: Their worst tier.
        now: Seconds since the epoch.
    """
    matched = boot.claim
    clock = evidence.quote.clock_info
    endorsement = enrolment.endorsement
    vendor, model, firmware = _NO_MAKE if endorsement is None else _make(endorsement.identity)
    return Facts(
        node=enrolment.node.hex(),
        tier=tier,
        vector=vector,
        references=() if matched is None else (matched.name,),
        reference_digests=() if matched is None else (matched.digest.hex(),),
        secure_boot=boot.secure_boot,
        ima_appraised=rules.ima.required and not _refuses(ima),
        endorsed=endorsement is not None,
        vendor=vendor,
        model=model,
        firmware=firmware,
        labels=enrolment.labels,
        reset_count=clock.reset_count,
        restart_count=clock.restart_count,
        lineage_age=max(0, now - lineage.began_at),
    )


def _refuses(ima: IMAVerdict) -> bool:
    return any(finding.effect is Effect.REFUSES for finding in ima.findings)


@functools.lru_cache(maxsize=1024)
def _make(make: TPMIdentity) -> tuple[str, str, str]:
    # A fleet has few makes; each of its renewals asks.
    return vendor_name(make.vendor), make.model, make.version


_NO_MAKE: Final = (None, None, None)
