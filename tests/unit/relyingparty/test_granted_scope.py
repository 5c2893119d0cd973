"""From a policy's scope to a relying party's check: one relation all the way."""

from __future__ import annotations

import pytest

from bootlease.appraisal import build_claims
from bootlease.errors import VerificationError
from bootlease.relyingparty import StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import AUDIENCE, Scene, default_lease
from bootlease.testing.tokens import ISSUER, FakeIssuer
from bootlease.token import TokenFormat, VerifierID


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A sound node, under a policy that grants repo:acme/* among others."""
    return Scene.create(LocalCA.create())


@pytest.mark.parametrize("token_format", list(TokenFormat))
@pytest.mark.parametrize(
    ("asked", "honoured", "refused"),
    [
        (
            "repo:acme/*",
            ("repo:acme/x", "repo:acme/x/y", "repo:acme/x/*", "repo:acme/*"),
            ("repo:acme", "repo:acme/", "repo:acmex/y", "repo:*", "repo:acme/a b"),
        ),
        (
            "repo:acme/x/*",
            ("repo:acme/x/y",),
            ("repo:acme/x", "repo:acme/y", "repo:acme/*"),
        ),
        ("repo:acme/x", ("repo:acme/x",), ("repo:acme/x/y", "repo:acme/*")),
    ],
    ids=["branch", "narrower branch", "name"],
)
def test_what_a_policy_grants_is_honoured_below_it_and_nowhere_else(
    scene: Scene,
    token_format: TokenFormat,
    asked: str,
    honoured: tuple[str, ...],
    refused: tuple[str, ...],
) -> None:
    """A lease of a branch lets its holder do what is below the branch, at the relying party too."""
    result = scene.decide([default_lease((asked,))])
    assert result.accepted
    claims = build_claims(
        result,
        result.leases[0],
        lease_id=bytes(16),
        decision=bytes(32),
        issuer=ISSUER,
        verifier=VerifierID("bootlease", "0.1.0"),
        now=scene.now,
    )
    issuer = FakeIssuer()
    checker = TokenChecker(
        StaticKeys(issuer.keys),
        issuer=ISSUER,
        audience=AUDIENCE,
        continuity=UnsafeNoContinuity(),
        clock=lambda: scene.now,
    )
    token = issuer.token(claims, token_format)
    for name in honoured:
        assert checker.check(token, scope=name).claims.scope == (asked,)
    for name in refused:
        with pytest.raises(VerificationError) as caught:
            checker.check(token, scope=name)
        assert [each.id for each in caught.value.findings] == ["token.scope.insufficient"]
