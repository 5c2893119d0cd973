"""What the operator has decided, loaded: active policy, reference sets, roots, credentials.

A snapshot is immutable and replaced whole after a change, so that one decision sees one state. A
verifier process is the only writer of its store, so its snapshot is never stale.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bootlease.endorsement import TrustedRoots, parse_certificates
from bootlease.errors import MalformedError
from bootlease.policy import Policy, PolicyEpoch, parse_policy
from bootlease.ports import (
    Clock,
    Governance,
    Store,
    StoredCredential,
    StoredPolicy,
    StoredReference,
)
from bootlease.reference import ReferenceSet, parse_reference
from bootlease.verifier.problems import ProblemError, ProblemKind


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The operator's decisions at one moment.

    Attributes:
        active: The active policy with its epoch, or None before the first.
        references: Every registered set, the oldest first.
        accepted: Those of them that the active policy accepts.
        roots: Trust anchors for EK certificates.
        credentials: Admin credentials.
        governance: The store's numbers of all that.
    """

    active: PolicyEpoch | None
    references: tuple[ReferenceSet, ...]
    roots: TrustedRoots
    credentials: tuple[StoredCredential, ...]
    governance: Governance
    accepted: tuple[ReferenceSet, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = frozenset[str]() if self.active is None else frozenset(self.active.policy.accept)
        # The latest registered version first: it is the one that most of a fleet runs.
        newest_first = tuple(each for each in reversed(self.references) if each.name in names)
        object.__setattr__(self, "accepted", newest_first)

    @property
    def policy(self) -> PolicyEpoch:
        """The active policy.

        Raises:
            ProblemError: There is none: nothing can be decided.
        """
        if self.active is None:
            raise ProblemError(
                ProblemKind.UNAVAILABLE, "No policy is active: an operator must activate one."
            )
        return self.active


async def load_snapshot(store: Store) -> Snapshot:
    """Read the operator's decisions from the store."""
    # First: where something changes while the rest is read, the numbers are old rather than new,
    # and the first decision that is to be recorded finds out.
    governance = await store.governance()
    stored = await store.policy()
    return Snapshot(
        active=None if stored is None else PolicyEpoch(parse_policy(stored.document), stored.epoch),
        references=tuple(parse_reference(each.document) for each in await store.references()),
        roots=TrustedRoots.of(await store.roots()),
        credentials=tuple(await store.credentials()),
        governance=governance,
    )


class Registry:
    """Holds the snapshot and changes it, in the store first.

    Args:
        store: Where decisions are kept.
        clock: Dates them.
        snapshot: The state of the store.
    """

    def __init__(self, store: Store, clock: Clock, snapshot: Snapshot) -> None:
        self._store = store
        self._clock = clock
        self._snapshot = snapshot
        self._loading = asyncio.Lock()

    @property
    def now(self) -> Snapshot:
        """The state at this moment."""
        return self._snapshot

    async def activate_policy(self, document: bytes, *, author: str) -> PolicyEpoch:
        """Activate a policy file as the next epoch; ``author`` goes into the ledger.

        The first may come before its references; until they are registered it refuses everybody.

        Raises:
            MalformedError: It is not a policy.
            ProblemError: Another activation came first.
        """
        policy = parse_policy(document)
        active = self._snapshot.active
        if active is not None:
            self._demand_known(policy)
        epoch = 1 if active is None else active.epoch + 1
        stored = StoredPolicy(epoch, policy.id, policy.digest, document, self._clock.now())
        if not await self._store.activate_policy(stored, author=author):
            raise ProblemError(
                ProblemKind.CONFLICT, "Another policy was activated at the same moment; look first."
            )
        await self.reload()
        return PolicyEpoch(policy, epoch)

    def _demand_known(self, policy: Policy) -> None:
        # A name that nothing is registered under is a typo far more often than a plan, and would
        # refuse the fleet (design section 6: an unknown name is an error).
        known = {reference.name for reference in self._snapshot.references}
        if unknown := [name for name in policy.accept if name not in known]:
            raise MalformedError(
                f"policy: references.accept names {', '.join(unknown)}, of which no reference set"
                " is registered"
            )

    async def register_reference(
        self, document: bytes, *, author: str
    ) -> tuple[ReferenceSet, bool]:
        """Register a reference file; tell whether it is new.

        Raises:
            MalformedError: It is not a reference file.
        """
        reference = parse_reference(document)
        stored = StoredReference(reference.name, reference.digest, document, self._clock.now())
        new = await self._store.add_reference(stored, author=author)
        await self.reload()
        return reference, new

    async def add_roots(self, data: bytes, *, author: str) -> tuple[bytes, ...]:
        """Trust the CA certificates of a PEM bundle or DER file; return their fingerprints.

        Raises:
            MalformedError: One of them is no CA certificate.
        """
        ders = parse_certificates(data)
        roots = TrustedRoots.of([*self._snapshot.roots.certificates.values(), *ders])
        for der in ders:
            await self._store.add_root(der, now=self._clock.now(), author=author)
        await self.reload()
        return tuple(name for name, der in roots.certificates.items() if der in ders)

    async def reload(self) -> None:
        """Take over the store's state."""
        # One after the other, so that none overwrites what a later one has read.
        async with self._loading:
            self._snapshot = await load_snapshot(self._store)
