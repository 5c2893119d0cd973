"""Which leases live: noted before they are committed, ended once, forgotten when they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.policy.values import MAX_LIFE
from bootlease.ports import Store
from bootlease.token.claimparts import status_index
from bootlease.token.statuslist import STATUS_RING
from bootlease.verifier.continuity.indexes import BLOCK, Indexes
from bootlease.verifier.continuity.live import KEPT, LEAP, LiveLeases
from bootlease.verifier.problems import ProblemError, ProblemKind

NODE, OTHER = b"n" * 32, b"o" * 32
ROOT, NEXT = b"r" * 32, b"s" * 32
GOLDEN = b"g" * 32
NOW, END = 1_000, 1_120


def lease(index: int, first: int = 7) -> bytes:
    """A lease id with this index."""
    return bytes([first]) * 12 + index.to_bytes(4)


def live_with(*grants: tuple[bytes, bytes, int]) -> LiveLeases:
    """Leases of node, root and index."""
    live = LiveLeases()
    for node, root, index in grants:
        live.granted(node, root, [lease(index)], END, (GOLDEN,))
    return live


def test_a_lease_lives_until_it_is_over_or_ends() -> None:
    """Its own id, not only its index, and not a second longer."""
    live = live_with((NODE, ROOT, 1))
    assert live.is_live(lease(1), END - 1)
    assert not live.is_live(lease(1), END)
    assert not live.is_live(lease(1, first=8), NOW)
    assert live.end_lease(lease(1)) == (lease(1),)
    assert not live.is_live(lease(1), NOW)
    assert live.end_lease(lease(1)) == ()


def test_what_ends_with_a_node_or_a_lineage() -> None:
    """All of a node, all but one lineage, or one lineage; nothing of another node."""
    grants = [(NODE, ROOT, 1), (NODE, NEXT, 2), (OTHER, ROOT, 3)]
    assert live_with(*grants).end_node(NODE) == (lease(1), lease(2))
    assert live_with(*grants).end_node(NODE, but=NEXT) == (lease(1),)
    assert live_with(*grants).end_lineage(NODE, NEXT) == (lease(2),)
    assert live_with(*grants).end_node(b"?" * 32) == ()
    live = live_with(*grants)
    live.end_node(NODE)
    assert live.bits(NOW) == [1, 2]
    assert live.is_live(lease(3), NOW)


def test_delegated_leases_end_with_their_parent_and_its_node() -> None:
    """However deep, and whatever of the parent ends; a dead parent has no children."""
    for end in ("lease", "node", "lineage"):
        live = live_with((NODE, ROOT, 1))
        assert live.delegated(lease(1), lease(2), END - 10, now=NOW)
        assert live.delegated(lease(2), lease(3), END - 20, now=NOW)
        if end == "lease":
            assert live.end_lease(lease(1)) == (lease(1), lease(2), lease(3))
        elif end == "node":
            live.end_node(NODE)
        else:
            live.end_lineage(NODE, ROOT)
        assert live.bits(NOW) == [1, 2, 3]
        assert not live.delegated(lease(2), lease(4), END, now=NOW)
    live = live_with((NODE, ROOT, 1))
    live.delegated(lease(1), lease(2), END, now=NOW)
    assert live.end_lease(lease(2)) == (lease(2),)
    assert live.is_live(lease(1), NOW)
    assert not live.delegated(lease(9), lease(4), END, now=NOW)
    assert not live.delegated(lease(1), lease(4), END, now=END)


def test_a_delegated_lease_is_not_over_later_than_its_parent() -> None:
    """Whatever the parent's token says: a stolen key's would outlive the key's revocation."""
    live = live_with((NODE, ROOT, 1))
    assert not live.delegated(lease(1), lease(2), END + 1, now=NOW)
    assert live.is_free(2)
    assert live.delegated(lease(1), lease(2), END, now=NOW)


def test_a_clock_that_leaps_ahead_takes_no_bit_with_it() -> None:
    """When it has been set right again, what was revoked before is revoked still."""
    live = live_with((NODE, ROOT, 1))
    live.end_node(NODE)
    assert live.bits(NOW) == [1]
    assert live.bits(NOW + 7_200) == [1]
    assert live.bits(NOW + 7_201) == [1]
    assert live.bits(NOW + 2) == [1]
    # However long it was ahead, nothing is kept for longer than a lease may live from now on.
    for now in range(NOW + 2, NOW + 2 + MAX_LIFE + KEPT, LEAP):
        assert live.bits(now) == [1]
    assert live.bits(NOW + 2 + MAX_LIFE + KEPT) == []


def test_lineages_are_found_by_what_they_rest_on() -> None:
    """By reference set; and whose a lease is."""
    live = live_with((NODE, ROOT, 1))
    live.granted(OTHER, NEXT, [lease(2)], END, ())
    assert live.lineages() == {(NODE, ROOT), (OTHER, NEXT)}
    assert live.lineages_on(GOLDEN) == {(NODE, ROOT)}
    assert live.node_of(lease(2)) == OTHER
    assert live.node_of(lease(5)) is None


def test_a_bit_stays_until_nobody_accepts_the_token_any_more() -> None:
    """A relying party allows for clocks that differ, so the bit outlives the lease, then goes."""
    live = live_with((NODE, ROOT, 1))
    live.end_node(NODE)
    assert live.bits(END + KEPT - 1) == [1]
    assert not live.is_free(1)
    assert live.bits(END + KEPT) == []
    assert live.is_free(1)
    assert (len(live), live.lineages()) == (0, set())
    assert live.end_node(NODE) == ()


def test_what_was_not_committed_is_forgotten() -> None:
    """Its index is free at once, and nothing of it ends."""
    live = LiveLeases()
    grant = live.granted(NODE, ROOT, [lease(1), lease(2)], END)
    live.forget(grant)
    assert live.is_free(1)
    assert live.end_node(NODE) == ()
    assert live.bits(END + KEPT) == []


def test_what_ended_before_it_was_taken_back_leaves_no_bit() -> None:
    """Nothing grows by it, and the next lease of its index lives."""
    live = LiveLeases()
    grant = live.granted(NODE, ROOT, [lease(1)], END)
    assert live.end_node(NODE) == (lease(1),)
    live.forget(grant)
    assert live.bits(NOW) == []
    live.granted(OTHER, NEXT, [lease(1, first=8)], END)
    assert live.is_live(lease(1, first=8), NOW)


MEANT: dict[str, tuple[Callable[..., object], Callable[..., bool]]] = {
    "e": (lambda live, who, _: live.end_node(who), lambda each, who, _: each[0] == who),
    "n": (
        lambda live, who, which: live.end_node(who, but=which),
        lambda each, who, which: each[0] == who and each[1] != which,
    ),
    "l": (
        lambda live, who, which: live.end_lineage(who, which),
        lambda each, who, which: each[0] == who and each[1] == which,
    ),
}
"""How to end something, and what that means."""


@given(
    st.lists(
        st.tuples(
            st.sampled_from("gdenl"), st.integers(0, 3), st.integers(0, 1), st.integers(1, 30)
        ),
        max_size=60,
    )
)
def test_bits_are_exactly_what_ended_and_is_not_over(
    acts: list[tuple[str, int, int, int]],
) -> None:
    """Against a plain model, whatever happens in whatever order."""
    live, now, model = LiveLeases(), 0, dict[int, list[object]]()
    for number, (act, node, root, life) in enumerate(acts):
        who, which = bytes([node]) * 32, bytes([root]) * 32
        now += 7
        live.tidy(now)
        if act == "g":
            live.granted(who, which, [lease(number)], now + life)
            model[number] = [who, which, now + life, False, None]
        elif act == "d" and model:
            parent = min(model)
            above = model[parent]
            if live.delegated(lease(parent), lease(number), cast("int", above[2]), now=now):
                model[number] = [*above[:3], False, parent]
        elif act in MEANT:
            end, is_meant = MEANT[act]
            end(live, who, which)
            for each in model.values():
                each[3] = each[3] or is_meant(each, who, which)
        ended = {index for index, each in model.items() if each[3]}
        fresh = {i for i, each in model.items() if cast("int", each[2]) > now - KEPT}
        # What was granted longest ago is let go of first, so something may stay a little longer.
        assert ended & fresh <= set(live.bits(now)) <= ended


@dataclass
class Blocks:
    """A store that only counts blocks."""

    number: int = -1
    continuity: object = field(init=False)

    def __post_init__(self) -> None:
        self.continuity = self

    async def reserve_block(self) -> int:
        """Count on."""
        self.number += 1
        await asyncio.sleep(0)
        return self.number


def indexes_of(live: LiveLeases, blocks: Blocks) -> Indexes:
    """Indexes on a counting store."""
    return Indexes(cast("Store", blocks), live)


def test_no_index_is_given_twice_also_after_a_start() -> None:
    """Each in turn from blocks that were counted before; the next verifier begins a new one."""

    async def story() -> None:
        live, blocks = LiveLeases(), Blocks()
        one = indexes_of(live, blocks)
        taken = await asyncio.gather(*(one.lease_ids(3, NOW) for _ in range(4)))
        ids = [each for some in taken for each in some]
        assert [status_index(each) for each in ids] == list(range(12))
        assert len({each[:12] for each in ids}) == 12
        assert blocks.number == 0
        two = indexes_of(live, blocks)
        (after,) = await two.lease_ids(1, NOW)
        assert status_index(after) == BLOCK
        rest = await one.lease_ids(BLOCK - 11, NOW)
        assert status_index(rest[-2]) == BLOCK - 1
        assert status_index(rest[-1]) == 2 * BLOCK

    asyncio.run(story())


def test_ids_are_random_beyond_what_is_drawn_at_once() -> None:
    """16 bytes each, no two with the same random part, however many are taken at a time."""

    async def story() -> None:
        indexes = indexes_of(LiveLeases(), Blocks())
        ids = [each for count in (1, 255, 300, 2) for each in await indexes.lease_ids(count, NOW)]
        assert {len(each) for each in ids} == {16}
        assert len({each[:12] for each in ids}) == len(ids) == 558

    asyncio.run(story())


def test_the_ring_waits_for_a_lease_that_lives() -> None:
    """It comes round, and gives no index away that a token may still show."""

    async def story() -> None:
        live, blocks = LiveLeases(), Blocks(STATUS_RING // BLOCK - 1)
        indexes = indexes_of(live, blocks)
        live.granted(NODE, ROOT, [lease(1)], END)
        (first,) = await indexes.lease_ids(1, NOW)
        assert status_index(first) == 0
        with pytest.raises(ProblemError) as refused:
            await indexes.lease_ids(1, NOW + LEAP)
        assert refused.value.kind is ProblemKind.BUSY
        for now in range(NOW, END + KEPT, LEAP):
            live.tidy(now)
        (second,) = await indexes.lease_ids(1, END + KEPT)
        assert status_index(second) == 1

    asyncio.run(story())
