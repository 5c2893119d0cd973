"""Following a ledger: every checkpoint is checked against everything read before it.

Specifications: C2SP tlog-checkpoint, tlog-tiles (a client that tails a log); docs/ledger.md for
shards and their chain.

A round reads the list of shards and, in each, what is new. The monitor grows its own tree from the
published entries and compares its root with the signed one. That is stronger than a consistency
proof: what was seen before is in the tree by construction, and what is new was read. Entries read
before are read again a few at a time, so that a change to what is published is found even where
the log signs nothing new.

What a round cannot see: a log that shows everybody else another history. Witnesses, and monitors
elsewhere that compare checkpoints, are for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from bootlease.ledger.leaf import parse_leaf
from bootlease.ledger.merkle import Frontier, extend, leaf_hash
from bootlease.ledger.note import NoteKey
from bootlease.ledger.shardlist import ListedShard
from bootlease.ledger.tiles import TILE_WIDTH
from bootlease.monitor.alarms import FORK, GAP, REWRITE, ROLLBACK, SIGNATURE, AlarmError
from bootlease.monitor.opening import check_opening
from bootlease.monitor.published import PublishedTree
from bootlease.monitor.source import LogSource, NotPublishedError
from bootlease.monitor.state import MonitorState, SeenShard

DEFAULT_REREAD: Final = 16
"""Entry bundles that are read again in a round: some four thousand entries."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at the log gave.

    Attributes:
        state: What is known now; for the next round.
        new: Entries that were read for the first time.
        reread: Entries that were read again.
    """

    state: MonitorState
    new: int
    reread: int


class Monitor:
    """Follows one ledger.

    Args:
        source: Where it is published.
        key: The ledger's key.
        reread: Entry bundles to read again in a round; None for all.
    """

    def __init__(
        self, source: LogSource, key: NoteKey, *, reread: int | None = DEFAULT_REREAD
    ) -> None:
        self._source = source
        self._key = key
        self._reread = reread

    def look(self, state: MonitorState) -> Round:
        """Read what is new, and some of what is old.

        Args:
            state: From the round before.

        Raises:
            AlarmError: The log forked, skipped, changed or withdrew something.
            TransportError: It could not be read; ``state`` still holds.
        """
        listed = self._source.shards()
        _check_list(state.shards, listed)
        shards: list[SeenShard] = []
        for shard in listed:
            known = len(shards) < len(state.shards)
            seen = state.shards[len(shards)] if known else SeenShard(shard.name)
            before = shards[-1] if shards else None
            shards.append(self._follow(seen, before, last=shard.number == len(listed)))
        new = _entries(shards) - _entries(state.shards)
        return self._read_again(replace(state, shards=tuple(shards)), state.shards, new)

    def _follow(self, seen: SeenShard, before: SeenShard | None, *, last: bool) -> SeenShard:
        name = seen.name
        with _as_gap(f"Shard {name} is listed but has no checkpoint."):
            note = self._source.checkpoint(name)
        checkpoint = self._verify(note, seen)
        tree = seen.tree
        if checkpoint.size != tree.size:
            if seen.closed:
                raise AlarmError(
                    FORK,
                    f"Shard {name} grew after another shard had followed it.",
                    *(seen.checkpoint, note),
                )
            with _as_gap(f"Shard {name} does not publish what its checkpoint covers.", note):
                tree = self._grow(seen, before, checkpoint, note)
        elif not tree.size:
            raise AlarmError(GAP, f"Shard {name} is listed but has no entries.", note)
        return SeenShard(name, tree, note, closed=not last)

    def _verify(self, note: bytes, seen: SeenShard) -> VerifiedCheckpoint:
        name, known = seen.name, seen.tree
        try:
            checkpoint = verify_checkpoint(note, self._key, origin=f"{self._key.name}/{name}")
        except (MalformedError, VerificationError) as exc:
            raise AlarmError(
                SIGNATURE, f"The checkpoint of shard {name} is not the log's: {exc}", note
            ) from exc
        if checkpoint.size < known.size:
            raise AlarmError(
                ROLLBACK,
                f"Shard {name} went back to an earlier checkpoint.",
                *(seen.checkpoint, note),
                expected=f"at least {known.size} entries",
                seen=f"{checkpoint.size} entries",
            )
        if checkpoint.size == known.size and checkpoint.root != known.root():
            raise AlarmError(
                FORK,
                f"The log signed two different trees of {known.size} entries for shard {name}.",
                *(seen.checkpoint, note),
                expected=known.root().hex(),
                seen=checkpoint.root.hex(),
            )
        return checkpoint

    def _grow(
        self, seen: SeenShard, before: SeenShard | None, checkpoint: VerifiedCheckpoint, note: bytes
    ) -> Frontier:
        """Read the new entries and return the tree with them, which is the signed one."""
        name, tree, first_leaf = seen.name, seen.tree, b""
        for first, leaves in self._bundles(name, tree.size, checkpoint.size):
            hashes = [leaf_hash(leaf) for leaf in leaves]
            _check_leaves(name, first, leaves, note)
            known = tree.size - first
            if known and _tail(tree, known) != extend(Frontier(), hashes[:known]).frontier.hashes:
                raise self._difference(seen, checkpoint, note)
            tree = extend(tree, hashes[known:]).frontier
            first_leaf = first_leaf or leaves[0]
        if tree.root() != checkpoint.root:
            raise self._difference(seen, checkpoint, note)
        if not seen.tree.size:
            opening = self._source.opening(name)
            check_opening(name, first_leaf, opening, before, key=self._key, note=note)
        return tree

    def _difference(
        self, seen: SeenShard, checkpoint: VerifiedCheckpoint, note: bytes
    ) -> AlarmError:
        """Tell what is wrong where the entries do not lead to the signed root."""
        name, known = seen.name, seen.tree
        published = PublishedTree(self._source, name, checkpoint.size)
        if published.root(checkpoint.size) != checkpoint.root:
            message = f"Neither entries nor tiles of shard {name} are those that the log signed."
        elif known.size and published.root(known.size) != known.root():
            # The later signed root has a tree, and the earlier signed root is not in it.
            return AlarmError(
                FORK,
                f"The log signed a tree of {checkpoint.size} entries for shard {name} that does"
                f" not contain the one of {known.size} entries that it signed before.",
                *(seen.checkpoint, note),
            )
        else:
            message = f"The entries of shard {name} are not those in the tree that the log signed."
        return AlarmError(REWRITE, message, seen.checkpoint, note)

    def _bundles(self, name: str, start: int, end: int) -> Iterator[tuple[int, Sequence[bytes]]]:
        """Yield the entry bundles that hold leaves ``start`` to ``end``: first index, leaves."""
        for first in range(start - start % TILE_WIDTH, end, TILE_WIDTH):
            number, width = first // TILE_WIDTH, min(TILE_WIDTH, end - first)
            yield first, self._source.entries(name, number, width)

    def _read_again(self, state: MonitorState, before: Sequence[SeenShard], new: int) -> Round:
        """Compare old entries and tiles with the signed trees, from where the last round ended."""
        old = [-(-shard.tree.size // TILE_WIDTH) for shard in before]
        places = [(place, bundle) for place, count in enumerate(old) for bundle in range(count)]
        start = sum(old[: state.reread_shard]) + state.reread_bundle
        count = len(places) if self._reread is None else min(self._reread, len(places))
        reread = 0
        trees: dict[int, PublishedTree] = {}
        for offset in range(count):
            place, bundle = places[(start + offset) % len(places)]
            shard = state.shards[place]
            tree = trees.setdefault(place, PublishedTree(self._source, shard.name, shard.tree.size))
            reread += self._compare(shard, tree, bundle)
        following = places[(start + count) % len(places)] if places else (0, 0)
        return Round(
            replace(state, reread_shard=following[0], reread_bundle=following[1]), new, reread
        )

    def _compare(self, shard: SeenShard, tree: PublishedTree, bundle: int) -> int:
        name, first = shard.name, bundle * TILE_WIDTH
        width = min(TILE_WIDTH, shard.tree.size - first)
        with _as_gap(f"Shard {name} does not publish entries from {first} on any more."):
            leaves = self._source.entries(name, bundle, width)
            try:
                tree.check_bundle(bundle, leaves, shard.tree.root())
            except VerificationError as exc:
                raise AlarmError(
                    REWRITE,
                    f"Entries {first} to {first + width - 1} of shard {name}, or the tiles over"
                    " them, are not what the log signed.",
                    shard.checkpoint,
                ) from exc
        return width


def _check_list(seen: Sequence[SeenShard], listed: Sequence[ListedShard]) -> None:
    # The list is unsigned; the names seen before were not.
    if len(listed) < len(seen):
        gone = seen[len(listed)]
        raise AlarmError(ROLLBACK, f"Shard {gone.name} is not published any more.", gone.checkpoint)
    for known, shard in zip(seen, listed, strict=False):
        if known.name != shard.name:
            raise AlarmError(
                REWRITE,
                f"Shard {known.name} is published as {shard.name} now.",
                known.checkpoint,
            )


def _check_leaves(name: str, first: int, leaves: Sequence[bytes], note: bytes) -> None:
    for index, leaf in enumerate(leaves, first):
        try:
            parse_leaf(leaf)
        except MalformedError as exc:
            raise AlarmError(
                REWRITE, f"Entry {index} of shard {name} is no entry of a ledger: {exc}", note
            ) from exc


def _tail(tree: Frontier, leaves: int) -> tuple[bytes, ...]:
    """Return the subtrees that hold the last leaves: those of the bundle that is not full."""
    return tree.hashes[len(tree.hashes) - leaves.bit_count() :]


def _entries(shards: Sequence[SeenShard]) -> int:
    return sum(shard.tree.size for shard in shards)


@contextmanager
def _as_gap(message: str, *notes: bytes) -> Iterator[None]:
    """Take what is not published, though a signed checkpoint covers it, for a gap."""
    try:
        yield
    except NotPublishedError as exc:
        raise AlarmError(GAP, message, *notes, seen=str(exc)) from exc
