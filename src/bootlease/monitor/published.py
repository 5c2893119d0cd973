"""The tree that a log's tiles make up: to tell what is wrong, and to check entries against it.

Specifications: C2SP tlog-tiles §Merkle Tree; RFC 9162 §2.1.3. Tiles are unverified; what is
computed from them counts only where it leads to a signed root.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootlease.ledger.merkle import (
    Frontier,
    extend,
    inclusion_path,
    leaf_hash,
    verify_inclusion,
)
from bootlease.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, nodes_from_tiles
from bootlease.monitor.source import LogSource


class PublishedTree:
    """The tiles of one shard, as far as a checkpoint covers them, each fetched once.

    Args:
        source: Where they are published.
        shard: The shard.
        size: Leaves that the checkpoint covers.
    """

    def __init__(self, source: LogSource, shard: str, size: int) -> None:
        self._size = size
        self._node = nodes_from_tiles(
            size, lambda level, index, width: source.tile(shard, level, index, width)
        )

    def root(self, size: int) -> bytes:
        """Return the root of the first ``size`` leaves.

        Raises:
            TransportError: A tile cannot be had.
        """
        hashes, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                hashes.append(self._node(level, start >> level))
                start += 1 << level
        return Frontier(size, tuple(hashes)).root()

    def check_bundle(self, index: int, leaves: Sequence[bytes], root: bytes) -> None:
        """Prove that the leaves of an entry bundle are those of a signed tree.

        The path of its first leaf is checked. All hashes in it that lie within the bundle are made
        from the leaves, so that every leaf is part of what is proven.

        Args:
            index: Of the bundle.
            leaves: All of its leaves that the tree has.
            root: The signed root.

        Raises:
            VerificationError: They are not, or the tiles do not lead to the root.
            TransportError: A tile cannot be had.
        """
        first = index * TILE_WIDTH
        hashes = [leaf_hash(leaf) for leaf in leaves]

        def node(level: int, at: int) -> bytes:
            start = (at << level) - first
            if level <= TILE_HEIGHT and 0 <= start < len(hashes):
                return extend(Frontier(), hashes[start : start + (1 << level)]).root
            return self._node(level, at)

        path = inclusion_path(first, self._size, node)
        verify_inclusion(hashes[0], first, self._size, path, root)
