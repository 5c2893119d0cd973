"""Leases that were noted, and whose commit failed.

A lease is noted before it is committed, so that whatever ends it finds it. Where the commit fails,
its place in the status list would stay taken for as long as a lease may count, and a fleet that
tries again while the store is down would take them all. But a store that fails at the last moment
may have stored it nevertheless, and a lease that somebody holds must not be forgotten.

What tells is the version of its node's lineage: a grant moves it on. As long as it stands where it
stood, nothing was granted.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootlease.verifier.continuity.live import LiveGrant, LiveLeases

Failed = tuple[int, LiveGrant]
"""The version of the lineage that a grant was to move on, and the grant."""


class Doubtful:
    """Forgets what was not committed, once that is certain.

    Args:
        live: Where leases are noted.
    """

    __slots__ = ("_live", "_waiting")

    def __init__(self, live: LiveLeases) -> None:
        self._live = live
        self._waiting: dict[bytes, list[Failed]] = {}

    def failed(self, grant: LiveGrant, version: int | None) -> None:
        """Take note of a commit that failed.

        Args:
            grant: What it would have granted.
            version: The version of the lineage that it was to move on; None where it is certain
                that nothing was stored.
        """
        if version is None:
            self._live.forget(grant)
        else:
            self._waiting.setdefault(grant.node, []).append((version, grant))

    def of(self, node: bytes) -> Sequence[Failed]:
        """Return what failed for a node until now; then read its lineage, and ``settle``."""
        return tuple(self._waiting.get(node, ()))

    def settle(self, node: bytes, failed: Sequence[Failed], version: int) -> None:
        """Forget what was not committed for a node.

        Args:
            node: The node.
            failed: What had failed before its lineage was read.
            version: The version of its lineage, as it is stored.
        """
        if not failed:
            return
        for before, grant in failed:
            # Whatever moved it on may have been this grant: then it runs out by itself.
            if before == version:
                self._live.forget(grant)
        left = [each for each in self._waiting.pop(node, ()) if each not in failed]
        if left:
            self._waiting[node] = left
