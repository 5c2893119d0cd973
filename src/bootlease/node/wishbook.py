"""The book of wishes: what an agent is asked to keep leases for, while it runs.

Workloads come and go in other threads than the one that attests, so the book has a lock. Who wishes
wakes the worker; who withdraws does not, for the next renewal leaves it out anyway. A wish that was
denied alone is left out too, for a pause that grows with each denial: one workload that may not
have what it wants must not cost every renewal of the others. ``room`` bounds how long wishes are.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NewType

from bootlease.errors import TransportError
from bootlease.evidence.request import MAX_LEASES
from bootlease.node.confirm import Confirmation, ConfirmationKey
from bootlease.node.pacing import DENIED, Jitter
from bootlease.node.room import Share, fits, size_of
from bootlease.node.wish import LeaseWish

WishId = NewType("WishId", int)
"""Names a wish for as long as the agent runs; never used again."""


class NothingWishedError(TransportError):
    """There is nothing to ask for."""


class NoSuchKeyError(TransportError):
    """The agent cannot make the key that is wished for."""


class TooManyWishesError(TransportError):
    """The agent keeps as many leases, or as long ones, as one quote can carry."""


class ShareTakenError(TooManyWishesError):
    """Who wishes would take the room of others."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The workload that a wish is of, for people: what the agent saw when it came.

    Attributes:
        rule: The rule that permits it.
        pid: Its process.
        uid: Its user.
        exe: Its program's path; None where the agent may not see it.
    """

    rule: str
    pid: int
    uid: int
    exe: str | None = None


@dataclass(frozen=True, slots=True)
class Wished:
    """A wish in the book.

    Attributes:
        id: Its id.
        wish: What is wished for.
        key: Whom it is for: a key that there is, or the kind that the agent makes anew for each
            lineage.
        holder: Whose it is; None where it stands by itself.
    """

    id: WishId
    wish: LeaseWish
    key: Confirmation | ConfirmationKey
    holder: Holder | None = None


class _Stage(enum.Enum):
    NEW = enum.auto()
    ASKED = enum.auto()
    DENIED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Entry:
    wished: Wished
    size: int
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

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    # -- who wishes

    def add(
        self,
        wish: LeaseWish,
        key: Confirmation | ConfirmationKey = Confirmation.PROCESS,
        holder: Holder | None = None,
        share: Share | None = None,
    ) -> WishId:
        """Wish for a lease, from the next renewal on, which is soon.

        Args:
            wish: What is wished for.
            key: Whom it is for.
            holder: Whose it is.
            share: What all wishes under the holder's rule may take together.

        Raises:
            TooManyWishesError: The book is full.
            ShareTakenError: The wishes under the rule would take the room of others.
            NoSuchKeyError: The key is to expire, and nobody's permits are known.
        """
        if key is Confirmation.TPM_EXPIRING and not self._expiring:
            # It would fail at every renewal, and the leases of all others with it.
            raise NoSuchKeyError("the join bundle names no leash_key, which tpm-expiring needs")
        with self._lock:
            if len(self._entries) >= self._at_most:
                raise TooManyWishesError(f"the agent keeps {self._at_most} leases already")
            size = size_of(wish, key)
            if holder is not None and share is not None:
                self._check_share(holder.rule, share, size)
            if not fits((size, *(entry.size for entry in self._entries.values()))):
                # No verifier would read the evidence, and the leases of all others would end.
                raise TooManyWishesError("the agent's leases are as long as evidence may be")
            wish_id = WishId(next(self._ids))
            self._entries[wish_id] = _Entry(Wished(wish_id, wish, key, holder), size)
        if self._on_new is not None:
            self._on_new()
        return wish_id

    def _check_share(self, rule: str, share: Share, size: int) -> None:
        sizes, standing = [size], list[int]()
        for entry in self._entries.values():
            holder = entry.wished.holder
            if holder is None:
                standing.append(entry.size)
            elif holder.rule == rule:
                sizes.append(entry.size)
        if not share.has_room(sizes, standing):
            raise ShareTakenError(f"the leases under rule {rule} are as long as they may be")

    def hand_over(self, wish_id: WishId, holder: Holder) -> None:
        """Take note that a wish is under another rule now; harmless where it is withdrawn."""
        with self._lock:
            entry = self._entries.get(wish_id)
            if entry is not None:
                wished = dataclasses.replace(entry.wished, holder=holder)
                self._entries[wish_id] = dataclasses.replace(entry, wished=wished)

    def remove(self, wish_id: WishId) -> None:
        """Withdraw a wish; harmless where it is withdrawn already."""
        with self._lock:
            self._entries.pop(wish_id, None)

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
                    self._entries[wish_id] = _Entry(entry.wished, entry.size, _Stage.ASKED)

    def denied(self, wish_ids: Iterable[WishId], boottime: float, jitter: Jitter) -> None:
        """Tell what was denied alone: it is not asked for again before a pause is over."""
        with self._lock:
            for wish_id in wish_ids:
                entry = self._entries.get(wish_id)
                if entry is not None:
                    denials = entry.denials + 1
                    self._entries[wish_id] = _Entry(
                        *(entry.wished, entry.size, _Stage.DENIED, denials),
                        not_before=boottime + DENIED.delay(denials, jitter),
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
