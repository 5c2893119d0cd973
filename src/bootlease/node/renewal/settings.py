"""What an agent is told to do."""

from __future__ import annotations

from dataclasses import dataclass

from bootlease.node.bundle import JoinBundle
from bootlease.node.confirm import Confirmation
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Wishes


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent is told to do.

    Attributes:
        bundle: Its verifier.
        wishes: The leases to keep, where no book of wishes says so.
        confirmation: Where their confirmation keys live.
    """

    bundle: JoinBundle
    wishes: tuple[LeaseWish, ...] = ()
    confirmation: Confirmation = Confirmation.PROCESS

    def book(self) -> Wishes:
        """Return a book of these wishes.

        Raises:
            ValueError: There is none.
        """
        if not self.wishes:
            raise ValueError("an agent needs at least one lease to keep")
        book = Wishes()
        for wish in self.wishes:
            book.add(wish, self.confirmation)
        return book
