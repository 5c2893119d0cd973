"""Tiles: their names, their contents, and trees made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.ledger.merkle import (
    MAX_SIZE,
    Frontier,
    consistency_path,
    extend,
    inclusion_path,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from bootlease.ledger.tiles import (
    MAX_ENTRY,
    TILE_WIDTH,
    EntryBundle,
    Tile,
    encode_entries,
    entries_path,
    nodes_from_tiles,
    parse_entries,
    parse_tile,
    parse_tile_path,
    tile_path,
    tile_width,
)

LEAVES = [leaf_hash(b"%d" % number) for number in range(1000)]
HASHES = {(level, index): one for level, index, one in extend(Frontier(), LEAVES).nodes}


def tile(level: int, index: int, width: int) -> list[bytes]:
    """Return the hashes of a tile of the tree over ``LEAVES``."""
    start = index * TILE_WIDTH
    return [HASHES[8 * level, start + offset] for offset in range(width)]


@given(st.integers(0, 63), st.integers(0, MAX_SIZE // 256), st.integers(1, 256))
def test_names_survive_their_paths(level: int, index: int, width: int) -> None:
    """The name of a tile or of an entry bundle survives its path."""
    assert parse_tile_path(tile_path(level, index, width)) == Tile(level, index, width)
    assert parse_tile_path(entries_path(index, width)) == EntryBundle(index, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/1",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/x001/x002",
        "tile/0/0001",
        "tile/0/001.p/0",
        "tile/0/001.p/01",
        "tile/0/001.p/256",
        "tile/0/001.p/257",
        "tile/0/001.p",
        "tile/0/001/",
        "/tile/0/001",
        "tile/0/001\n",
        "tile/0/00\u0661",
        "tile/data/001",
        "tile/entries/x999/x999/x999/x999/x999/x999/999",
        "tile/0/" + "x001/" * 40 + "001",
    ],
)
def test_other_paths_are_malformed(path: str) -> None:
    """A second spelling of a tile's name is no name."""
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@given(st.text(max_size=40) | st.from_regex(r"tile/[0-9a-z]{1,3}/[x0-9/]{1,12}(\.p/[0-9]+)?"))
def test_any_path_is_a_name_or_malformed(path: str) -> None:
    """Text is a path that is written the same, or malformed, never any other."""
    try:
        name = parse_tile_path(path)
    except MalformedError:
        return
    if isinstance(name, Tile):
        assert tile_path(name.level, name.index, name.width) == path
    else:
        assert entries_path(name.index, name.width) == path


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=256))
def test_entries_survive(leaves: list[bytes]) -> None:
    """Leaves survive their bundle."""
    assert parse_entries(encode_entries(leaves)) == tuple(leaves)


@given(st.binary(max_size=100))
def test_any_bytes_are_entries_or_malformed(data: bytes) -> None:
    """Bytes are a bundle that encodes to them, or malformed, never any other."""
    try:
        assert encode_entries(parse_entries(data)) == data
    except MalformedError:
        return


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\5abcd", b"\0\1a\0", b"\0\0" * 257])
def test_other_bundles_are_malformed(data: bytes) -> None:
    """A bundle without leaves, cut short, or with too many is refused."""
    with pytest.raises(MalformedError):
        parse_entries(data)


def test_long_leaves_are_our_misuse() -> None:
    """A leaf longer than its length can say is not put into a bundle."""
    assert len(encode_entries([bytes(MAX_ENTRY)])) == MAX_ENTRY + 2
    with pytest.raises(ValueError, match="65535"):
        encode_entries([bytes(MAX_ENTRY + 1)])


@pytest.mark.parametrize("size", [0, 31, 33, 257 * 32])
def test_other_tiles_are_malformed(size: int) -> None:
    """A tile is 1 to 256 whole hashes."""
    with pytest.raises(MalformedError):
        parse_tile(bytes(size))
    assert len(parse_tile(bytes(256 * 32))) == 256


@pytest.mark.parametrize(
    "wrong", [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257), (0, 1 << 60, 1)]
)
def test_impossible_names_are_our_misuse(wrong: tuple[int, int, int]) -> None:
    """A tile that cannot be has no name."""
    with pytest.raises(ValueError, match="tile"):
        Tile(*wrong)


@given(st.integers(1, 1000), st.data())
def test_proofs_from_tiles_verify(size: int, data: st.DataObject) -> None:
    """Inclusion and consistency are proven from the tiles of a tree, each read once."""
    asked = []

    def read(level: int, index: int, width: int) -> list[bytes]:
        assert width == tile_width(level, index, size) > 0
        asked.append((level, index))
        return tile(level, index, width)

    root = extend(Frontier(), LEAVES[:size]).root
    node = nodes_from_tiles(size, read)
    index = data.draw(st.integers(0, size - 1))
    verify_inclusion(LEAVES[index], index, size, inclusion_path(index, size, node), root)
    old = data.draw(st.integers(1, size))
    path = consistency_path(old, size, node)
    verify_consistency(old, size, path, extend(Frontier(), LEAVES[:old]).root, root)
    assert len(asked) == len(set(asked))


def test_the_width_of_a_tile_follows_the_size() -> None:
    """A tile that the tree has not reached is empty, one it has filled is full."""
    assert [tile_width(0, 1, size) for size in (0, 256, 257, 511, 512, 10_000)] == [
        *(0, 0, 1, 255, 256, 256)
    ]
