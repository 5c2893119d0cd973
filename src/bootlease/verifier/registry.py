"""What the operator has decided, loaded: active policy, reference sets, roots, credentials.

A snapshot is immutable and replaced whole after a change, so that one decision sees one state. A
verifier process is the only writer of its store, so its snapshot is never stale.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
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
from bootlease.verifier.continuity.revoked import NOTHING_REVOKED, Revoked
from bootlease.verifier.problems import ProblemError, ProblemKind

_EPOCHS: Final = 9
"""Policies looked at for the lowest epoch that counts. Of earlier ones no lease lives, unless more
are activated within the life of one lease; such a lease then runs out by itself."""
_NONE_KNOWN: Final[Mapping[bytes, AnyReference]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Floor:
    """A policy epoch that becomes the lowest that counts.

    Attributes:
        epoch: Its number.
        since: Seconds since the epoch from which on leases of earlier ones do not count.
    """

    epoch: int
    since: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The operator's decisions at one moment.

    Attributes:
        active: The active policy with its epoch, or None before the first.
        references: Every registered set, the oldest first.
        accepted: Those about a boot that the active policy accepts.
        accepted_ima: Those about loaded files that it accepts.
        ima_digests: Their digests.
        roots: Trust anchors for EK certificates, and what they revoked.
        credentials: Admin credentials that count.
        in_force: The store's numbers of all that.
        revoked: What the operator revoked.
        floors: From when on which policy epoch is the lowest that counts.
    """

    active: PolicyEpoch | None
    references: tuple[AnyReference, ...]
    roots: TrustedRoots
    credentials: tuple[StoredCredential, ...]
    in_force: InForce
    revoked: Revoked = NOTHING_REVOKED
    floors: tuple[Floor, ...] = ()
    accepted: tuple[ReferenceSet, ...] = field(init=False)
    accepted_ima: tuple[IMAReferenceSet, ...] = field(init=False)
    ima_digests: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        boot, ima = frozenset[str](), frozenset[str]()
        if self.active is not None:
            policy = self.active.policy
            boot, ima = frozenset(policy.accept), frozenset(policy.ima.accept)
        # The latest registered version first: it is the one that most of a fleet runs.
        newest_first = self.references[::-1]
        standing = [each for each in newest_first if each.digest not in self.revoked.references]
        accepted = tuple(
            each for each in standing if isinstance(each, ReferenceSet) and each.name in boot
        )
        accepted_ima = tuple(
            each for each in standing if isinstance(each, IMAReferenceSet) and each.name in ima
        )
        object.__setattr__(self, "accepted", accepted)
        object.__setattr__(self, "accepted_ima", accepted_ima)
        object.__setattr__(self, "ima_digests", tuple(each.digest for each in accepted_ima))

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

    def min_epoch(self, now: int) -> int:
        """Return the lowest policy epoch whose leases count."""
        passed = [floor.epoch for floor in self.floors if floor.since <= now]
        return max([self.revoked.epoch, *passed])


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
    latest = await store.continuity.latest_policies(at_most=_EPOCHS)
    return Snapshot(
        revoked=Revoked.of(await store.continuity.revocations()),
        floors=await asyncio.to_thread(_floors, latest),
        active=None if stored is None else PolicyEpoch(parse_policy(stored.document), stored.epoch),
        references=references,
        roots=TrustedRoots.of(await store.roots()),
        credentials=tuple(each for each in await store.credentials() if each.revoked_at is None),
        in_force=in_force,
    )


def _floors(latest: Sequence[StoredPolicy]) -> tuple[Floor, ...]:
    # Whoever still complies renews under the new policy before a lease of the old one has run out,
    # so a benign edit stops nobody (design section 4, step 7).
    floors, since = [], 0
    for before, after in itertools.pairwise(reversed(latest)):
        # A policy with short lives in between does not cut those off that one before it granted.
        since = max(since, after.activated_at + _life_of(before.document))
        floors.append(Floor(after.epoch, since))
    return tuple(floors)


@functools.lru_cache(maxsize=2 * _EPOCHS)
def _life_of(document: bytes) -> int:
    return parse_policy(document).lease.life


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

    Attributes:
        changed: Called when the snapshot was replaced.
    """

    def __init__(self, store: Store, clock: Clock, snapshot: Snapshot) -> None:
        self._store = store
        self._clock = clock
        self._snapshot = snapshot
        self._loading = asyncio.Lock()
        self.changed: list[Callable[[], None]] = []

    @property
    def now(self) -> Snapshot:
        """The state at this moment."""
        return self._snapshot

    async def activate_policy(
        self, document: bytes, *, author: str, revoke_now: bool = False
    ) -> PolicyEpoch:
        """Activate a policy file as the next epoch; ``author`` goes into the ledger.

        The first may come before its references; until they are registered it refuses everybody.
        Leases of earlier epochs count for one life more, or with ``revoke_now`` no longer.

        Raises:
            MalformedError: It is not a policy.
            ProblemError: Another activation came first.
        """
        policy = parse_policy(document)
        active = self._snapshot.active
        self.demand_known(policy)
        epoch = 1 if active is None else active.epoch + 1
        stored = StoredPolicy(epoch, policy.id, policy.digest, document, self._clock.now())
        if not await self._store.activate_policy(stored, author=author, revoke_now=revoke_now):
            raise ProblemError(
                ProblemKind.CONFLICT, "Another policy was activated at the same moment; look first."
            )
        await self.reload()
        return PolicyEpoch(policy, epoch)

    def demand_known(self, policy: Policy) -> None:
        """Demand that every set which a policy accepts is registered; the first may come before.

        Raises:
            MalformedError: One is not, or the policy costs too much to decide by.
        """
        try:
            policy.authorization.policies.demand_affordable()
        except MalformedError as exc:
            raise MalformedError(f"policy: authorization.cedar: {exc}") from exc
        if self._snapshot.active is None:
            return
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
            for changed in self.changed:
                changed()
