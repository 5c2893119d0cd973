"""Delegations in the store: one row and one leaf for each grant."""

from __future__ import annotations

import asyncio

import pytest

from bootlease.ledger import encode_leaf
from bootlease.ports import LiveDelegation, StoredDelegation, StoreUnavailableError
from bootlease.testing.store_scene import LIFE, NOW, FaultySealer, StoreScene, digest_of


def test_a_delegation_is_kept_with_its_leaf_and_receipt(scene: StoreScene) -> None:
    """It is found by its grant, also by a store that is opened anew."""

    async def story() -> None:
        await scene.fill()
        made = await scene.delegate()
        leaf = encode_leaf(made.new.digest, digest_of(made.new.claims))
        assert made.number == 1
        assert made.receipt.leaf == leaf
        place = await scene.store.ledger.position(made.new.digest)
        assert place == (1, made.receipt.index, 1)
        assert await scene.store.ledger.entries(1, place[1], place[1] + 1) == (leaf,)
        other = scene.open()
        try:
            found = await other.delegations.given(made.new.use)
        finally:
            other.close()
        assert found is not None
        assert (found.number, found.new) == (made.number, made.new)
        assert found.receipt.cose() == made.receipt.cose()
        assert await scene.store.delegations.given(bytes(32)) is None

    asyncio.run(story())


def test_one_grant_is_one_row(scene: StoreScene) -> None:
    """Whoever comes second gets what the first one got, and adds no leaf."""

    async def story() -> None:
        await scene.fill()
        made = await asyncio.gather(*(scene.delegate(b"same") for _ in range(5)))
        assert {each.number for each in made} == {1}
        (shard,) = await scene.store.ledger.shards()
        another = await scene.delegate(b"other")
        assert another.number == 2
        assert another.receipt.index == shard.size

    asyncio.run(story())


def test_delegations_share_a_commit_with_decisions(scene: StoreScene) -> None:
    """Their leaves stand in one tree, sealed together, and every receipt is its own leaf's."""

    async def story() -> None:
        node = await scene.fill()
        made = await asyncio.gather(
            scene.delegate(b"one"), scene.renew(node), scene.delegate(b"two")
        )
        for each in made:
            if isinstance(each, StoredDelegation):
                assert each.receipt.leaf.endswith(digest_of(each.new.claims))

    asyncio.run(story())


def test_those_that_live_are_listed_in_order(scene: StoreScene) -> None:
    """A parent comes before its child, and what is over is left out."""

    async def story() -> None:
        await scene.fill()
        made = [await scene.delegate(name, now=NOW + at) for at, name in enumerate((b"x", b"y"))]
        listed = await scene.store.delegations.live(now=NOW)
        assert listed == [
            LiveDelegation(each.new.parent, each.new.lease_id, each.new.expires_at) for each in made
        ]
        later = await scene.store.delegations.live(now=NOW + LIFE)
        assert [each.lease_id for each in later] == [made[1].new.lease_id]

    asyncio.run(story())


def test_what_is_not_sealed_is_not_given(scene: StoreScene) -> None:
    """Where the ledger cannot be signed, no delegation is recorded."""

    async def story() -> None:
        await scene.fill()
        scene.sealer.fault = RuntimeError("no key")
        with pytest.raises(StoreUnavailableError):
            await scene.delegate()
        scene.sealer.fault = None
        assert scene.rows("SELECT count(*) FROM delegations") == [(0,)]
        assert (await scene.delegate()).number == 1

    asyncio.run(story())
    assert isinstance(scene.sealer, FaultySealer)
