"""What a starting verifier must know of leases that were granted before: made from the store.

A lease lives on where its node's lineage is still the one that it belongs to. So whatever ended a
lineage (a refusal, a new one, another enrolment, a revocation) has ended its leases, and their bits
are set again.

A verifier may start while its clock is wrong, and be set right afterwards: so which leases may
still count is told by the times that were recorded (``recent_grants``), and nothing of them is let
go of until all is over by whichever clock (``LiveLeases.began``).

Which boot reference a lease rested on is in its token and not in the record of its decision; that
has all sets that were considered. A reference that is revoked in the first minutes after a start
may so end leases of nodes that booted something else: they begin another lineage.

Not handled: a clock that stood still while many leases were granted makes a start read all of them.
"""

from __future__ import annotations

from typing import Final

from bootlease.policy.values import MAX_LIFE
from bootlease.ports import Store
from bootlease.verifier.continuity.live import KEPT, LEAP, LiveLeases

_MARGIN: Final = 5
"""Seconds by which a challenge may be older than the decision that answers it, clocks included."""


async def rebuild(store: Store, live: LiveLeases, now: int) -> None:
    """Note every lease that may still count, and end those whose lineage has ended.

    Args:
        store: Where decisions are kept.
        live: Empty.
        now: Seconds since the epoch, by a clock that may be wrong.
    """
    recent = await store.continuity.recent_grants(kept=KEPT + _MARGIN, step=LEAP)
    if recent.latest is None:
        return
    for grant in recent.grants:
        live.granted(grant.node, grant.root, grant.lease_ids, grant.expires_at, grant.references)
    # Before anything ends: a child is known by a parent that lives, and ends with it.
    as_of = (
        min([now, recent.latest, *(each.expires_at - MAX_LIFE for each in recent.grants)]) - KEPT
    )
    for child in await store.delegations.live(now=as_of):
        live.delegated(child.parent, child.lease_id, child.expires_at, now=as_of)
    for grant in recent.grants:
        if not grant.goes_on:
            live.end_lineage(grant.node, grant.root)
    live.began(recent.latest, now)
