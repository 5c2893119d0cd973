"""Delegated leases as values, and as a Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bootlease.ledger import Receipt


@dataclass(frozen=True, slots=True)
class NewDelegation:
    """A delegated lease that is to be recorded.

    Attributes:
        digest: Of the delegation record.
        record: The delegation record.
        lease_id: 16 bytes.
        parent: Lease id of what was passed on.
        use: Names the grant it is given for, of which there is one use (``Grant.use``).
        expires_at: First second at which it is over.
        encoding: Form of its token: ``cwt`` or ``jwt``.
        claims: What its token says, deterministic CBOR.
        signatures: How it was signed (``token.signatures``).
        now: Seconds since the epoch.
    """

    digest: bytes
    record: bytes
    lease_id: bytes
    parent: bytes
    use: bytes
    expires_at: int
    encoding: str
    claims: bytes
    signatures: bytes
    now: int


@dataclass(frozen=True, slots=True)
class StoredDelegation:
    """A delegated lease as recorded.

    Attributes:
        number: Place among all of them, from 1.
        new: What was recorded; ``now`` is not kept, and 0.
        receipt: Of its leaf in the ledger.
    """

    number: int
    new: NewDelegation
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class LiveDelegation:
    """A delegated lease that has not expired.

    Attributes:
        parent: Lease id of what was passed on.
        lease_id: 16 bytes.
        expires_at: First second at which it is over.
    """

    parent: bytes
    lease_id: bytes
    expires_at: int


class DelegationStore(Protocol):
    """What a verifier remembers of delegated leases; a part of ``Store``.

    It shares the promises of ``Store``.
    """

    async def given(self, use: bytes) -> StoredDelegation | None:
        """Return what was given for a grant."""

    async def commit(self, new: NewDelegation) -> StoredDelegation:
        """Record a delegated lease; where its grant has become one already, return that one.

        Its leaf is in the ledger, sealed under a checkpoint, when this returns.
        """

    async def live(self, *, now: int) -> Sequence[LiveDelegation]:
        """Return the delegated leases that are not over, in the order in which they were given."""
