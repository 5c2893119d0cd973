"""Answers to leases that were granted in part, and to keys that expire, from evidence to bytes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

from bootlease.evidence import LeaseAnswer, LeaseRequest
from bootlease.evidence.expiring import leash_authority
from bootlease.ledger import DecisionRecord
from bootlease.node.confirm import ExpiringTPMKey, Purpose
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import AUDIENCE, POLICY, default_lease
from bootlease.token.claimparts import status_index
from bootlease.token.signatures import TokenSignatures

from .worlds import World, make_world

LIFE = 120


def in_a_world(folder: Path, local_ca: LocalCA, story: Callable[[World], Awaitable[None]]) -> None:
    """Tell a story in a world of its own."""

    async def told() -> None:
        world = await make_world(folder, local_ca, policy=POLICY)
        try:
            await story(world)
        finally:
            world.store.close()

    asyncio.run(told())


def expiring_key(world: World, wish: LeaseRequest) -> ExpiringTPMKey:
    """Return a key of the node's TPM for ``wish``, in a session that has just begun."""
    leash = world.keys.leash
    assert leash is not None
    purpose = Purpose(leash.public, world.node, wish.encoded()[0])
    key = ExpiringTPMKey(world.device, purpose)
    key.session = world.device.begin_permits()
    return key


def test_a_permit_lasts_until_a_second_before_the_lease(tmp_path: Path, local_ca: LocalCA) -> None:
    """The TPM takes it for the key that was asked for; sent again, it is the same to the byte."""

    async def story(world: World) -> None:
        wish = dataclasses.replace(default_lease(), level=3)
        key = expiring_key(world, wish)
        challenge = await world.service.leasing.challenge(world.node)
        asked = dataclasses.replace(wish, confirmation=key.request)
        evidence = world.attest(challenge, leases=[asked, default_lease()])
        world.clock.pass_time(7)
        decided = await world.service.leasing.lease(world.node, evidence)
        permitted, plain = LeaseAnswer.parse(decided.answer.body).leases
        assert permitted.permit is not None
        assert permitted.permit.seconds == LIFE - 7 - 1
        assert plain.permit is None
        world.clock.pass_time(5)
        again = await world.service.leasing.lease(world.node, evidence)
        assert again.commit is None
        assert again.answer.body == decided.answer.body
        leash = world.keys.leash
        assert leash is not None
        authority = leash_authority(leash.public).marshal()
        world.device.redeem(authority, [key.permit(permitted.permit)])
        key.sign(b"proof")

    in_a_world(tmp_path, local_ca, story)


def test_what_is_left_out_leaves_nothing_behind(tmp_path: Path, local_ca: LocalCA) -> None:
    """No id, no token, no signature and no place in the status list; the same bytes again."""

    async def story(world: World) -> None:
        denied = dataclasses.replace(default_lease(("deploy:prod",), AUDIENCE), optional=True)
        challenge = await world.service.leasing.challenge(world.node)
        evidence = world.attest(challenge, leases=[denied, default_lease(), denied])
        decided = await world.service.leasing.lease(world.node, evidence)
        answer = LeaseAnswer.parse(decided.answer.body)
        assert [each.index for each in answer.denied] == [0, 2]
        assert answer.granted() == (1,)
        commit = decided.commit
        assert commit is not None
        assert len(commit.claims) == len(answer.leases) == 1
        assert len(TokenSignatures.parse(commit.signatures).signatures) == 1
        record = DecisionRecord.parse(commit.record)
        assert [each.lease_id for each in record.leases] == [answer.leases[0].lease_id]
        challenge = await world.service.leasing.challenge(world.node)
        following = world.attest(challenge, leases=[default_lease()])
        after = await world.service.leasing.lease(world.node, following)
        (next_lease,) = LeaseAnswer.parse(after.answer.body).leases
        used = status_index(next_lease.lease_id) - status_index(answer.leases[0].lease_id)
        assert used == 1
        again = await world.service.leasing.lease(world.node, evidence)
        assert again.answer.body == decided.answer.body

    in_a_world(tmp_path, local_ca, story)
