"""A verifier whose answers skip the ledger, to measure what the ledger costs. For nothing else.

``python -m bench.fleet.unledgered verifier serve ...`` runs ``bootlease`` with a store that keeps
challenges, lineages and decisions as ever, and neither hashes nor writes nor signs a tree. Every
answer carries one and the same receipt, of a leaf that is not in any tree: agents refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bootlease.cli import main
from bootlease.ledger import Receipt, SealedRoot
from bootlease.ports import Sealer
from bootlease.store import group
from bootlease.store.appender import Appender, Sealed
from bootlease.store.connection import Connection
from bootlease.store.tail import Tail

_FAR: Final = 1 << 24
"""Where positions begin: no leaf of a ledger that was ever written is there."""


class _Unsealed(Sealed):
    """Leaves that are in no tree."""

    def receipts(self, start: int, count: int) -> tuple[Receipt, ...]:
        """Return receipts without a path."""
        return tuple(Receipt(b"", at, (), self.root) for at in range(start, start + count))


class _Unledgered(Appender):
    """Counts what would be appended, and leaves it at that."""

    __slots__ = ()

    appended = 0
    root: SealedRoot | None = None

    def __init__(self, db: Connection, tail: Tail) -> None:
        super().__init__(db, tail)

    def append(self, leaves: Sequence[bytes]) -> int:
        self._leaves += leaves
        position = _FAR + _Unledgered.appended
        _Unledgered.appended += len(leaves)
        return position

    def seal(self, sealer: Sealer) -> Sealed | None:
        if not self._leaves:
            return None
        if _Unledgered.root is None:
            _Unledgered.root = sealer.seal(self.shard.origin, 1, bytes(32))
        return _Unsealed(self.tail, _Unledgered.root, None, ())  # type: ignore[arg-type]  # there is no tree that could have grown


if __name__ == "__main__":
    vars(group)["Appender"] = _Unledgered  # this process has no other store
    main()
