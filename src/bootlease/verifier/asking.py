"""What a challenge asks for, and whether what came is enough to be judged.

Specification: docs/protocol.md, "Challenge". Nothing here is a verdict: a node that was asked for
too little, or that cannot know what to send, is told what is wanted, spends nothing and ends
nothing.
"""

from __future__ import annotations

import secrets
from typing import Final

from bootlease.appraisal import whole_list_wanted
from bootlease.evidence import Challenge, VerifiedEvidence
from bootlease.lineage import IMAProgress
from bootlease.model import Finding
from bootlease.policy import Policy
from bootlease.ports import StoredLineage
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.registry import Snapshot

_NONCE_BYTES: Final = 32
_OUTDATED: Final = Finding(
    "challenge.outdated",
    "The policy has changed since the challenge was set; ask for a new one and quote again.",
)


def new_challenge(node: bytes, policy: Policy, now: int, progress: IMAProgress | None) -> Challenge:
    """Return a fresh challenge.

    Args:
        node: Whose it is.
        policy: What it has to ask for.
        now: Seconds since the epoch.
        progress: How far the IMA list was appraised in the node's lineage, if it was.
    """
    accepted = 0 if progress is None else progress.state.entries
    return Challenge(
        nonce=secrets.token_bytes(_NONCE_BYTES),
        node=node,
        issued_at=now,
        expires_at=now + policy.lease.life,
        pcrs=policy.quote.selection,
        ima=accepted if policy.ima.required else None,
    )


def demand_judgeable(
    verified: VerifiedEvidence, lineage: StoredLineage, snapshot: Snapshot, now: int
) -> None:
    """Ask for the whole IMA list where what came cannot be judged alone.

    The same quote can come again with it, so nothing is spent.
    """
    wanted = whole_list_wanted(
        verified, lineage.prior, snapshot.accepted_ima, snapshot.policy.policy, now=now
    )
    if wanted:
        raise ProblemError(ProblemKind.IMA_WANTED, wanted[0].message, findings=wanted)


def demand_current(challenge: Challenge, policy: Policy, now: int) -> None:
    """Demand that a challenge asks for what policy demands by now.

    The node answered what it was asked. That it was not asked for a PCR that policy has demanded
    since, or has less time than it was told, is no fault of its state, and must end no lineage.
    """
    covered = challenge.pcrs == policy.quote.selection or all(
        set(pcrs).issubset(challenge.pcrs.get(bank, ()))
        for bank, pcrs in policy.quote.selection.items()
    )
    covered &= challenge.ima is not None or not policy.ima.required
    if not covered or now >= challenge.issued_at + policy.lease.life:
        raise ProblemError(ProblemKind.OUTDATED, _OUTDATED.message, findings=[_OUTDATED])
