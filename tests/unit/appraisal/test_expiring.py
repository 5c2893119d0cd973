"""Level 3 is proven by the key, or it is not granted."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.appraisal.issue import build_claims
from bootlease.appraisal.leases import MOST_TOLD
from bootlease.evidence import LeaseRequest
from bootlease.evidence.expiring import authority_name
from bootlease.model import Effect
from bootlease.node.confirm import ExpiringTPMKey, Purpose
from bootlease.node.wish import LeaseWish
from bootlease.testing.policies import SCOPES, make_policy, permit
from bootlease.testing.scene import AUDIENCE, Scene, default_lease
from bootlease.token import KeyProtection, PublicKey, VerifierID

LEASH = PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())

OTHER_AUTHORITY = authority_name(
    PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
)


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


def optional(scene: Scene) -> LeaseRequest:
    """Return a wish for an expiring key that may be left out."""
    wish = LeaseWish(("tool:search",), AUDIENCE, level=3, optional=True)
    key = ExpiringTPMKey(scene.node, Purpose(LEASH, scene.enrolment.node, wish.purpose()))
    key.session = scene.node.begin_permits()
    return wish.request(key)


def test_a_key_under_a_leash_key_of_before_is_left_out(scene: Scene) -> None:
    """The node goes on with all that needs no permit; nothing without one is granted."""
    scene.authority = OTHER_AUTHORITY
    result = scene.decide([optional(scene), default_lease()])
    assert result.accepted
    assert [each.permit for each in result.leases] == [None]
    assert {each.protection for each in result.leases} == {KeyProtection.PROCESS}
    ((denied,),) = [each.findings for each in result.denied]
    assert (denied.id, denied.effect) == ("expiring-key.authority.mismatch", Effect.NOTES)


def test_where_there_is_no_other_lease_such_a_key_refuses(scene: Scene) -> None:
    """No grant of nothing, as for all that is optional."""
    scene.authority = OTHER_AUTHORITY
    result = scene.decide([optional(scene)])
    assert [(each.id, each.effect) for each in result.findings] == [
        ("expiring-key.authority.mismatch", Effect.REFUSES)
    ]


def test_what_bars_a_lease_is_told_before_all_that_policy_says(scene: Scene) -> None:
    """However many findings there are, a refusal says which leash key was the verifier's."""
    scene.use_policy(make_policy(lease__max_leases="256"))
    scene.authority = OTHER_AUTHORITY
    denied = dataclasses.replace(default_lease(("deploy:prod",)), optional=True)
    result = scene.decide([*[denied] * (MOST_TOLD + 1), optional(scene)])
    assert not result.accepted
    assert result.findings[0].id == "expiring-key.authority.mismatch"
    assert result.findings[0].expected == OTHER_AUTHORITY.hex()


def test_what_bars_a_lease_is_told_whatever_else_refuses(scene: Scene) -> None:
    """Those that policy would leave out are as many where it is the node that is refused."""
    scene.use_policy(make_policy(lease__max_leases="256"))
    scene.authority = OTHER_AUTHORITY
    denied = dataclasses.replace(default_lease(("deploy:prod",)), optional=True)
    lie = at_level(3)
    result = scene.decide([lie, *[denied] * (MOST_TOLD + 1), optional(scene)])
    assert not result.accepted
    assert "expiring-key.authority.mismatch" in {each.id for each in result.findings}


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
