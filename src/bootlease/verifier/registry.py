"""What the operator has decided, loaded: active policy, reference sets, roots, credentials.

A snapshot is immutable and replaced whole after a change, so that one decision sees one state. A
verifier process is the only writer of its store, so its snapshot is never stale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from bootlease.endorsement import TrustedRoots, parse_certificates
from bootlease.errors import MalformedError
from bootlease.policy import Policy, PolicyEpoch, parse_policy
from bootlease.ports import (
    Clock,
    InForce,
    Store,
    StoredCredential,
    StoredPolicy,
    StoredReference,
)
from bootlease.reference import (
    AnyReference,
    IMAReferenceSet,
    ReferenceSet,
    parse_any_reference,
)
from bootlease.verifier.problems import ProblemError, ProblemKind

_NONE_KNOWN: Final[Mapping[bytes, AnyReference]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The operator's decisions at one moment.

    Attributes:
        active: The active policy with its epoch, or None before the first.
        references: Every registered set, the oldest first.
        accepted: Those about a boot that the active policy accepts.
        accepted_ima: Those about loaded files that it accepts.
        roots: Trust anchors for EK certificates, and what they revoked.
        credentials: Admin credentials.
        in_force: The store's numbers of all that.
    """

    active: PolicyEpoch | None
    references: tuple[AnyReference, ...]
    roots: TrustedRoots
    credentials: tuple[StoredCredential, ...]
    in_force: InForce
    accepted: tuple[ReferenceSet, ...] = field(init=False)
    accepted_ima: tuple[IMAReferenceSet, ...] = field(init=False)

    def __post_init__(self) -> None:
        boot, ima = frozenset[str](), frozenset[str]()
        if self.active is not None:
            policy = self.active.policy
            boot, ima = frozenset(policy.accept), frozenset(policy.ima.accept)
        # The latest registered version first: it is the one that most of a fleet runs.
        newest_first = self.references[::-1]
        accepted = tuple(
            each for each in newest_first if isinstance(each, ReferenceSet) and each.name in boot
        )
        accepted_ima = tuple(
            each for each in newest_first if isinstance(each, IMAReferenceSet) and each.name in ima
        )
        object.__setattr__(self, "accepted", accepted)
        object.__setattr__(self, "accepted_ima", accepted_ima)

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


async def load_snapshot(
    store: Store, known: Mapping[bytes, AnyReference] = _NONE_KNOWN
) -> Snapshot:
    """Read the operator's decisions from the store.

    Args:
        store: Where they are kept.
        known: Sets by digest that are at hand: one of a hundred thousand files takes a second.
    """
    # First: where something changes while the rest is read, the numbers are old rather than new,
    # and the first decision that is to be recorded finds out.
    in_force = await store.in_force()
    stored = await store.policy()
    references = await asyncio.to_thread(_parsed, await store.references(), known)
    return Snapshot(
        active=None if stored is None else PolicyEpoch(parse_policy(stored.document), stored.epoch),
        references=references,
        roots=TrustedRoots.of(await store.roots()),
        credentials=tuple(await store.credentials()),
        in_force=in_force,
    )


def _parsed(
    stored: Sequence[StoredReference], known: Mapping[bytes, AnyReference]
) -> tuple[AnyReference, ...]:
    return tuple(known.get(each.digest) or parse_any_reference(each.document) for each in stored)


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
        references = self._snapshot.references
        for member, accept, kind in (
            ("references.accept", policy.accept, ReferenceSet),
            ("ima.accept", policy.ima.accept, IMAReferenceSet),
        ):
            known = {each.name for each in references if isinstance(each, kind)}
            if unknown := [name for name in accept if name not in known]:
                raise MalformedError(
                    f"policy: {member} names {', '.join(unknown)}, of which no reference set of"
                    " that kind is registered"
                )

    async def register_reference(
        self, document: bytes, *, author: str
    ) -> tuple[AnyReference, bool]:
        """Register a reference file of any kind; tell whether it is new.

        Raises:
            MalformedError: It is not a reference file.
        """
        # Aside: renewals go on while a set of a hundred thousand files is read.
        reference = await asyncio.to_thread(parse_any_reference, document)
        stored = StoredReference(reference.name, reference.digest, document, self._clock.now())
        new = await self._store.add_reference(stored, author=author)
        await self.reload()
        return reference, new

    async def add_roots(self, data: bytes, *, author: str) -> tuple[bytes, ...]:
        """Trust the CA certificates of a PEM bundle or DER file, and take its revocation lists.

        Returns:
            SHA-256 of each certificate and list.

        Raises:
            MalformedError: One of them is no CA certificate, or no list of a trusted CA.
        """
        # Aside: renewals go on while a long revocation list is read.
        ders = await asyncio.to_thread(parse_certificates, data)
        roots = TrustedRoots.of([*self._snapshot.roots.members.values(), *ders])
        for der in ders:
            await self._store.add_root(der, now=self._clock.now(), author=author)
        await self.reload()
        return tuple(name for name, der in roots.members.items() if der in ders)

    async def reload(self) -> None:
        """Take over the store's state."""
        # One after the other, so that none overwrites what a later one has read.
        async with self._loading:
            known = {each.digest: each for each in self._snapshot.references}
            self._snapshot = await load_snapshot(self._store, known)
