"""The Merkle tree of the ledger: growing it, proving with it, checking proofs.

Specification: RFC 9162 §2.1.1 (tree hash), §2.1.3 (inclusion proofs), §2.1.4 (consistency proofs);
the trees are those of RFC 6962 §2.1. The hash is SHA-256.

A node is named by its level (0 for leaves) and its index in the level. It is *complete* when it
covers ``2 ** level`` leaves; complete nodes never change, so they alone are worth keeping. The
nodes on the right edge that are not complete are made from the complete ones when needed.

Not here: what a leaf contains (``leaf``), how nodes are kept (the store) and published (``tiles``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NoReturn

from bootlease.errors import VerificationError
from bootlease.model import Finding

HASH_SIZE: Final = 32
MAX_SIZE: Final = (1 << 63) - 1
"""Leaves that a tree may have; a path through it is at most ``MAX_PATH`` hashes long."""
MAX_PATH: Final = 63

EMPTY_ROOT: Final = sha256(b"").digest()
"""Root of the tree without leaves (RFC 9162 §2.1.1)."""

Node = Callable[[int, int], bytes]
"""Gives the hash of the complete node at a level and an index."""

# The two prefixes keep leaves and inner nodes apart: without them an inner node's two hashes could
# be passed off as a leaf, and a tree would have two readings (RFC 9162 §2.1.1).
_LEAF: Final = b"\x00"
_INNER: Final = b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash that stands for ``leaf`` at level 0."""
    return sha256(_LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two nodes."""
    return sha256(_INNER + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that a tree must remember in order to grow: its largest complete subtrees.

    Attributes:
        size: Number of leaves.
        hashes: Roots of the complete subtrees, one for each bit set in ``size``, the largest (and
            leftmost) first.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.hashes) != self.size.bit_count():
            raise ValueError("a frontier has one hash for each bit set in its size")
        _check_hashes(self.hashes)

    def root(self) -> bytes:
        """Return the root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in self.hashes[-2::-1]:
            root = node_hash(left, root)
        return root


@dataclass(frozen=True, slots=True)
class Extension:
    """A tree after leaves were appended to it, and what was learned on the way.

    Attributes:
        start: Leaves before; the first new leaf has this index.
        frontier: The tree now.
        root: Its root.
        rows: For each level from 0 up to the root's, what stands in it from ``row_starts`` on: an
            old complete node if a new one has it as its sibling, the new complete nodes, and the
            incomplete one on the right edge if there is one.
        row_starts: Index of the first node in each row.
        shared_from: First level at which all new leaves have one ancestor.
        shared: The part of an inclusion path from that level on, the same for all new leaves.
    """

    start: int
    frontier: Frontier
    root: bytes
    rows: tuple[list[bytes], ...]
    row_starts: tuple[int, ...]
    shared_from: int
    shared: tuple[bytes, ...]

    @property
    def nodes(self) -> list[tuple[int, int, bytes]]:
        """The new complete nodes as (level, index, hash), leaves included."""
        size = self.frontier.size
        return [
            (level, index, row[index - row_start])
            for level, (row, row_start) in enumerate(zip(self.rows, self.row_starts, strict=True))
            for index in range(self.start >> level, size >> level)
        ]

    def path(self, position: int) -> tuple[bytes, ...]:
        """Return the inclusion path, against the new size, of one new leaf.

        Args:
            position: Which of the new leaves, counted from 0.

        Raises:
            ValueError: There is no such new leaf.
        """
        index = self.start + position
        if not self.start <= index < self.frontier.size:
            raise ValueError("a path is made for a leaf that was appended")
        return (*_climb(self.rows, self.row_starts, index, 0, self.shared_from), *self.shared)


def extend(frontier: Frontier, leaf_hashes: Sequence[bytes]) -> Extension:
    """Append leaves to a tree.

    Each hash is computed once for the whole batch, so that a path is a few list look-ups.

    Args:
        frontier: The tree before.
        leaf_hashes: ``leaf_hash`` of each new leaf, in order; at least one.

    Raises:
        ValueError: There is no leaf, the tree would be too large, or a hash has another length.
    """
    start = frontier.size
    size = start + len(leaf_hashes)
    if not leaf_hashes or size > MAX_SIZE:
        raise ValueError("a tree is extended by one leaf or more, within its largest size")
    _check_hashes(leaf_hashes)
    rows: list[list[bytes]] = []
    row_starts: list[int] = []
    edges: list[bytes] = []
    old = list(frontier.hashes)
    new = list(leaf_hashes)
    edge: bytes | None = None
    for level in range((size - 1).bit_length() + 1):
        row = [old.pop(), *new] if start >> level & 1 else new
        rows.append(row)
        row_starts.append(start >> level & ~1)
        new = [
            sha256(_INNER + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=False)
        ]
        # The nodes of this level left without a partner belong to the new frontier, and with what
        # is right of them make the incomplete node above.
        below = edge
        if size >> level & 1:
            edges.append(row[-1])
            edge = row[-1] if edge is None else node_hash(row[-1], edge)
        if below is not None:
            row.append(below)
    shared_from = (start ^ (size - 1)).bit_length()
    shared = _climb(rows, row_starts, start, shared_from, len(rows) - 1)
    return Extension(
        start,
        Frontier(size, tuple(reversed(edges))),
        rows[-1][0],
        tuple(rows),
        tuple(row_starts),
        shared_from,
        tuple(shared),
    )


def _climb(
    rows: Sequence[list[bytes]], row_starts: Sequence[int], index: int, bottom: int, top: int
) -> list[bytes]:
    """Return the siblings of a new leaf's ancestors, from one level up to below another."""
    path = []
    for level in range(bottom, top):
        row = rows[level]
        sibling = ((index >> level) ^ 1) - row_starts[level]
        # A last node of even index has no sibling: it moves up a level as it is.
        if sibling < len(row):
            path.append(row[sibling])
    return path


def inclusion_path(index: int, size: int, node: Node) -> tuple[bytes, ...]:
    """Return the inclusion path of a leaf (RFC 9162 §2.1.3.1).

    Args:
        index: The leaf.
        size: Leaves of the tree it is proven to be in.
        node: Where complete nodes come from.

    Raises:
        ValueError: The tree has no such leaf.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    start, end = 0, size
    path = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    return tuple(reversed(path))


def consistency_path(old: int, new: int, node: Node) -> tuple[bytes, ...]:
    """Return the proof that a tree only grew (RFC 9162 §2.1.4.1).

    Args:
        old: Leaves of the earlier tree; from the tree without leaves the proof is empty.
        new: Leaves of the later tree.
        node: Where complete nodes come from.

    Raises:
        ValueError: The earlier tree is the larger one.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        raise ValueError(f"no tree grew from {old} to {new} leaves")
    if old in (0, new):
        return ()
    start, end = 0, new
    path = []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    if start:
        path.append(_subtree(start, end, node))
    return tuple(reversed(path))


def _split(size: int) -> int:
    """Return the largest power of two below ``size``: where RFC 9162 §2.1.1 cuts a tree."""
    return 1 << (size - 1).bit_length() - 1


def _subtree(start: int, end: int, node: Node) -> bytes:
    """Return the root over some leaves that form a subtree, complete or at the right edge."""
    pieces = []
    while start < end:
        level = (end - start).bit_length() - 1
        pieces.append(node(level, start >> level))
        start += 1 << level
    root = pieces.pop()
    while pieces:
        root = node_hash(pieces.pop(), root)
    return root


def inclusion_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to (RFC 9162 §2.1.3.2).

    The caller compares it with a root it trusts, or finds a signature over it.

    Args:
        leaf: The leaf's hash, made by the caller with ``leaf_hash``, never taken from the proof.
        index: Where the leaf is said to be.
        size: Leaves of the tree.
        path: The proof.

    Raises:
        VerificationError: The proof has another form than that of this index and size.
    """
    if not 0 <= index < size <= MAX_SIZE:
        _not_included(f"A tree of {size} leaves has no leaf {index}.")
    if len(path) != _path_length(index, size) or _other_lengths((leaf, *path)):
        _not_included("The inclusion proof has not the form that index and size demand.")
    last, node, steps = size - 1, leaf, iter(path)
    while last:
        if index & 1:
            node = sha256(_INNER + next(steps) + node).digest()
        elif index < last:
            node = sha256(_INNER + node + next(steps)).digest()
        # else: the last node of a level, without a sibling, moves up as it is.
        index >>= 1
        last >>= 1
    return node


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Prove that a tree has a leaf at an index (RFC 9162 §2.1.3.2).

    Proves nothing about who stands behind the root.

    Args:
        leaf: The leaf's hash, made by the caller with ``leaf_hash``, never taken from the proof.
        index: Where it is said to be.
        size: Leaves of the tree.
        path: The proof.
        root: The trusted root of that size.

    Raises:
        VerificationError: The proof does not prove it.
    """
    if inclusion_root(leaf, index, size, path) != root:
        _not_included("The inclusion proof does not lead from the leaf to the root.")


def _path_length(index: int, size: int) -> int:
    """Return the length of an inclusion path.

    Below the level where leaf and last leaf part there is a sibling at every level, above it only
    on the left.
    """
    inner = (index ^ (size - 1)).bit_length()
    return inner + (index >> inner).bit_count()


def verify_consistency(
    old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Prove that a tree contains all of an earlier one, in its place (RFC 9162 §2.1.4.2).

    Args:
        old: Leaves of the earlier tree.
        new: Leaves of the later tree.
        path: The proof; empty when the earlier tree has no leaves, or both have the same.
        old_root: The trusted root of the earlier tree.
        new_root: The root of the later tree.

    Raises:
        VerificationError: The proof does not prove it: the log was rewritten, or the proof is bad.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        _not_consistent(f"No tree grew from {old} to {new} leaves.")
    if _other_lengths((old_root, new_root, *path)):
        _not_consistent("A hash in the consistency proof is not 32 bytes long.")
    if old in (0, new):
        if path or old_root != (EMPTY_ROOT if old == 0 else new_root):
            _not_consistent("Two trees of one size have different roots, or an idle proof.")
        return
    _check_growth(old, new, path, old_root, new_root)


def _check_growth(
    old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    # The proof starts at the largest complete subtree that the old tree ends with. Where this is
    # the whole old tree, its root is known and left out of the proof.
    skipped = (old & -old).bit_length() - 1
    hashes = (old_root, *path) if old == 1 << skipped else path
    if len(hashes) != _path_length(old - 1, new) - skipped + 1:
        _not_consistent("The consistency proof has not the length that the two sizes demand.")
    index, last = (old - 1) >> skipped, (new - 1) >> skipped
    steps = iter(hashes)
    first = second = next(steps)
    while last:
        if index & 1:
            left = next(steps)
            first, second = node_hash(left, first), node_hash(left, second)
        elif index < last:
            second = node_hash(second, next(steps))
        index >>= 1
        last >>= 1
    if first != old_root or second != new_root:
        _not_consistent("The consistency proof does not lead from the old root to the new one.")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if _other_lengths(hashes):
        raise ValueError("a hash is not 32 bytes long")


def _other_lengths(hashes: Sequence[bytes]) -> bool:
    return any(len(one) != HASH_SIZE for one in hashes)


def _not_included(message: str) -> NoReturn:
    raise VerificationError(Finding("ledger.inclusion.invalid", message))


def _not_consistent(message: str) -> NoReturn:
    raise VerificationError(Finding("ledger.consistency.invalid", message))
