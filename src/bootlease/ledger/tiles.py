"""Tiles: the tree as files that never change.

Specification: C2SP tlog-tiles (2026-07) §Merkle Tree, §Partial Tiles and §Log entries. A tile at
level L holds 256 hashes of nodes at level 8·L of the tree, an entry bundle 256 leaves, each behind
its length in two bytes. The last ones at each level are partial and have their width in the path:

    tile/0/x001/234          tile/1/004.p/17          tile/entries/x001/234.p/3

Not here: serving and fetching; pruning, since the ledger is not pruned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from bootlease.errors import MalformedError
from bootlease.ledger.merkle import HASH_SIZE, MAX_SIZE, Node, node_hash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
MAX_LEVEL: Final = 63
MAX_ENTRY: Final = 0xFFFF
"""Bytes of a leaf that an entry bundle can hold."""

_LENGTH: Final = Struct(">H")
_MAX_PATH: Final = 128
_PATH: Final = re.compile(
    r"tile/(?P<level>entries|[0-9]|[1-9][0-9])/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """The name of a tile.

    Attributes:
        level: Its level: the tree's, divided by 8.
        index: Its index in the level.
        width: How many hashes it has; less than 256 makes it partial.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check(self.index, self.width)
        if not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"a tile's level is 0 to {MAX_LEVEL}")


@dataclass(frozen=True, slots=True)
class EntryBundle:
    """The name of an entry bundle.

    Attributes:
        index: Its index.
        width: How many leaves it has; less than 256 makes it partial.
    """

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check(self.index, self.width)


def _check(index: int, width: int) -> None:
    if not 0 <= index <= MAX_SIZE // TILE_WIDTH or not 0 < width <= TILE_WIDTH:
        raise ValueError(f"a tile has an index, and 1 to {TILE_WIDTH} hashes")


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile below its log's prefix, without a slash in front."""
    return f"tile/{level}/{_place(index, width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of an entry bundle below its log's prefix, without a slash in front."""
    return f"tile/entries/{_place(index, width)}"


def _place(index: int, width: int) -> str:
    place = f"{index % 1000:03}"
    while index := index // 1000:
        place = f"x{index % 1000:03}/{place}"
    return place if width == TILE_WIDTH else f"{place}.p/{width}"


def parse_tile_path(path: str) -> Tile | EntryBundle:
    """Parse the path of a tile or of an entry bundle.

    Raises:
        MalformedError: It is none, or not in the only form that its numbers have.
    """
    match = _PATH.fullmatch(path) if len(path) <= _MAX_PATH else None
    if match is None:
        raise MalformedError("not the path of a tile")
    level, digits, width = match["level"], match["index"], match["width"]
    index = int(digits.replace("x", "").replace("/", ""))
    # Leading zeroes are of the last three digits only: `x000/001` is no second name for `001`.
    if digits.startswith("x000") or width == str(TILE_WIDTH):
        raise MalformedError("the path of a tile has one form")
    try:
        if level == "entries":
            return EntryBundle(index, int(width or TILE_WIDTH))
        return Tile(int(level), index, int(width or TILE_WIDTH))
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes of a tile a tree of ``size`` leaves has, 0 to 256.

    For an entry bundle the level is 0.
    """
    return max(0, min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH))


def encode_entries(leaves: Iterable[bytes]) -> bytes:
    """Return an entry bundle.

    Raises:
        ValueError: A leaf is longer than its length can say.
    """
    parts: list[bytes] = []
    for leaf in leaves:
        if len(leaf) > MAX_ENTRY:
            raise ValueError(f"a leaf in an entry bundle has at most {MAX_ENTRY} bytes")
        parts += (_LENGTH.pack(len(leaf)), leaf)
    return b"".join(parts)


def parse_entries(data: bytes) -> tuple[bytes, ...]:
    """Parse an entry bundle.

    Raises:
        MalformedError: A leaf is cut short, or there are more than 256 or none.
    """
    leaves: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + _LENGTH.size
        if start > len(data) or len(leaves) == TILE_WIDTH:
            raise MalformedError("an entry bundle is 1 to 256 leaves", offset=position)
        position = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        if position > len(data):
            raise MalformedError("an entry bundle ends within a leaf", offset=start)
        leaves.append(data[start:position])
    if not leaves:
        raise MalformedError("an entry bundle has a leaf")
    return tuple(leaves)


def parse_tile(data: bytes) -> tuple[bytes, ...]:
    """Parse the hashes of a tile.

    Raises:
        MalformedError: It is not 1 to 256 hashes.
    """
    if not 0 < len(data) <= TILE_WIDTH * HASH_SIZE or len(data) % HASH_SIZE:
        raise MalformedError("a tile is 1 to 256 hashes of 32 bytes")
    return tuple([data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)])


def nodes_from_tiles(size: int, tile: Callable[[int, int, int], Sequence[bytes]]) -> Node:
    """Return the complete nodes of a tree that is known by its tiles.

    Feeds ``merkle.inclusion_path`` and ``merkle.consistency_path``. Proves nothing: the paths are
    to be verified against trusted roots.

    Args:
        size: Leaves of the tree.
        tile: Gives the hashes of the tile at a level, an index and a width; asked once for each.
    """
    known: dict[tuple[int, int], Sequence[bytes]] = {}

    def node(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        place = tile_level, index >> (TILE_HEIGHT - height)
        hashes = known.get(place)
        if hashes is None:
            hashes = known[place] = tile(*place, tile_width(*place, size))
        start = (index << height) % TILE_WIDTH
        row = hashes[start : start + (1 << height)]
        while len(row) > 1:
            row = [node_hash(*pair) for pair in zip(row[::2], row[1::2], strict=True)]
        return row[0]

    return node
