"""What a starting verifier must know of leases that were granted before: made from the store.

A lease lives on where its node's lineage is still the one that it belongs to. So whatever ended a
lineage (a refusal, a new one, another enrolment, a revocation) has ended its leases, and their bits
are set again.

Which boot reference a lease rested on is in its token and not in the record of its decision; that
has all sets that were considered. A reference that is revoked in the first minutes after a start
may so end leases of nodes that booted something else: they begin another lineage.
"""

from __future__ import annotations

from typing import Final

from bootlease.policy.values import MAX_LIFE
from bootlease.ports import Store
from bootlease.verifier.continuity.live import KEPT, LiveLeases

_MARGIN: Final = 5
"""Seconds by which a challenge may be older than the decision that answers it, clocks included."""


async def rebuild(store: Store, live: LiveLeases, now: int) -> None:
    """Note every lease that has not expired, and end those whose lineage has ended.

    Args:
        store: Where decisions are kept.
        live: Empty.
        now: Seconds since the epoch.
    """
    since = now - MAX_LIFE - KEPT - _MARGIN
    grants = await store.continuity.live_grants(since=since, now=now - KEPT)
    for grant in grants:
        live.granted(grant.node, grant.root, grant.lease_ids, grant.expires_at, grant.references)
    # Before anything ends: a child is known by a parent that lives, and ends with it.
    for child in await store.delegations.live(now=now - KEPT):
        live.delegated(child.parent, child.lease_id, child.expires_at, now=now - KEPT)
    for grant in grants:
        if not grant.goes_on:
            live.end_lineage(grant.node, grant.root)
