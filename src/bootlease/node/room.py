"""How long wishes may be: one quote's evidence carries all of them, and is of bounded length.

Every verifier takes evidence of 64 KiB without its logs, and 1 KiB for each lease where its policy
grants more than 64 at once (docs/protocol.md, "Limits"). Which wishes are asked for together
changes from renewal to renewal: some are withdrawn, some wait. So it is the 64 longest that must
have room; then every part of them has.

Who shares that room with others has a share of it, as of the number of leases. Nobody can use up
what others have not used yet: their wishes would be turned away, or, in evidence that no verifier
reads, the leases of all would end.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from bootlease import cbor
from bootlease.node.confirm import Confirmation, ConfirmationKey
from bootlease.node.wish import LeaseWish

_COUNTED: Final = 64
"""Leases that the verifier's first 64 KiB are for; each further one brings its own."""
_NO_LEASE: Final = 3 * 1024
"""Of the evidence, what is no lease: binding, quote, signature and PCR values."""
ROOM: Final = 64 * 1024 - _NO_LEASE
"""Bytes for the longest leases."""
EACH: Final = ROOM // _COUNTED
"""Bytes that every lease may have, however many there are."""
_AROUND: Final = 32
"""Of a lease, what is neither its purpose nor its key."""
_KEY: Final = {
    Confirmation.PROCESS: 96,
    Confirmation.TPM: 600,
    Confirmation.TPM_EXPIRING: 700,
}
"""Bytes of a key that the agent makes, certified by an RSA key."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the room that is one owner's.

    Attributes:
        leases: How many leases the owner may have at once.
        of: How many all owners together may have.
    """

    leases: int
    of: int

    def has_room(self, sizes: Collection[int], standing: Collection[int]) -> bool:
        """Tell whether one owner's wishes leave all others their room.

        They do if everybody's could be like them: as long on average, or, where there may be so
        many that evidence grows with their number, as the longest.

        Args:
            sizes: Bytes of each of the owner's wishes.
            standing: Bytes of each wish that nobody owns.
        """
        if self.leases == self.of:
            return fits((*standing, *sizes))
        many = self.of + len(standing) > _COUNTED
        each = max(sizes) if many else -(-sum(sizes) // self.leases)
        return fits((*standing, *(each for _ in range(self.of))))


def fits(sizes: Iterable[int]) -> bool:
    """Tell whether wishes of these sizes can be asked for at once, and any part of them."""
    return sum(heapq.nlargest(_COUNTED, sizes)) <= ROOM


def size_of(wish: LeaseWish, key: Confirmation | ConfirmationKey) -> int:
    """Return the bytes of evidence that a wish takes, at most."""
    known = _KEY[key] if isinstance(key, Confirmation) else len(cbor.encode(key.request.wire()))
    return len(wish.purpose()) + known + _AROUND
