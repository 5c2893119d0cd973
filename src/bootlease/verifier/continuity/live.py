"""Which leases live, and which have ended before their tokens expire.

In memory, and made again from the store when a verifier starts. Every renewal passes here, so it
costs a few operations on dicts. A lease is known before it is committed: whatever ends the lease
afterwards finds it, whichever of the two was faster.

A lease's place in the status list is the end of its id. Its index is not used again while its token
may be accepted anywhere, which is a little longer than the lease lives: relying parties allow for
clocks that differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from bootlease.policy.values import MAX_LIFE
from bootlease.token.claimparts import status_index

KEPT: Final = 60
"""Seconds beyond a lease's end for which its bit stays: no relying party's leeway is so long."""

LEAP: Final = KEPT // 2
"""Seconds between two looks at the clock that it may have passed; the verifier looks oftener."""


@dataclass(slots=True, eq=False)
class LiveGrant:
    """Leases of one decision, or one delegated lease.

    Attributes:
        node: Node id.
        root: Evidence digest that the lineage began with.
        lease_ids: 16 bytes each.
        expires_at: First second at which they are over.
        references: Digests of the reference sets that they rest on.
        children: Lease ids of what was delegated from them, by the id of the parent.
    """

    node: bytes
    root: bytes
    lease_ids: tuple[bytes, ...]
    expires_at: int
    references: tuple[bytes, ...]
    children: dict[bytes, list[bytes]] | None = None


class LiveLeases:
    """Every lease whose token may still be accepted somewhere."""

    __slots__ = ("_by_index", "_ended", "_looked_at", "_of_node", "_order", "_wary_until")

    def __init__(self) -> None:
        self._by_index: dict[int, LiveGrant] = {}
        self._of_node: dict[bytes, list[LiveGrant]] = {}
        self._order: deque[LiveGrant] = deque()
        self._ended: set[int] = set()
        self._looked_at: int | None = None
        self._wary_until = 0

    def granted(
        self,
        node: bytes,
        root: bytes,
        lease_ids: Iterable[bytes],
        expires_at: int,
        references: tuple[bytes, ...] = (),
    ) -> LiveGrant:
        """Note leases that are about to be granted, before they are committed."""
        grant = LiveGrant(node, root, tuple(lease_ids), expires_at, references)
        self._note(grant)
        return grant

    def delegated(self, parent: bytes, lease_id: bytes, expires_at: int, *, now: int) -> bool:
        """Note a lease that is about to be delegated; False where its parent does not live so long.

        What the parent's token says is not asked: one that a stolen key has signed could say that
        it lives for years, and its children would be signed by the key that takes its place.
        """
        above = self._holder(parent)
        if above is None or not self.is_live(parent, now) or expires_at > above.expires_at:
            return False
        self._note(LiveGrant(above.node, above.root, (lease_id,), expires_at, above.references))
        above.children = above.children or {}
        above.children.setdefault(parent, []).append(lease_id)
        return True

    def _note(self, grant: LiveGrant) -> None:
        for lease_id in grant.lease_ids:
            self._by_index[status_index(lease_id)] = grant
        siblings = self._of_node.get(grant.node)
        if siblings is None:
            self._of_node[grant.node] = [grant]
        else:
            siblings.append(grant)
        self._order.append(grant)

    def forget(self, grant: LiveGrant) -> None:
        """Take back what was noted and then not committed: nobody has these leases."""
        for lease_id in grant.lease_ids:
            index = status_index(lease_id)
            self._by_index.pop(index, None)
            # It may have been ended meanwhile: its bit would stand for the next lease of its index.
            self._ended.discard(index)
        grant.lease_ids = ()

    def is_free(self, index: int) -> bool:
        """Tell whether no lease that may be accepted somewhere has this index."""
        return index not in self._by_index

    def is_live(self, lease_id: bytes, now: int) -> bool:
        """Tell whether this lease was granted, is not over and has not ended."""
        grant = self._holder(lease_id)
        return (
            grant is not None
            and grant.expires_at > now
            and status_index(lease_id) not in self._ended
        )

    def _holder(self, lease_id: bytes) -> LiveGrant | None:
        grant = self._by_index.get(status_index(lease_id))
        return grant if grant is not None and lease_id in grant.lease_ids else None

    def node_of(self, lease_id: bytes) -> bytes | None:
        """Return whose lease this is, if it is known."""
        grant = self._holder(lease_id)
        return None if grant is None else grant.node

    def end_node(self, node: bytes, *, but: bytes | None = None) -> tuple[bytes, ...]:
        """End every lease of a node, but those of one lineage; return those that had not ended.

        Args:
            node: The node.
            but: Root of the lineage that goes on.
        """
        ended = [
            lease_id
            for grant in self._of_node.get(node, ())
            if grant.root != but
            for lease_id in self._end(grant)
        ]
        return tuple(ended)

    def end_lineage(self, node: bytes, root: bytes) -> tuple[bytes, ...]:
        """End the leases of one lineage of a node; return those that had not ended."""
        ended = [
            lease_id
            for grant in self._of_node.get(node, ())
            if grant.root == root
            for lease_id in self._end(grant)
        ]
        return tuple(ended)

    def end_lease(self, lease_id: bytes) -> tuple[bytes, ...]:
        """End a lease with all that was delegated from it; return what had not ended."""
        grant = self._holder(lease_id)
        if grant is None:
            return ()
        ended = list(self._end_one(lease_id))
        for child in (grant.children or {}).get(lease_id, ()):
            ended += self.end_lease(child)
        return tuple(ended)

    def _end(self, grant: LiveGrant) -> Iterator[bytes]:
        # What was delegated from these leases is another grant of the same node and lineage.
        for lease_id in grant.lease_ids:
            yield from self._end_one(lease_id)

    def _end_one(self, lease_id: bytes) -> Iterator[bytes]:
        index = status_index(lease_id)
        if index not in self._ended:
            self._ended.add(index)
            yield lease_id

    def lineages(self) -> set[tuple[bytes, bytes]]:
        """Return node and root of every lineage that has leases here."""
        return {(grant.node, grant.root) for grant in self._order}

    def lineages_on(self, reference: bytes) -> set[tuple[bytes, bytes]]:
        """Return node and root of every lineage with a lease that rests on a reference set."""
        return {(grant.node, grant.root) for grant in self._order if reference in grant.references}

    def bits(self, now: int) -> list[int]:
        """Return the indexes of leases that have ended and whose tokens may not have expired."""
        self.tidy(now)
        return list(self._ended)

    def tidy(self, now: int) -> None:
        """Let go of leases whose tokens nobody accepts any more."""
        if self._is_wary(now):
            return
        order, over = self._order, now - KEPT
        while order and order[0].expires_at <= over:
            grant = order.popleft()
            for lease_id in grant.lease_ids:
                index = status_index(lease_id)
                if self._by_index.get(index) is grant:
                    del self._by_index[index]
                    self._ended.discard(index)
            siblings = self._of_node[grant.node]
            siblings.remove(grant)
            if not siblings:
                del self._of_node[grant.node]

    def began(self, before: int, now: int) -> None:
        """Note when the clock was looked at before a start: it may have leapt since.

        Args:
            before: Seconds since the epoch, when the last lease was granted.
            now: The same, now.
        """
        self._looked_at = before
        self._is_wary(now)

    def _is_wary(self, now: int) -> bool:
        # A clock that leaps ahead and is set right again must not have taken the bits of tokens
        # that live on everywhere else. After a leap nothing is let go of until all is over that was
        # granted before it, by whichever clock.
        looked_at, self._looked_at = self._looked_at, now
        if looked_at is not None and abs(now - looked_at) > LEAP:
            self._wary_until = now + MAX_LIFE + KEPT
        return now < self._wary_until

    def __len__(self) -> int:
        return len(self._by_index)
