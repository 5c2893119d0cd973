"""The Merkle tree: growing, proving, checking proofs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import VerificationError
from bootlease.ledger.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    Extension,
    Frontier,
    consistency_path,
    extend,
    inclusion_path,
    inclusion_root,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"%d" % number) for number in range(300)]


def root_of(hashes: list[bytes]) -> bytes:
    """Return the root by the definition of RFC 9162 §2.1.1, recursively."""
    if len(hashes) < 2:
        return hashes[0] if hashes else EMPTY_ROOT
    middle = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(root_of(hashes[:middle]), root_of(hashes[middle:]))


def node(level: int, index: int) -> bytes:
    """Return a complete node of the tree over ``LEAVES``."""
    row = LEAVES[index << level : index + 1 << level]
    assert len(row) == 1 << level, "an incomplete node was asked for"
    return root_of(row)


def grown(old: int, new: int) -> Extension:
    """Return the tree of ``new`` leaves, grown from ``old`` at once."""
    frontier = extend(Frontier(), LEAVES[:old]).frontier if old else Frontier()
    return extend(frontier, LEAVES[old:new])


sizes = st.integers(0, 299).flatmap(lambda old: st.tuples(st.just(old), st.integers(old + 1, 300)))


@given(sizes)
def test_growing_gives_the_root_of_the_definition(both: tuple[int, int]) -> None:
    """However a tree was grown, its root is that of the definition, and its frontier's."""
    old, new = both
    extension = grown(old, new)
    assert extension.root == root_of(LEAVES[:new])
    assert extension.frontier.root() == extension.root
    assert extension.frontier.size == new


@given(sizes)
def test_growing_reports_each_new_complete_node_once(both: tuple[int, int]) -> None:
    """The new nodes are those complete now and not before, with their hashes."""
    old, new = both
    nodes = grown(old, new).nodes
    expected = {(level, index) for level in range(9) for index in range(old >> level, new >> level)}
    assert {(level, index) for level, index, _ in nodes} == expected
    assert len(nodes) == len(expected)
    assert all(one == node(level, index) for level, index, one in nodes)


@given(sizes, st.data())
def test_paths_of_new_leaves_are_those_of_the_definition(
    both: tuple[int, int], data: st.DataObject
) -> None:
    """The path of a new leaf is the one made from complete nodes, and verifies."""
    old, new = both
    extension = grown(old, new)
    position = data.draw(st.integers(0, new - old - 1))
    path = extension.path(position)
    assert path == inclusion_path(old + position, new, node)
    verify_inclusion(LEAVES[old + position], old + position, new, path, extension.root)


@given(sizes)
def test_consistency_of_every_growth_verifies(both: tuple[int, int]) -> None:
    """A tree that grew is proven to have grown."""
    old, new = both
    path = consistency_path(old, new, node)
    verify_consistency(old, new, path, root_of(LEAVES[:old]), root_of(LEAVES[:new]))


@given(sizes, st.data())
def test_an_inclusion_proof_proves_one_place_in_one_tree(
    both: tuple[int, int], data: st.DataObject
) -> None:
    """With another index, size, leaf, root or a shortened or lengthened path it is refused."""
    old, size = both
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(index, size, node)
    root = root_of(LEAVES[:size])
    others = st.integers(0, 2 * size + 2)
    wrong = [
        (LEAVES[index], data.draw(others.filter(lambda one: one != index)), size, path, root),
        (LEAVES[(index + 1) % 300], index, size, path, root),
        (LEAVES[index], index, size, path, root_of(LEAVES[:old])),
        (LEAVES[index], index, size, (*path, root), root),
        (LEAVES[index], index, size, (*path[:-1], root[:31]), root),
    ]
    if path:
        wrong.append((LEAVES[index], index, size, path[1:], root))
    for arguments in wrong:
        with pytest.raises(VerificationError) as caught:
            verify_inclusion(*arguments)
        assert caught.value.findings[0].id == "ledger.inclusion.invalid"


@given(sizes, st.data())
def test_a_consistency_proof_proves_one_growth(both: tuple[int, int], data: st.DataObject) -> None:
    """With another root, or with a hash altered, added or left out, it is refused."""
    old, new = both
    path = consistency_path(old, new, node)
    old_root, new_root = root_of(LEAVES[:old]), root_of(LEAVES[:new])
    wrong = [
        (path, b"\x55" * 32, new_root),
        ((*path, new_root), old_root, new_root),
        ((old_root, *path), old_root, new_root),
    ]
    if old:
        wrong.append((path, old_root, b"\x55" * 32))
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        wrong += [
            ((*path[:place], b"\x55" * 32, *path[place + 1 :]), old_root, new_root),
            ((*path[:place], *path[place + 1 :]), old_root, new_root),
            ((*path[:place], path[place][:31], *path[place + 1 :]), old_root, new_root),
        ]
    for steps, first, second in wrong:
        with pytest.raises(VerificationError) as caught:
            verify_consistency(old, new, steps, first, second)
        assert caught.value.findings[0].id == "ledger.consistency.invalid"


def test_rewritten_log_is_not_consistent() -> None:
    """A log that changed an old leaf cannot prove that it only grew, whatever path it sends."""
    honest = root_of(LEAVES[:6])
    forged = [*LEAVES[:3], leaf_hash(b"another"), *LEAVES[4:8]]

    def forged_node(level: int, index: int) -> bytes:
        return root_of(forged[index << level : index + 1 << level])

    path = consistency_path(6, 8, forged_node)
    with pytest.raises(VerificationError):
        verify_consistency(6, 8, path, honest, root_of(forged))


def test_a_node_cannot_pass_for_a_leaf() -> None:
    """The two children of a node, put together as a leaf's bytes, hash to something else."""
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3), (0, MAX_SIZE + 1)])
def test_trees_do_not_shrink(old: int, new: int) -> None:
    """A growth backwards, from below nothing or beyond all sizes is neither made nor believed."""
    with pytest.raises(VerificationError):
        verify_consistency(old, new, (), EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(ValueError, match="no tree grew"):
        consistency_path(old, new, node)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, MAX_SIZE + 1)])
def test_leaves_outside_a_tree_have_no_path(index: int, size: int) -> None:
    """A leaf before the first or behind the last is neither proven nor believed."""
    with pytest.raises(VerificationError):
        inclusion_root(LEAVES[0], index, size, ())
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_path(index, size, node)


@pytest.mark.parametrize("position", [-1, 3])
def test_an_extension_has_paths_of_its_own_leaves_only(position: int) -> None:
    """A path is made for the leaves that were appended, for no other."""
    with pytest.raises(ValueError, match="appended"):
        grown(5, 8).path(position)


@pytest.mark.parametrize(
    ("size", "hashes"),
    [(1, ()), (0, (b"\0" * 32,)), (-1, ()), (1, (b"\0" * 31,)), (MAX_SIZE + 1, (b"\0" * 32,))],
)
def test_impossible_frontiers_are_our_misuse(size: int, hashes: tuple[bytes, ...]) -> None:
    """A frontier has exactly the hashes that its size demands."""
    with pytest.raises(ValueError, match="hash"):
        Frontier(size, hashes)


@pytest.mark.parametrize("hashes", [[], [b"\0" * 31]])
def test_impossible_extensions_are_our_misuse(hashes: list[bytes]) -> None:
    """A tree grows by a leaf or more, each of 32 bytes."""
    with pytest.raises(ValueError, match=r"leaf|hash"):
        extend(Frontier(), hashes)


def test_a_full_tree_does_not_grow() -> None:
    """A tree of the largest size takes no further leaf."""
    full = Frontier(MAX_SIZE, (b"\0" * 32,) * 63)
    with pytest.raises(ValueError, match="largest"):
        extend(full, [b"\0" * 32])


def test_the_largest_tree_has_paths() -> None:
    """A leaf appended last to the largest tree is proven."""
    extension = extend(Frontier(MAX_SIZE - 1, (b"\1" * 32,) * 62), [b"\0" * 32])
    verify_inclusion(b"\0" * 32, MAX_SIZE - 1, MAX_SIZE, extension.path(0), extension.root)
