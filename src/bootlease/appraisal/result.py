"""What an appraisal came to: an attestation result, grant or refusal.

Specifications: draft-ietf-rats-ar4si-10 §2.3 (trustworthiness claims), draft-ietf-rats-ear-04 §3.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from bootlease.evidence.denied import DeniedLease
from bootlease.evidence.verify import VerifiedLease
from bootlease.frozen import quick_init
from bootlease.lineage import IMAProgress, Lineage
from bootlease.model import ClockInfo, Finding, refusals
from bootlease.policy.facts import NO_FACTS, Facts
from bootlease.token import BootClaim, PolicyClaim, ReferenceClaim, Tier, TrustVector

IDENTITY_RECOGNISED: Final = 2
IDENTITY_NOT_TRUSTWORTHY: Final = 96
EXECUTABLES_APPROVED_DURING_BOOT: Final = 3
EXECUTABLES_UNRECOGNISED: Final = 33
CRYPTO_FAILED: Final = 99


@quick_init
@dataclass(frozen=True, slots=True)
class AttestationResult:
    """The verdict on verified evidence, with everything it rests on.

    Attributes:
        node: Node id.
        nonce: The challenge that was answered.
        evidence: SHA-256 of the evidence document.
        findings: All findings, refusing ones and notes.
        vector: AR4SI claims: no more than was proven.
        tier: The vector's worst tier.
        lineage: Place in the chain of leases.
        clock_info: The TPM's counters at the quote.
        policy: The policy that judged.
        reference: The reference set that matched, if one did.
        considered: Digests of the reference sets that were compared, those for IMA last.
        leases: The leases granted, in the order in which they were asked for; none if refused.
        expires_at: First second at which granted leases are over.
        ima: How far the IMA list was appraised, if it was.
        facts: What authorization decided over; nothing where its policies ask for nothing.
        denied: The optional leases that a grant leaves out; the findings say so too.
    """

    node: bytes
    nonce: bytes
    evidence: bytes
    findings: tuple[Finding, ...]
    vector: TrustVector
    tier: Tier
    lineage: Lineage
    clock_info: ClockInfo
    policy: PolicyClaim
    reference: ReferenceClaim | None
    considered: tuple[bytes, ...]
    leases: tuple[VerifiedLease, ...]
    expires_at: int
    ima: IMAProgress | None = None
    facts: Facts = NO_FACTS
    denied: tuple[DeniedLease, ...] = ()

    @property
    def accepted(self) -> bool:
        """Nothing refuses."""
        return not self.findings or not refusals(self.findings)

    @property
    def boot(self) -> BootClaim:
        """The boot that was proven."""
        return _boot_claim(self.clock_info.reset_count, self.clock_info.restart_count)


# A node keeps its boot over its renewals.
_boot_claim = functools.lru_cache(maxsize=4096)(BootClaim)


@functools.lru_cache(maxsize=64)
def trust_vector(identity: int | None, executables: int | None) -> tuple[TrustVector, Tier]:
    """Return the vector with these two claims and its tier; the same few come over and over."""
    vector = TrustVector(instance_identity=identity, executables=executables)
    return vector, vector.tier()
