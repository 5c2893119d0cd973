"""Token exchange: what a holder's grant gets its child, and what it does not."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from bootlease import cbor
from bootlease.evidence import LeaseAnswer, LeaseRequest, PlainKey, TokenEncoding
from bootlease.ledger import DelegationRecord, parse_receipt, parse_tlog_proof
from bootlease.ledger.leaf import encode_leaf
from bootlease.ports import RevokedKind
from bootlease.store import SQLStore
from bootlease.testing.chains import KEYS
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy
from bootlease.testing.scene import AUDIENCE
from bootlease.token import (
    ExecutionClaims,
    KeyProtection,
    PrivateKeySigner,
    Tier,
    TokenFormat,
    TrustVector,
    base64url,
    make_proof,
    parse_token,
    verify_token,
)
from bootlease.token.delegation import holding_of, verify_chain
from bootlease.token.grants import make_grant, parse_grant
from bootlease.token.receipts import receipts_of
from bootlease.verifier.app import build_app
from bootlease.verifier.delegation.exchanges import Exchanged, ExchangeError, ExchangeRequest
from bootlease.verifier.limits import DEFAULT_LIMITS, Rate
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.tokens import ACCESS_TOKEN, FORM, GRANT, GRANT_TYPE, JWT
from bootlease.verifier.service import Service, build_service
from tests.unit.verifier.worlds import AUTHOR, ISSUER, World, make_world

HOLDER: Final = KEYS[0]
SCOPE: Final = ("tool:search", "repo:acme/*")
POLICY: Final = make_policy(
    lease__delegation_depth="3", lease__unsafe_bearer_audiences=f'["{AUDIENCE}"]'
)
LIMITS: Final = replace(DEFAULT_LIMITS, delegations_per_life=8, used_proofs=64)
URL: Final = f"{ISSUER}/v1/token"


@dataclass
class Scene:
    """A verifier, and a lease that its holder may pass on.

    Attributes:
        world: The verifier and its node.
        parent: The lease's token.
    """

    world: World
    parent: str = ""

    @property
    def service(self) -> Service:
        """The verifier."""
        return self.world.service

    @property
    def now(self) -> int:
        """Its clock."""
        return self.world.clock.now()

    async def attest(self, form: TokenEncoding = TokenEncoding.CWT) -> None:
        """Let the node begin a lineage with one lease, held by the first key."""
        key = PlainKey(cbor.encode(HOLDER.public.cose()))
        wish = LeaseRequest(SCOPE, AUDIENCE, key, form)
        challenge = await self.service.leasing.challenge(self.world.node)
        evidence = self.world.attest(challenge, leases=(wish,))
        decided = await self.service.leasing.lease(self.world.node, evidence)
        assert decided.answer.granted
        token = LeaseAnswer.parse(decided.answer.body).leases[0].token
        self.parent = base64url.encode(token) if form is TokenEncoding.CWT else token.decode()

    def grant(
        self, to: int = 1, *, signer: PrivateKeySigner = HOLDER, parent: str = "", **changes: Any
    ) -> str:
        """Return a grant of all that the holder may pass on, with some of it changed."""
        claims = claims_of(parent or self.parent)
        holding = holding_of(claims)
        members: dict[str, Any] = {
            "thumbprint": KEYS[to].public.thumbprint(),
            "scope": claims.scope,
            "audience": claims.audience,
            "expires_at": claims.expires_at,
            "depth": min(holding.depth, 3) - 1,
            "issued_at": self.now,
            "jti": secrets.token_urlsafe(16),
        }
        return make_grant(signer, changes.pop("head", holding.head), **members | changes)

    def proof(self, to: int = 1, **changes: Any) -> str:
        """Return the proof of a key for an exchange."""
        members: dict[str, Any] = {
            "htm": "POST",
            "htu": URL,
            "iat": self.now,
            "jti": secrets.token_urlsafe(16),
            "access_token": None,
        }
        return make_proof(KEYS[to], **members | changes)

    async def exchange(self, grant: str, to: int = 1, **changes: Any) -> Exchanged:
        """Exchange a grant."""
        members: dict[str, Any] = {
            "parent": self.parent,
            "grant": grant,
            "form": None,
            "scope": None,
            "audience": None,
            "proof": self.proof(to),
        }
        return await self.service.delegating.exchange(ExchangeRequest(**members | changes))

    async def refused(self, grant: str, to: int = 1, **changes: Any) -> tuple[str, list[str]]:
        """Return the error and the findings of an exchange that is refused."""
        with pytest.raises(ExchangeError) as raised:
            await self.exchange(grant, to, **changes)
        return raised.value.fault.value, [each.id for each in raised.value.findings]

    async def rows(self) -> int:
        """Return how many delegations are recorded."""
        return len(await self.service.store.delegations.live(now=0))


def claims_of(token: str) -> ExecutionClaims:
    """Return what a token says."""
    return parse_token(token)[1]


Play = Callable[[Callable[[Scene], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path, local_ca: LocalCA) -> Iterator[Play]:
    """Play a story with a verifier whose policy lets leases be passed on three times."""
    stores: list[SQLStore] = []

    def run(story: Callable[[Scene], Awaitable[None]]) -> None:
        async def whole() -> None:
            world = await make_world(tmp_path, local_ca, policy=POLICY, limits=LIMITS)
            stores.append(world.store)
            scene = Scene(world)
            await scene.attest()
            await story(scene)

        asyncio.run(whole())

    yield run
    for store in stores:
        store.close()


@pytest.mark.parametrize("wanted", [None, TokenFormat.JWT])
@pytest.mark.parametrize("form", list(TokenEncoding))
def test_a_grant_becomes_a_token(
    play: Play, form: TokenEncoding, wanted: TokenFormat | None
) -> None:
    """Its token is the verifier's, for the key granted to, and says what the grant says."""

    async def story(scene: Scene) -> None:
        await scene.attest(form)
        parent = claims_of(scene.parent)
        given = await scene.exchange(
            scene.grant(scope=("repo:acme/x",), expires_at=parent.expires_at - 7, depth=0),
            form=wanted,
        )
        verified = verify_token(
            given.token,
            scene.service.keys,
            now=scene.now,
            issuer=ISSUER,
            audience=AUDIENCE,
        )
        expected = TokenFormat.CWT if form is TokenEncoding.CWT else TokenFormat.JWT
        assert verified.format is given.form is (wanted or expected)
        child = verified.claims
        assert verify_chain(child).depth == 1
        assert child.confirmation == KEYS[1].public
        assert child.scope == given.scope == ("repo:acme/x",)
        assert child.expires_at == parent.expires_at - 7 == scene.now + given.expires_in
        assert child.lease_id == given.lease_id != parent.lease_id
        assert (given.receipt is None) == (given.form is TokenFormat.CWT)

    play(story)


def test_a_child_says_nothing_of_its_own_attestation(play: Play) -> None:
    """Whose node, boot and policy it lives under is the parent's; what was appraised is not its."""

    async def story(scene: Scene) -> None:
        parent = claims_of(scene.parent)
        child = claims_of((await scene.exchange(scene.grant())).token)
        assert (child.status, child.vector) == (Tier.NONE, TrustVector(instance_identity=0))
        assert child.vector.to_cwt() == {0: 0}
        assert child.level is None
        assert child.protection is KeyProtection.PROCESS
        assert child.delegation is not None
        root = child.delegation.root
        assert root.status is parent.status is Tier.AFFIRMING
        assert (root.lease_id, root.digest) == (parent.lease_id, parent.digest)
        assert root.decision == parent.decision != child.decision
        for name in ("subject", "lineage", "boot", "policy", "reference", "evidence", "nonce"):
            assert getattr(child, name) == getattr(parent, name)

    play(story)


def test_a_child_may_be_passed_on_until_the_policy_ends_it(play: Play) -> None:
    """Three grants, and no fourth, whatever the third says."""

    async def story(scene: Scene) -> None:
        for depth in (1, 2, 3):
            signer = KEYS[depth - 1]
            given = await scene.exchange(scene.grant(depth, signer=signer, depth=3 - depth), depth)
            scene.parent = given.token
            assert verify_chain(claims_of(given.token)).depth == depth
        late = scene.grant(4, signer=KEYS[3], depth=0)
        assert await scene.refused(late, 4) == ("invalid_grant", ["delegation.depth.policy"])

    play(story)


def test_the_first_grant_is_bounded_by_the_policy(play: Play) -> None:
    """A holder cannot let its child be passed on more often than the policy says."""

    async def story(scene: Scene) -> None:
        found = await scene.refused(scene.grant(depth=3))
        assert found == ("invalid_grant", ["delegation.depth.exceeded"])

    play(story)


@pytest.mark.parametrize(
    ("changes", "error", "finding"),
    [
        ({"scope": ("tool:search", "tool:write")}, "invalid_scope", "delegation.scope.wider"),
        ({"audience": "https://o.example"}, "invalid_target", "delegation.audience.mismatch"),
        ({"head": bytes(32)}, "invalid_grant", "delegation.parent.mismatch"),
        ({"signer": KEYS[9]}, "invalid_grant", "delegation.key.mismatch"),
        ({"to": 0}, "invalid_grant", "delegation.key.repeated"),
    ],
)
def test_a_grant_beyond_the_lease_is_refused(
    play: Play, changes: dict[str, Any], error: str, finding: str
) -> None:
    """The verifier makes the checks that a relying party makes, before it signs anything."""

    async def story(scene: Scene) -> None:
        to = changes.get("to", 1)
        assert await scene.refused(scene.grant(**changes), to) == (error, [finding])
        assert await scene.rows() == 0

    play(story)


def test_times_of_a_grant(play: Play) -> None:
    """It ends no later than the lease, is not over, and was not made in the future."""

    async def story(scene: Scene) -> None:
        end = claims_of(scene.parent).expires_at
        assert await scene.refused(scene.grant(expires_at=end + 1)) == (
            "invalid_grant",
            ["delegation.expires.later"],
        )
        short = scene.grant(expires_at=scene.now + 3)
        ahead = scene.grant(issued_at=scene.now + 6)
        assert await scene.refused(ahead) == ("invalid_grant", ["delegation.grant.future"])
        await scene.exchange(scene.grant(issued_at=scene.now + 5))
        scene.world.clock.pass_time(3)
        assert await scene.refused(short) == ("invalid_grant", ["delegation.grant.expired"])

    play(story)


def test_a_parent_that_is_over_passes_nothing_on(play: Play) -> None:
    """Not even within the leeway that relying parties allow: this is the clock that counts."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        scene.world.clock.pass_time(claims_of(scene.parent).expires_at - scene.now - 1)
        assert (await scene.exchange(scene.grant(2), 2)).expires_in == 1
        scene.world.clock.pass_time(1)
        assert await scene.refused(grant) == ("invalid_request", ["token.expired"])

    play(story)


def test_a_parent_of_another_issuer_is_none(play: Play) -> None:
    """Only tokens that this verifier signed are passed on."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        data = bytearray(base64url.decode(scene.parent))
        data[-1] ^= 1
        broken = base64url.encode(bytes(data))
        found = await scene.refused(grant, parent=broken)
        assert found == ("invalid_request", ["token.signature.invalid"])
        assert await scene.refused(grant, parent="x") == ("invalid_request", [])
        assert await scene.refused("x") == ("invalid_grant", [])

    play(story)


def test_an_ended_lease_passes_nothing_on(play: Play) -> None:
    """A lease that an operator revoked, or that another lineage ended, has no children."""

    async def story(scene: Scene) -> None:
        grant, parent = scene.grant(), claims_of(scene.parent)
        scene.service.ending.live.end_lease(parent.lease_id)
        assert await scene.refused(grant) == ("invalid_request", ["delegation.parent.ended"])

    play(story)


def test_a_child_of_an_ended_lease_passes_nothing_on(play: Play) -> None:
    """It ends with every lease above it, and its bit says so."""

    async def story(scene: Scene) -> None:
        live = scene.service.ending.live
        root = claims_of(scene.parent)
        first = await scene.exchange(scene.grant())
        scene.parent = first.token
        second = await scene.exchange(scene.grant(2, signer=KEYS[1], depth=0), 2)
        ended = live.end_lease(root.lease_id)
        assert set(ended) == {root.lease_id, first.lease_id, second.lease_id}
        assert claims_of(second.token).status_index in live.bits(scene.now)
        third = scene.grant(3, signer=KEYS[1], depth=0)
        assert await scene.refused(third, 3) == ("invalid_request", ["delegation.parent.ended"])

    play(story)


def test_every_lease_above_must_live(play: Play) -> None:
    """Also where only one in the middle is known to have ended."""

    async def story(scene: Scene) -> None:
        scene.parent = (await scene.exchange(scene.grant())).token
        grant = scene.grant(2, signer=KEYS[1], depth=0)
        root = verify_chain(claims_of(scene.parent)).lease_ids[0]
        live = scene.service.ending.live
        is_live = live.is_live
        scene.service.delegating._live = _Blind(live, root, is_live)  # type: ignore[assignment]
        assert await scene.refused(grant, 2) == ("invalid_request", ["delegation.parent.ended"])

    play(story)


@dataclass
class _Blind:
    """Live leases of which one is said to have ended, and none with it."""

    live: Any
    ended: bytes
    really: Callable[[bytes, int], bool]

    def is_live(self, lease_id: bytes, now: int) -> bool:
        """See ``LiveLeases``."""
        return lease_id != self.ended and self.really(lease_id, now)


def test_a_revoked_node_passes_nothing_on(play: Play) -> None:
    """Its leases end with it, and its name alone is refused."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        await scene.service.revoking.revoke(
            RevokedKind.NODE, scene.world.node.hex(), reason="stolen", author=AUTHOR
        )
        error, found = await scene.refused(grant)
        assert error == "invalid_request"
        assert set(found) == {"delegation.parent.ended", "node.revoked"}

    play(story)


def test_a_lease_of_a_revoked_epoch_passes_nothing_on(play: Play) -> None:
    """A relying party would refuse its child; so does the verifier."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        await scene.service.registry.activate_policy(
            make_policy(lease__delegation_depth="3", id='"other"').encode(),
            author=AUTHOR,
            revoke_now=True,
        )
        assert await scene.refused(grant) == ("invalid_request", ["delegation.epoch.ended"])

    play(story)


def test_a_parent_that_ends_while_its_child_is_recorded_takes_it_along(play: Play) -> None:
    """The child is known before it is committed, and looked at again afterwards."""

    async def story(scene: Scene) -> None:
        grant, parent = scene.grant(), claims_of(scene.parent)
        delegations = scene.service.store.delegations
        commit = delegations.commit

        async def ending(new: Any) -> Any:
            scene.service.ending.live.end_lease(parent.lease_id)
            return await commit(new)

        delegations.commit = ending  # type: ignore[method-assign]  # the moment between
        assert await scene.refused(grant) == ("invalid_request", ["delegation.parent.ended"])
        assert await scene.rows() == 1
        (child,) = await delegations.live(now=0)
        assert not scene.service.ending.live.is_live(child.lease_id, scene.now)

    play(story)


def test_a_child_is_known_before_it_is_committed(play: Play) -> None:
    """Where the parent ended just before, nothing is recorded."""

    async def story(scene: Scene) -> None:
        grant, parent = scene.grant(), claims_of(scene.parent)
        indexes = scene.service.delegating._indexes
        ids = indexes.lease_ids

        async def ending(count: int, now: int) -> list[bytes]:
            scene.service.ending.live.end_lease(parent.lease_id)
            return await ids(count, now)

        indexes.lease_ids = ending  # type: ignore[method-assign]  # the moment between
        assert await scene.refused(grant) == ("invalid_request", ["delegation.parent.ended"])
        assert await scene.rows() == 0

    play(story)


def test_children_end_with_their_parents_across_a_restart(play: Play) -> None:
    """A verifier that starts again knows which leases were passed on."""

    async def story(scene: Scene) -> None:
        first = await scene.exchange(scene.grant())
        root = claims_of(scene.parent)
        scene.parent = first.token
        second = await scene.exchange(scene.grant(2, signer=KEYS[1], depth=0), 2)
        again = await build_service(
            scene.world.store, scene.world.keys, ISSUER, clock=scene.world.clock, limits=LIMITS
        )
        live = again.ending.live
        assert live.is_live(second.lease_id, scene.now)
        live.end_lease(root.lease_id)
        assert not live.is_live(second.lease_id, scene.now)
        # Another lineage ends the first one, and its children; the next start still says so.
        scene.world.clock.pass_time(1)
        await scene.attest()
        third = await build_service(
            scene.world.store, scene.world.keys, ISSUER, clock=scene.world.clock, limits=LIMITS
        )
        assert claims_of(second.token).status_index in third.ending.live.bits(scene.now)

    play(story)


def test_what_is_asked_for_is_what_is_granted(play: Play) -> None:
    """RFC 8693's ``scope`` and ``audience`` may be said, and must be the grant's."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        for scope in ("tool:search", "", "tool:search repo:acme/* x:y", "\n"):
            assert await scene.refused(grant, scope=scope) == (
                "invalid_scope",
                ["delegation.request.scope"],
            )
        assert await scene.refused(grant, audience="https://o.example") == (
            "invalid_target",
            ["delegation.request.audience"],
        )
        given = await scene.exchange(grant, scope="repo:acme/* tool:search", audience=AUDIENCE)
        assert given.scope == SCOPE

    play(story)


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"htm": "GET"}, "pop.method.mismatch"),
        ({"htu": f"{ISSUER}/v1/other"}, "pop.url.mismatch"),
        ({"iat": 1}, "pop.too-old"),
        ({"to": 2}, "delegation.proof.key-mismatch"),
    ],
)
def test_possession_of_the_key_granted_to_is_proven(
    play: Play, changes: dict[str, Any], finding: str
) -> None:
    """Grant and token open nothing for whoever reads them on their way."""

    async def story(scene: Scene) -> None:
        found = await scene.refused(scene.grant(), proof=scene.proof(**changes))
        assert found == ("invalid_dpop_proof", [finding])

    play(story)


def test_a_proof_is_there_and_is_one(play: Play) -> None:
    """None, nonsense, and one that was made for a resource."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        assert await scene.refused(grant, proof=None) == (
            "invalid_dpop_proof",
            ["delegation.proof.missing"],
        )
        assert await scene.refused(grant, proof="x") == ("invalid_dpop_proof", [])
        bound = scene.proof(access_token=scene.parent)
        assert await scene.refused(grant, proof=bound) == ("invalid_dpop_proof", [])

    play(story)


def test_a_proof_is_used_once(play: Play) -> None:
    """Whoever saw a request cannot send it again, not even to get the same answer."""

    async def story(scene: Scene) -> None:
        grant, proof = scene.grant(), scene.proof()
        await scene.exchange(grant, proof=proof)
        found = await scene.refused(grant, proof=proof)
        assert found == ("invalid_dpop_proof", ["pop.replayed"])

    play(story)


def test_full_memory_of_proofs_is_busy_not_forgetful(play: Play) -> None:
    """And it is empty again when no proof in it could pass."""

    async def story(scene: Scene) -> None:
        proofs = scene.service.delegating._proofs
        grant, first = scene.grant(), scene.proof()
        await scene.exchange(grant, proof=first)
        proofs._at_most = 1
        with pytest.raises(ProblemError) as raised:
            await scene.exchange(grant)
        assert raised.value.kind is ProblemKind.BUSY
        scene.world.clock.pass_time(70)
        with pytest.raises(ProblemError):
            await scene.exchange(grant)
        scene.world.clock.pass_time(1)
        assert (await scene.exchange(grant)).again

    play(story)


def test_one_grant_gives_one_child(play: Play) -> None:
    """A lost answer is no second child: the same token comes again, to a new proof."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        first = await scene.exchange(grant)
        scene.world.clock.pass_time(2)
        again = await scene.exchange(grant, form=TokenFormat.JWT)
        assert (first.again, again.again) == (False, True)
        assert again.token == first.token
        assert again.expires_in == first.expires_in - 2
        assert await scene.rows() == 1
        # Also for a verifier that has been started anew.
        other = await build_service(
            scene.world.store, scene.world.keys, ISSUER, clock=scene.world.clock, limits=LIMITS
        )
        scene.world.service = other
        assert (await scene.exchange(grant)).token == first.token

    play(story)


def test_a_grant_that_is_sent_twice_at_once_gives_one_child(play: Play) -> None:
    """The store decides which of two came first."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        given = await asyncio.gather(*(scene.exchange(grant) for _ in range(4)))
        assert len({each.token for each in given}) == 1
        assert sorted(each.again for each in given) == [False, True, True, True]
        assert await scene.rows() == 1

    play(story)


def test_the_id_of_a_grant_is_used_once(play: Play) -> None:
    """Another grant under it is refused, whatever it says."""

    async def story(scene: Scene) -> None:
        await scene.exchange(scene.grant(jti="one"))
        other = scene.grant(jti="one", scope=("tool:search",))
        assert await scene.refused(other) == ("invalid_grant", ["delegation.grant.used"])
        elsewhere = scene.grant(2, jti="one")
        assert await scene.refused(elsewhere, 2) == ("invalid_grant", ["delegation.grant.used"])

    play(story)


def test_an_ended_child_is_not_given_again(play: Play) -> None:
    """A grant is no way back to a lease that has ended."""

    async def story(scene: Scene) -> None:
        grant = scene.grant()
        given = await scene.exchange(grant)
        scene.service.ending.live.end_lease(given.lease_id)
        assert await scene.refused(grant) == ("invalid_request", ["delegation.parent.ended"])

    play(story)


def test_a_node_has_so_many_children_in_the_life_of_a_lease(play: Play) -> None:
    """Each is a record that is kept; answers given again are none."""

    async def story(scene: Scene) -> None:
        grants = [scene.grant(1 + number) for number in range(9)]
        for number, grant in enumerate(grants[:8]):
            await scene.exchange(grant, 1 + number)
        with pytest.raises(ProblemError) as raised:
            await scene.exchange(grants[8], 9)
        assert raised.value.kind is ProblemKind.BUSY_CLIENT
        assert raised.value.retry_after
        assert (await scene.exchange(grants[0], 1)).again

    play(story)


def test_a_chain_whose_token_is_too_long_is_refused(play: Play) -> None:
    """A token that no relying party would read is not given."""

    async def story(scene: Scene) -> None:
        names = tuple(f"repo:acme/{number:02}{'x' * 110}" for number in range(32))
        first = await scene.exchange(scene.grant(scope=names))
        scene.parent = first.token
        found = await scene.refused(
            scene.grant(2, signer=KEYS[1], depth=0), 2, form=TokenFormat.JWT
        )
        assert found == ("invalid_grant", ["delegation.token.too-long"])

    play(story)


def test_a_delegation_is_in_the_ledger(play: Play) -> None:
    """Its record names what it rests on; its leaf and receipt are those of its token."""

    async def story(scene: Scene) -> None:
        parent = claims_of(scene.parent)
        grant = scene.grant()
        given = await scene.exchange(grant)
        child = claims_of(given.token)
        (receipt,) = receipts_of(base64url.decode(given.token))
        leaf = encode_leaf(child.decision, child.digest)
        ledger = scene.service.store.ledger
        assert await ledger.position(child.decision) == (1, parse_receipt(receipt).index, 1)
        index = parse_receipt(receipt).index
        assert list(await ledger.entries(1, index, index + 1)) == [leaf]
        scene.parent = given.token
        second = await scene.exchange(
            scene.grant(2, signer=KEYS[1], depth=0), 2, form=TokenFormat.JWT
        )
        assert second.receipt is not None
        assert parse_tlog_proof(second.receipt.encode()).index == index + 1
        chain = claims_of(second.token).delegation
        assert chain is not None
        use = parse_grant(chain.links[-1].grant).use
        stored = await scene.service.store.delegations.given(use)
        assert stored is not None
        record = DelegationRecord.parse(stored.new.record)
        assert record.decision == parent.decision
        assert (record.parent, record.parent_claims) == (child.lease_id, child.digest)
        assert record.thumbprint == KEYS[2].public.thumbprint()
        assert len(record.grants) == 2
        assert record.policy_epoch == 1

    play(story)


# -- over HTTP


@pytest.fixture
def served(tmp_path: Path, local_ca: LocalCA) -> Iterator[tuple[Scene, TestClient]]:
    """A verifier behind its application, in one loop."""

    async def build() -> Scene:
        limits = replace(LIMITS, exchanges=Rate(40, 60))
        world = await make_world(tmp_path, local_ca, policy=POLICY, limits=limits)
        scene = Scene(world)
        await scene.attest()
        return scene

    scene = asyncio.run(build())
    with TestClient(build_app(scene.service), base_url=ISSUER) as client:
        yield scene, client
    scene.world.store.close()


def form_of(scene: Scene, grant: str, **changes: str | None) -> dict[str, str]:
    """Return the parameters of an exchange, with some of them changed or left out."""
    members: dict[str, str | None] = {
        "grant_type": GRANT_TYPE,
        "subject_token": scene.parent,
        "subject_token_type": ACCESS_TOKEN,
        GRANT: grant,
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def test_the_endpoint_answers_as_oauth_says(served: tuple[Scene, TestClient]) -> None:
    """RFC 8693 §2.2.1: token, its type, how it is presented, its life and scope; kept nowhere."""
    scene, client = served
    answer = client.post(
        "/v1/token", data=form_of(scene, scene.grant()), headers={"dpop": scene.proof()}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    members = answer.json()
    assert verify_chain(claims_of(members.pop("access_token"))).depth == 1
    assert members == {
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "DPoP",
        "expires_in": 120,
        "scope": " ".join(SCOPE),
    }
    jwt = client.post(
        "/v1/token",
        data=form_of(scene, scene.grant(2), requested_token_type=JWT, unknown="ignored"),
        headers={"dpop": scene.proof(2)},
    ).json()
    assert jwt["issued_token_type"] == JWT
    assert jwt["access_token"].count(".") == 2
    assert parse_tlog_proof(jwt["bootlease_receipt"].encode()).index > 0
    assert scene.service.counts["delegated"] == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"subject_token": None}, "invalid_request"),
        ({"subject_token_type": None}, "invalid_request"),
        ({"subject_token_type": "urn:x"}, "invalid_request"),
        ({"requested_token_type": "urn:x"}, "invalid_request"),
        ({GRANT: None}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"actor_token_type": "x"}, "invalid_request"),
        ({"resource": "https://o.example"}, "invalid_target"),
        ({"audience": "https://o.example"}, "invalid_target"),
        ({"scope": "tool:write"}, "invalid_scope"),
    ],
)
def test_a_refused_exchange_is_answered_as_oauth_says(
    served: tuple[Scene, TestClient], changes: dict[str, str | None], error: str
) -> None:
    """RFC 6749 §5.2: 400, a word that stands for the reason, and a sentence."""
    scene, client = served
    answer = client.post(
        "/v1/token", data=form_of(scene, scene.grant(), **changes), headers={"dpop": scene.proof()}
    )
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    members = answer.json()
    assert members["error"] == error
    assert members["error_description"].isascii()
    assert scene.service.counts["delegation-refused"] == 1


def test_findings_ride_in_the_refusal(served: tuple[Scene, TestClient]) -> None:
    """With everything that an operator needs, as in problem documents."""
    scene, client = served
    answer = client.post(
        "/v1/token", data=form_of(scene, scene.grant(depth=3)), headers={"dpop": scene.proof()}
    ).json()
    assert [each["id"] for each in answer["findings"]] == ["delegation.depth.exceeded"]
    assert answer["findings"][0]["expected"] == "fewer than 3"


def test_one_proof_and_each_parameter_once(served: tuple[Scene, TestClient]) -> None:
    """RFC 6749 §3.2 and RFC 9449 §4.3: of two, nobody knows which was meant."""
    scene, client = served
    body = urlencode(form_of(scene, scene.grant()))
    kind = ("content-type", FORM)
    twice = client.post(
        "/v1/token",
        content=f"{body}&scope=a&scope=b",
        headers=[kind, ("dpop", scene.proof())],
    )
    assert twice.json()["error"] == "invalid_request"
    proofs = client.post(
        "/v1/token",
        content=body,
        headers=[kind, ("dpop", scene.proof()), ("dpop", scene.proof())],
    )
    assert proofs.json()["error"] == "invalid_dpop_proof"
    missing = client.post("/v1/token", content=body, headers=[kind])
    assert missing.json()["findings"][0]["id"] == "delegation.proof.missing"


@pytest.mark.parametrize("body", [b"", b"\xff=1", b"a", b"%ff=1&b=%ff", b"a=1&" * 40 + b"b=1"])
def test_a_body_that_is_no_form_is_refused(served: tuple[Scene, TestClient], body: bytes) -> None:
    """Whatever the bytes."""
    _, client = served
    answer = client.post("/v1/token", content=body, headers={"content-type": FORM})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_bodies_are_bounded(served: tuple[Scene, TestClient]) -> None:
    """64 KiB, of a form, and nothing is parsed of what is longer."""
    scene, client = served
    at_most = scene.service.limits.exchange
    long = client.post("/v1/token", content=b"a" * (at_most + 1), headers={"content-type": FORM})
    assert (at_most, long.status_code) == (64 * 1024, 413)
    other = client.post("/v1/token", content=b"{}", headers={"content-type": "application/json"})
    assert other.status_code == 415


def test_parameters_are_counted(served: tuple[Scene, TestClient]) -> None:
    """A form of many is not looked at, though it holds all that is needed."""
    scene, client = served
    many = {f"x{number}": "1" for number in range(40)}
    answer = client.post(
        "/v1/token",
        data=form_of(scene, scene.grant(), **many),
        headers={"dpop": scene.proof()},
    )
    assert answer.json()["error_description"] == "The body is no form."


def test_strangers_are_slowed_down(served: tuple[Scene, TestClient]) -> None:
    """One client address is heard so often."""
    _, client = served
    answers = [
        client.post("/v1/token", content=b"a", headers={"content-type": FORM}).status_code
        for _ in range(41)
    ]
    assert answers == [400] * 40 + [429]
