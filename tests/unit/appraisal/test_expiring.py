"""Level 3 is proven by the key, or it is not granted."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.appraisal.issue import build_claims
from bootlease.evidence import LeaseRequest
from bootlease.model import Effect
from bootlease.node.confirm import ExpiringTPMKey, Purpose
from bootlease.node.wish import LeaseWish
from bootlease.testing.policies import SCOPES, make_policy, permit
from bootlease.testing.scene import AUDIENCE, Scene, default_lease
from bootlease.token import KeyProtection, PublicKey, VerifierID

LEASH = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())


def at_level(level: int | None) -> LeaseRequest:
    """Return a wish for a key in a process, with a level said."""
    return dataclasses.replace(default_lease(), level=level)


def expiring(scene: Scene, level: int | None = 3) -> LeaseRequest:
    """Return a wish for an expiring key."""
    wish = LeaseWish(("tool:search",), AUDIENCE, level=level)
    key = ExpiringTPMKey(scene.node, Purpose(LEASH, scene.enrolment.node, wish.purpose()))
    key.session = scene.node.begin_permits()
    return wish.request(key)


def test_level_3_with_a_key_in_a_process_is_refused(scene: Scene) -> None:
    """The node's word is not enough: a lie is found, and named."""
    result = scene.decide([at_level(3)])
    assert [each.id for each in result.findings] == ["lease.level.unproven"]
    assert not result.accepted


def test_level_3_with_a_lasting_key_in_the_tpm_is_refused(scene: Scene) -> None:
    """A key that cannot be copied can still be used for ever."""
    certified = scene.node.bound_key().certification
    lease = dataclasses.replace(at_level(3), confirmation=certified)
    assert [each.id for each in scene.decide([lease]).findings] == ["lease.level.unproven"]


@pytest.mark.parametrize("level", [None, 0, 1, 2])
def test_lower_levels_stay_the_node_s_word(scene: Scene, level: int | None) -> None:
    """What is said of levels below is believed and repeated, as before."""
    assert scene.decide([at_level(level)]).accepted


def test_an_optional_lie_is_left_out_and_stops_nobody_else(scene: Scene) -> None:
    """A workload that claims too much does not end the leases of the others."""
    lie = dataclasses.replace(at_level(3), optional=True)
    result = scene.decide([default_lease(), lie])
    assert result.accepted
    assert [(each.id, each.effect) for each in result.findings] == [
        ("lease.level.unproven", Effect.NOTES)
    ]
    assert [each.index for each in result.denied] == [1]


@pytest.mark.parametrize("level", [None, 1, 3])
def test_an_expiring_key_is_granted_at_any_level(scene: Scene, level: int | None) -> None:
    """The token says where its key is kept, beside the level that was said."""
    result = scene.decide([expiring(scene, level)])
    assert result.accepted
    claims = build_claims(
        *(result, result.leases[0]),
        lease_id=bytes(16),
        decision=bytes(32),
        issuer="https://verifier.example",
        verifier=VerifierID("x", "1"),
        now=scene.now,
    )
    assert claims.protection is KeyProtection.TPM_EXPIRING
    assert claims.level == level


def test_policy_can_ask_for_expiring_keys(scene: Scene) -> None:
    """The key's protection is a fact that Cedar policies see, apart from ``tpm``."""
    text = permit(SCOPES).replace(
        ");", ') when { context.key_protection == KeyProtection::"tpm-expiring" };'
    )
    scene.use_policy(make_policy(text))
    certified = scene.node.bound_key().certification
    lasting = dataclasses.replace(default_lease(), confirmation=certified)
    refused = scene.decide([lasting])
    assert [each.id for each in refused.findings] == ["policy.scope.denied"]
    assert scene.decide([expiring(scene)]).accepted


def test_where_no_second_is_left_for_a_permit_the_lease_is_over(scene: Scene) -> None:
    """An expiration of 0 would be none at all, so it comes to no such permit."""
    life = scene.policy.policy.lease.life
    for left, accepted in ((2, True), (1, False)):
        challenge = scene.challenge()
        evidence = scene.attest(challenge, [expiring(scene)])
        scene.now += life - left
        result = scene.appraise(scene.verify(evidence, challenge), challenge)
        assert result.accepted is accepted
        assert accepted or [each.id for each in result.findings] == ["lease.life.over"]
    challenge = scene.challenge()
    evidence = scene.attest(challenge)
    scene.now += life - 1
    assert scene.appraise(scene.verify(evidence, challenge), challenge).accepted
