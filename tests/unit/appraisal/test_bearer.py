"""Bearer tokens: only where a node asks for one and policy names the audience in unsafe words."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.evidence import TokenEncoding
from bootlease.model import Effect
from bootlease.testing.policies import make_policy
from bootlease.testing.scene import AUDIENCE, Scene, default_lease

BEARER = dataclasses.replace(default_lease(), encoding=TokenEncoding.UNSAFE_BEARER)
OTHER = "https://other.example"
ALLOWING = make_policy(
    lease__audiences=f'["{AUDIENCE}", "{OTHER}"]',
    lease__unsafe_bearer_audiences=f'["{AUDIENCE}"]',
)


def test_no_policy_grants_bearer_tokens_unasked(scene: Scene) -> None:
    """An audience that policy allows is not one that it allows to be reckless."""
    result = scene.decide([BEARER])
    assert [each.id for each in result.findings] == ["policy.unsafe-bearer.denied"]
    assert not result.leases


def test_an_audience_in_unsafe_words_gets_one(scene: Scene) -> None:
    """It is granted, and the record says that it was."""
    scene.use_policy(ALLOWING)
    result = scene.decide([BEARER])
    assert [(each.id, each.effect) for each in result.findings] == [
        ("policy.unsafe-bearer.granted", Effect.NOTES)
    ]
    assert [lease.encoding for lease in result.leases] == [TokenEncoding.UNSAFE_BEARER]


def test_another_audience_of_the_same_policy_gets_none(scene: Scene) -> None:
    """The words are about one audience each; one excess refuses all."""
    scene.use_policy(ALLOWING)
    other = dataclasses.replace(default_lease(audience=OTHER), encoding=BEARER.encoding)
    assert scene.decide([default_lease(audience=OTHER)]).accepted
    result = scene.decide([BEARER, other])
    assert not result.leases
    assert "policy.unsafe-bearer.denied" in {each.id for each in result.findings}


@pytest.mark.parametrize("encoding", [TokenEncoding.CWT, TokenEncoding.JWT])
def test_nobody_gets_one_who_did_not_ask(scene: Scene, encoding: TokenEncoding) -> None:
    """At a bearer audience, too, a token needs possession unless the node asked otherwise."""
    scene.use_policy(ALLOWING)
    result = scene.decide([dataclasses.replace(default_lease(), encoding=encoding)])
    assert result.findings == ()
    assert [lease.encoding for lease in result.leases] == [encoding]
