"""The book of wishes: what an agent is asked to keep leases for, while it runs.

Workloads come and go in other threads than the one that attests, so the book has a lock. Who wishes
wakes the worker; who withdraws does not, for the next renewal leaves it out anyway. A wish that was
denied alone is left out too, for a pause that grows with each denial: one workload that may not
have what it wants must not cost every renewal of the others.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NewType

from bootlease import cbor
from bootlease.errors import TransportError
from bootlease.evidence.request import MAX_LEASES
from bootlease.node.confirm import Confirmation, ConfirmationKey
from bootlease.node.pacing import DENIED, Jitter
from bootlease.node.wish import LeaseWish

WishId = NewType("WishId", int)
"""Names a wish for as long as the agent runs; never used again."""

_TAKEN: Final = 64 * 1024
_TAKEN_EACH: Final = 1024
"""Bytes of evidence without its logs that every verifier takes, and for each lease where its policy
grants more of them at once (docs/protocol.md, "Limits")."""
_NO_LEASE: Final = 3 * 1024
"""Of these, what is no lease: binding, quote, signature and PCR values."""
_AROUND: Final = 32
"""Of a lease, what is neither its purpose nor its key."""
_KEY: Final = {
    Confirmation.PROCESS: 96,
    Confirmation.TPM: 600,
    Confirmation.TPM_EXPIRING: 700,
}
"""Bytes of a key that the agent makes, certified by an RSA key."""


class NoSuchKeyError(TransportError):
    """The agent cannot make the key that is wished for."""


class TooManyWishesError(TransportError):
    """The agent keeps as many leases, or as long ones, as one quote can carry."""


@dataclass(frozen=True, slots=True)
class Wished:
    """A wish in the book.

    Attributes:
        id: Its id.
        wish: What is wished for.
        key: Whom it is for: a key that there is, or the kind that the agent makes anew for each
            lineage.
    """

    id: WishId
    wish: LeaseWish
    key: Confirmation | ConfirmationKey


class _Stage(enum.Enum):
    NEW = enum.auto()
    ASKED = enum.auto()
    DENIED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Entry:
    wished: Wished
    stage: _Stage = _Stage.NEW
    denials: int = 0
    not_before: float = 0.0


class Wishes:
    """What is wished for at this moment; every method may be called from any thread.

    Args:
        at_most: Wishes that the book holds.
        on_new: Called, without the lock, when there is a wish that was never asked for.
        expiring: Keys that expire can be made: the join bundle names a leash key.
    """

    def __init__(
        self,
        *,
        at_most: int = MAX_LEASES,
        on_new: Callable[[], None] | None = None,
        expiring: bool = True,
    ) -> None:
        if not 0 < at_most <= MAX_LEASES:
            raise ValueError(f"a quote carries 1 to {MAX_LEASES} leases")
        self._at_most: Final = at_most
        self._on_new = on_new
        self._expiring = expiring
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._entries: dict[WishId, _Entry] = {}
        self._sizes: dict[WishId, int] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    # -- who wishes

    def add(
        self, wish: LeaseWish, key: Confirmation | ConfirmationKey = Confirmation.PROCESS
    ) -> WishId:
        """Wish for a lease, from the next renewal on, which is soon.

        Raises:
            TooManyWishesError: The book is full.
            NoSuchKeyError: The key is to expire, and nobody's permits are known.
        """
        if key is Confirmation.TPM_EXPIRING and not self._expiring:
            # It would fail at every renewal, and the leases of all others with it.
            raise NoSuchKeyError("the join bundle names no leash_key, which tpm-expiring needs")
        with self._lock:
            if len(self._entries) >= self._at_most:
                raise TooManyWishesError(f"the agent keeps {self._at_most} leases already")
            size = _size(wish, key)
            room = max(_TAKEN, _TAKEN_EACH * (len(self._entries) + 1)) - _NO_LEASE
            if sum(self._sizes.values()) + size > room:
                # No verifier would read the evidence, and the leases of all others would end.
                raise TooManyWishesError("the agent's leases are as long as evidence may be")
            wish_id = WishId(next(self._ids))
            self._sizes[wish_id] = size
            self._entries[wish_id] = _Entry(Wished(wish_id, wish, key))
        if self._on_new is not None:
            self._on_new()
        return wish_id

    def remove(self, wish_id: WishId) -> None:
        """Withdraw a wish; harmless where it is withdrawn already."""
        with self._lock:
            self._entries.pop(wish_id, None)
            self._sizes.pop(wish_id, None)

    def snapshot(self) -> tuple[Wished, ...]:
        """Return every wish, the oldest first."""
        with self._lock:
            return tuple(entry.wished for entry in self._entries.values())

    # -- who asks

    def ask(self, boottime: float) -> tuple[Wished, ...]:
        """Return what is to be asked for now, the oldest first; counts it as asked for."""
        with self._lock:
            due = [
                (wish_id, entry)
                for wish_id, entry in self._entries.items()
                if entry.not_before <= boottime
            ]
            for wish_id, entry in due:
                if entry.stage is _Stage.NEW:
                    self._entries[wish_id] = dataclasses.replace(entry, stage=_Stage.ASKED)
            return tuple(entry.wished for _, entry in due)

    def granted(self, wish_ids: Iterable[WishId]) -> None:
        """Tell what was granted."""
        with self._lock:
            for wish_id in wish_ids:
                entry = self._entries.get(wish_id)
                if entry is not None:
                    self._entries[wish_id] = _Entry(entry.wished, _Stage.ASKED)

    def denied(self, wish_ids: Iterable[WishId], boottime: float, jitter: Jitter) -> None:
        """Tell what was denied alone: it is not asked for again before a pause is over."""
        with self._lock:
            for wish_id in wish_ids:
                entry = self._entries.get(wish_id)
                if entry is not None:
                    denials = entry.denials + 1
                    self._entries[wish_id] = _Entry(
                        entry.wished,
                        _Stage.DENIED,
                        denials,
                        boottime + DENIED.delay(denials, jitter),
                    )

    @property
    def has_new(self) -> bool:
        """There is a wish that was never asked for."""
        with self._lock:
            return any(entry.stage is _Stage.NEW for entry in self._entries.values())

    def next_due(self, boottime: float) -> float | None:
        """Return the seconds until there is something to ask for; None if nothing is wished."""
        with self._lock:
            if not self._entries:
                return None
            return max(0.0, min(entry.not_before for entry in self._entries.values()) - boottime)


def _size(wish: LeaseWish, key: Confirmation | ConfirmationKey) -> int:
    """Return the bytes of evidence that a wish takes, at most."""
    known = _KEY[key] if isinstance(key, Confirmation) else len(cbor.encode(key.request.wire()))
    return len(wish.purpose()) + known + _AROUND
