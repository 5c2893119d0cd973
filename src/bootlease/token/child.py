"""What the token of a delegated lease says.

Its holder attested for nothing: it may be on another machine. So the attestation result is the
least that the profile allows: ``ear_status`` none, and a vector whose one claim, instance identity,
is 0, "no assertion" (AR4SI §2.3.2; an empty vector is none). Subject, lineage, boot, policy,
reference, evidence and nonce are those of the lease that the chain began with: they say under which
node's lease the child lives and with which it ends, not where its holder runs. The result that the
root lease had stands in the delegation's root, and nowhere else.

The confirmation key counts as one held by a process, and no enforcement level is passed on: nobody
here knows better.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bootlease.token.claimparts import KeyProtection, VerifierID
from bootlease.token.claims import ExecutionClaims
from bootlease.token.delegation import Delegation, DelegationLink, DelegationRoot
from bootlease.token.ear import Tier, TrustVector
from bootlease.token.grants import VerifiedGrant
from bootlease.token.publickey import PublicKey

NO_ASSERTION: Final = TrustVector(instance_identity=0)


def root_of(parent: ExecutionClaims) -> DelegationRoot:
    """Return the lease that a chain through ``parent`` began with."""
    if parent.delegation is not None:
        return parent.delegation.root
    return DelegationRoot(
        lease_id=parent.lease_id,
        digest=parent.digest,
        decision=parent.decision,
        scope=parent.scope,
        audience=parent.audience,
        expires_at=parent.expires_at,
        status=parent.status,
        confirmation=parent.confirmation,
    )


def child_claims(
    parent: ExecutionClaims,
    grant: VerifiedGrant,
    confirmation: PublicKey,
    *,
    lease_id: bytes,
    decision: bytes,
    verifier: VerifierID,
    now: int,
) -> ExecutionClaims:
    """Return what the token given for a grant says.

    Args:
        parent: Claims of the lease that is passed on.
        grant: Verified against what that lease holds.
        confirmation: The key granted to.
        lease_id: Of the child, 16 bytes.
        decision: Digest of the delegation's record.
        verifier: Who gives it.
        now: Seconds since the epoch.

    Raises:
        ValueError: The key is not the one granted to, or the chain is as long as it may be.
    """
    if confirmation.thumbprint() != grant.thumbprint:
        raise ValueError("the grant is to another key")
    before = () if parent.delegation is None else parent.delegation.links
    link = DelegationLink(lease_id, grant.thumbprint, grant.text)
    return replace(
        parent,
        audience=grant.audience,
        issued_at=now,
        not_before=now,
        expires_at=grant.expires_at,
        lease_id=lease_id,
        scope=grant.scope,
        confirmation=confirmation,
        protection=KeyProtection.PROCESS,
        verifier=verifier,
        status=Tier.NONE,
        vector=NO_ASSERTION,
        decision=decision,
        level=None,
        delegation=Delegation(root_of(parent), (*before, link)),
    )
