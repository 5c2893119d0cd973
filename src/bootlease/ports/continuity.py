"""What ends authorization before a lease does, as values and as a Protocol."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bootlease.ports.values import StoredPolicy


class RevokedKind(enum.Enum):
    """What a revocation is about."""

    NODE = "node"
    LEASE = "lease"
    LINEAGE = "lineage"
    REFERENCE = "reference"
    FAMILY = "family"
    EPOCH = "epoch"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class StoredRevocation:
    """A revocation, or the end of one.

    Attributes:
        kind: What it is about.
        subject: Which: a node, lease, lineage root or reference digest in hex, a family as
            ``verifier.continuity.revoked`` writes it, the lowest epoch that counts, a key id.
        in_force: It begins; False where it ends one of the same kind and subject.
        reason: Why, in the operator's words.
        author: Whose decision it was.
        at: Seconds since the epoch.
        number: Place among all of them, from 1; 0 before it is stored.
    """

    kind: RevokedKind
    subject: str
    in_force: bool
    reason: str
    author: str
    at: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """Leases of one decision that have not expired.

    Attributes:
        node: Node id.
        root: Evidence digest that their lineage began with.
        lease_ids: 16 bytes each.
        expires_at: First second at which they are over.
        references: Digests of the reference sets that the decision considered.
        goes_on: The node's lineage is still theirs.
    """

    node: bytes
    root: bytes
    lease_ids: tuple[bytes, ...]
    expires_at: int
    references: tuple[bytes, ...]
    goes_on: bool


@dataclass(frozen=True, slots=True)
class RecentGrants:
    """The grants whose leases may count somewhere.

    Attributes:
        grants: The grants, the oldest first.
        latest: When the last decision was made, by the clock of then; None where there is none.
    """

    grants: tuple[StoredGrant, ...]
    latest: int | None


class ContinuityStore(Protocol):
    """What a verifier remembers of what ended; a part of ``Store``, whose promises it shares."""

    async def reserve_block(self) -> int:
        """Return the number of a block of status indexes that nobody else was or will be given."""

    async def add_revocation(self, revocation: StoredRevocation) -> bool:
        """Keep a revocation; False where it changes nothing: there is such a one, or none to end.

        Every decision that was appraised before and is not committed yet is ``OUTDATED`` by it.
        """

    async def revocations(self) -> Sequence[StoredRevocation]:
        """Return every revocation and every end of one, the oldest first."""

    async def end_lineages(self, lineages: Sequence[tuple[bytes, bytes | None]]) -> None:
        """End lineages: of each node the one that began with this evidence, or any.

        Their leases are not renewed any more; the nodes may begin anew with full evidence.
        """

    async def latest_policies(self, *, at_most: int) -> Sequence[StoredPolicy]:
        """Return the policies activated last, the latest first."""

    async def recent_grants(self, *, kept: int, step: int) -> RecentGrants:
        """Return the grants whose leases may count somewhere, the oldest first.

        Found by what is recorded alone: the clock may be wrong now, or have been before.

        Args:
            kept: Seconds for which a lease counts beyond its end.
            step: Seconds from a decision to the next that are counted at most.
        """

    async def live_grants(self, *, since: int, now: int) -> Sequence[StoredGrant]:
        """Return the grants of this second and later whose leases are not over, the oldest first.

        Args:
            since: No lease that lives was granted before.
            now: Seconds since the epoch.
        """
