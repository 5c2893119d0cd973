"""Revoking: what an operator ends, durable before it is published, and published at once.

Order, labelled in the code. After the first step no decision is committed that was appraised
before, so nothing is granted any more of what is revoked; what was granted until then is all in
memory, for a lease is noted before it is committed:

1. the revocation, with its governance record;
2. the operator's decisions as they stand now: challenges and leases are refused from here on;
3. the lineages concerned end in the store, so that a verifier that starts again knows it;
4. their leases' bits, the next continuity statement, and whoever listens.

What was decided before stays as it was decided: revocations are no input of an appraisal, and
an audit replays decisions without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.ports import Clock, RevokedKind, Store, StoredRevocation
from bootlease.token import KeySet
from bootlease.verifier.continuity.ending import Ended, Ending, EndKind
from bootlease.verifier.continuity.live import LiveLeases
from bootlease.verifier.continuity.revoked import Revoked, parse_subject
from bootlease.verifier.loglines import log_event
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.registry import Registry

LIFTED: Final = frozenset({RevokedKind.REFERENCE, RevokedKind.FAMILY})
"""What is taken back here. A node is readmitted, which lets its TPM count anew as well; the rest
has run out by itself before anybody could."""
_UNKNOWN: Final = {
    RevokedKind.NODE: "No node with this id is enrolled.",
    RevokedKind.LEASE: "No lease of this id counts now: it is over, or was never granted.",
    RevokedKind.LINEAGE: "No lease of this lineage counts now: it is over, or there was none.",
    RevokedKind.REFERENCE: "No reference set with this digest is registered.",
    RevokedKind.EPOCH: "No policy was activated as this epoch yet: activate one first.",
}
_Pair = tuple[bytes, bytes | None]
"""Node and root of a lineage that ends; None for whichever lineage the node has."""
_AT_ONCE: Final = 256
"""Nodes looked at before others have their turn."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What came of revoking.

    Attributes:
        stored: The revocation.
        new: It was none before.
        nodes: How many nodes had leases that it ended.
        leases: How many leases.
    """

    stored: StoredRevocation
    new: bool
    nodes: int
    leases: int


class Revoking:
    """Revokes, and takes back.

    Args:
        store: Where revocations are kept.
        registry: The operator's decisions.
        ending: Ends leases, and knows which live.
        clock: Dates them.
        keys: Returns the token keys that count, the one that signs first.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        ending: Ending,
        clock: Clock,
        keys: Callable[[], KeySet],
    ) -> None:
        self._store = store
        self._registry = registry
        self._ending = ending
        self._live: LiveLeases = ending.live
        self._clock = clock
        self._keys = keys
        self._one = asyncio.Lock()

    async def revoke(
        self, kind: RevokedKind, subject: str, *, reason: str, author: str
    ) -> Revocation:
        """Revoke something.

        Raises:
            MalformedError: There can be no such subject.
            ProblemError: There is none.
        """
        named = parse_subject(kind, subject)
        await self._demand_known(kind, named)
        stored = StoredRevocation(
            kind, named, in_force=True, reason=reason, author=author, at=self._clock.now()
        )
        # One after the other, so that each sees what the one before has left.
        async with self._one:
            # 1.
            new = await self._store.continuity.add_revocation(stored)
            try:
                # 2.
                await self._registry.reload()
            finally:
                # It is durable: no failure from here on keeps it from being published.
                ended = await self._published(kind, named, reason)
        log_event("revoked", kind=kind.value, subject=named, leases=sum(map(len, ended.values())))
        return Revocation(stored, new, len(ended), sum(map(len, ended.values())))

    async def _published(
        self, kind: RevokedKind, subject: str, reason: str
    ) -> dict[bytes, tuple[bytes, ...]]:
        if kind is RevokedKind.LEASE:
            return self._end_lease(bytes.fromhex(subject), reason)
        return await self._end(await self._concerned(kind, subject), reason)

    async def lift(
        self, kind: RevokedKind, subject: str, *, reason: str, author: str
    ) -> StoredRevocation:
        """Take a revocation back; leases that it ended stay ended.

        Raises:
            MalformedError: There can be no such subject.
            ProblemError: It is not revoked, or this kind cannot be taken back.
        """
        named = self.demand_liftable(kind, subject)
        stored = StoredRevocation(
            kind, named, in_force=False, reason=reason, author=author, at=self._clock.now()
        )
        if not await self._store.continuity.add_revocation(stored):
            raise _not_revoked(kind)
        await self._registry.reload()
        log_event("revocation-lifted", kind=kind.value, subject=named)
        return stored

    def demand_liftable(self, kind: RevokedKind, subject: str) -> str:
        """Return the one spelling of a subject whose revocation is in force and can be taken back.

        Raises:
            MalformedError: There can be no such subject.
            ProblemError: It is not revoked, or this kind cannot be taken back.
        """
        named = parse_subject(kind, subject)
        if kind is RevokedKind.NODE:
            raise ProblemError(
                ProblemKind.CONFLICT, "A node that was revoked is readmitted, and not taken back."
            )
        if kind not in LIFTED or not self._registry.now.revoked.has(kind, named):
            raise _not_revoked(kind)
        return named

    async def resume(self) -> None:
        """End once more what was revoked: a verifier may have been killed in the middle of it."""
        revoked = self._registry.now.revoked
        concerned: set[_Pair] = {(node, None) for node in revoked.nodes}
        concerned.update(pair for pair in self._live.lineages() if pair[1] in revoked.lineages)
        for reference in revoked.references:
            concerned.update(self._live.lineages_on(reference))
        concerned.update(await self._of_families(revoked))
        await self._end(concerned, "revoked before the verifier started")
        for lease_id in revoked.leases:
            self._live.end_lease(lease_id)

    async def _demand_known(self, kind: RevokedKind, subject: str) -> None:
        now, known = self._clock.now(), True
        snapshot = self._registry.now
        if kind is RevokedKind.NODE:
            known = await self._store.node(bytes.fromhex(subject)) is not None
        elif kind is RevokedKind.LEASE:
            lease_id = bytes.fromhex(subject)
            known = self._live.is_live(lease_id, now) or lease_id in snapshot.revoked.leases
        elif kind is RevokedKind.LINEAGE:
            root = bytes.fromhex(subject)
            known = root in {each for _, each in self._live.lineages()} | snapshot.revoked.lineages
        elif kind is RevokedKind.REFERENCE:
            known = subject in {each.digest.hex() for each in snapshot.references}
        elif kind is RevokedKind.EPOCH:
            known = snapshot.active is not None and int(subject) <= snapshot.active.epoch
        elif kind is RevokedKind.KEY:
            self._demand_retired(subject)
        if not known:
            raise ProblemError(ProblemKind.NOT_FOUND, _UNKNOWN[kind])

    def _demand_retired(self, key_id: str) -> None:
        keys = self._keys().keys
        if key_id == keys[0].key_id:
            raise ProblemError(
                ProblemKind.CONFLICT,
                "This key signs tokens now: rotate the key first, then revoke it.",
            )
        if key_id not in {each.key_id for each in keys} | self._registry.now.revoked.keys:
            raise ProblemError(ProblemKind.NOT_FOUND, "No such token key counts.")

    async def _concerned(self, kind: RevokedKind, subject: str) -> Collection[_Pair]:
        if kind is RevokedKind.NODE:
            return [(bytes.fromhex(subject), None)]
        if kind is RevokedKind.LINEAGE:
            return {pair for pair in self._live.lineages() if pair[1].hex() == subject}
        if kind is RevokedKind.REFERENCE:
            return self._live.lineages_on(bytes.fromhex(subject))
        if kind is RevokedKind.FAMILY:
            return await self._of_families(self._registry.now.revoked)
        # An epoch and a key are told by the statement alone: nodes renew under others.
        return ()

    async def _of_families(self, revoked: Revoked) -> set[tuple[bytes, bytes]]:
        if not revoked.makes and not revoked.roots:
            return set()
        found, refused = set(), dict[bytes, bool]()
        for number, (node, root) in enumerate(self._live.lineages()):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if node not in refused:
                enrolled = await self._store.node(node)
                refused[node] = (
                    enrolled is not None and revoked.finding(enrolled.enrolment) is not None
                )
            if refused[node]:
                found.add((node, root))
        return found

    async def _end(
        self, concerned: Collection[_Pair], reason: str
    ) -> dict[bytes, tuple[bytes, ...]]:
        """End lineages and their leases; return the leases by node."""
        pairs = sorted(concerned, key=lambda pair: (pair[0], pair[1] or b""))
        try:
            # 3.
            await self._store.continuity.end_lineages(pairs)
        finally:
            # 4.
            ended = self._end_leases(pairs, reason)
        return ended

    def _end_leases(self, pairs: Sequence[_Pair], reason: str) -> dict[bytes, tuple[bytes, ...]]:
        ended: dict[bytes, tuple[bytes, ...]] = {}
        for node, root in pairs:
            leases = (
                self._live.end_node(node) if root is None else self._live.end_lineage(node, root)
            )
            ended[node] = ended.get(node, ()) + leases
        now = self._clock.now()
        for node, leases in ended.items():
            self._ending.tell(Ended(EndKind.REVOKED, node, leases, reason, now))
        return ended

    def _end_lease(self, lease_id: bytes, reason: str) -> dict[bytes, tuple[bytes, ...]]:
        node, leases = self._live.node_of(lease_id), self._live.end_lease(lease_id)
        if node is None or not leases:
            return {}
        self._ending.tell(Ended(EndKind.REVOKED, node, leases, reason, self._clock.now()))
        return {node: leases}


def _not_revoked(kind: RevokedKind) -> ProblemError:
    return ProblemError(
        ProblemKind.NOT_FOUND,
        f"No revocation of this {kind.value} is in force that could be taken back.",
    )
