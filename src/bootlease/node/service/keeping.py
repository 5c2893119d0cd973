"""Standing wishes: the ``[[keep]]`` tables of a configuration, and the files they go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bootlease.errors import TransportError
from bootlease.node.logline import Event, Level
from bootlease.node.outputs import LeaseFiles, Outputs
from bootlease.node.service.config import Keep
from bootlease.node.wishbook import Wishes, WishId


class Claims(Protocol):
    """Where files are claimed for leases; ``StateDirectory`` remembers them."""

    def claim(self, *paths: Path) -> None:
        """Take files for the lease's own; see ``StateDirectory.claim``."""


class Keeping:
    """Keeps the book of wishes true to a configuration that may change.

    Args:
        wishes: The book.
        outputs: Where tokens go.
        claims: Where files are claimed.
        say: Told in one line what failed.
    """

    def __init__(
        self, wishes: Wishes, outputs: Outputs, claims: Claims, say: Callable[[str], None]
    ) -> None:
        self._wishes = wishes
        self._outputs = outputs
        self._claims = claims
        self._say = say
        self._kept: dict[Keep, tuple[WishId, LeaseFiles]] = {}
        self._waiting: list[Keep] = []

    def apply(self, keeps: Sequence[Keep]) -> None:
        """Wish for these, and for no other any more; what stays the same goes on untouched.

        Raises:
            MalformedError: A file is there that is somebody else's; nothing is changed then.
            TransportError: The files cannot be claimed; nothing is changed then.
        """
        taken = {path for _, files in self._kept.values() for path in files.paths}
        wanted = [path for keep in keeps for path in (keep.token_file, keep.key_file) if path]
        self._claims.claim(*(path for path in wanted if path not in taken))
        for keep in [each for each in self._kept if each not in keeps]:
            self._drop(keep)
        self._waiting.clear()
        for keep in keeps:
            if keep not in self._kept:
                self._try(keep)

    def again(self) -> None:
        """Wish for what could not be wished for: workloads may have left room since."""
        waiting, self._waiting = self._waiting, []
        for keep in waiting:
            try:
                self._add(keep)
            except TransportError:
                self._waiting.append(keep)

    def _try(self, keep: Keep) -> None:
        try:
            self._add(keep)
        except TransportError as exc:
            self._waiting.append(keep)
            scope = " ".join(keep.wish.scope)
            said = f"cannot keep {scope} for {keep.wish.audience}: {exc}"
            self._say(Event("keep.failed", said, level=Level.ERROR))

    def _add(self, keep: Keep) -> None:
        wish_id = self._wishes.add(keep.wish, keep.confirmation)
        files = LeaseFiles(keep.token_file, keep.key_file, wish_id)
        self._outputs.add(files)
        self._kept[keep] = (wish_id, files)

    def _drop(self, keep: Keep) -> None:
        wish_id, files = self._kept.pop(keep)
        self._wishes.remove(wish_id)
        try:
            self._outputs.drop(files)
        except TransportError as exc:
            self._say(Event("output.failed", str(exc), level=Level.ERROR))
