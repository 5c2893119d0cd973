"""What a token's standing rests on, read without building all its claims."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.relyingparty.standing import Standing, standing_of
from bootlease.testing.chains import chain
from bootlease.testing.tokens import AUDIENCE, ISSUER, NOW, FakeIssuer, execution_claims
from bootlease.token import (
    ExecutionClaims,
    Tier,
    TokenFormat,
    TrustVector,
    VerifiedToken,
    base64url,
    strictjson,
    verify_token,
)
from bootlease.token.cose import sign1
from bootlease.token.jwt import _header
from bootlease.token.verified import CWT_TYP

ISSUED = FakeIssuer()
FORMS = pytest.mark.parametrize("form", list(TokenFormat), ids=lambda each: each.name)


def verified(token: bytes | str) -> VerifiedToken:
    """Verify a token."""
    return verify_token(token, ISSUED.keys, now=NOW, issuer=ISSUER, audience=AUDIENCE)


def read(claims: ExecutionClaims, form: TokenFormat) -> tuple[Standing, VerifiedToken]:
    """Return the standing of a token with these claims."""
    token = verified(ISSUED.token(claims, form))
    return standing_of(token), token


@FORMS
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": Tier.WARNING, "vector": TrustVector(configuration=32)},
        {"status": Tier.NONE, "vector": TrustVector()},
        {"level": 0},
        {"level": 3},
        {"scope": ("a", "b:*")},
    ],
    ids=str,
)
def test_it_is_what_the_claims_say(form: TokenFormat, changes: dict[str, Any]) -> None:
    """Whichever way it was read."""
    claims = execution_claims(77, **changes)
    standing, token = read(claims, form)
    assert standing == Standing(
        token=token,
        expires_at=claims.expires_at,
        scope=claims.scope,
        epoch=claims.policy.epoch,
        place=77,
        parents=(),
        depth=0,
        tier=claims.status,
        level=claims.level,
    )


@FORMS
def test_a_delegated_lease_has_its_parents_and_its_nodes_tier(form: TokenFormat) -> None:
    """The root and every link but the last, which is its own."""
    claims = chain(2, number=5)
    delegation = claims.delegation
    assert delegation is not None
    standing, _ = read(claims, form)
    assert standing.depth == 2
    assert standing.tier is delegation.root.status
    ids = [delegation.root.lease_id, delegation.links[0].lease_id]
    assert standing.parents == tuple(int.from_bytes(each[-4:], "big") for each in ids)
    assert standing.place == claims.status_index not in standing.parents


@FORMS
def test_an_ordinary_token_is_read_without_its_model(form: TokenFormat) -> None:
    """That is what it is for."""
    _, token = read(execution_claims(), form)
    assert token._claims is None


def _cwt(change: dict[int, Any]) -> VerifiedToken:
    members = {**execution_claims().to_cwt(), **change}
    return verified(sign1(cbor.encode(members), ISSUED.signer, typ=CWT_TYP))


def _jwt(change: dict[str, Any]) -> VerifiedToken:
    signer = ISSUED.signer
    payload = base64url.encode(strictjson.serialise({**execution_claims().to_jwt(), **change}))
    text = f"{_header(signer.algorithm, signer.key_id, TokenFormat.JWT)}.{payload}"
    return verified(f"{text}.{base64url.encode(signer.sign(text.encode()))}")


@pytest.mark.parametrize(
    "change",
    [
        {-66003: ["fleet", bytes(32)]},
        {-66003: ["fleet", bytes(32), True]},
        {-66003: ["fleet", bytes(32), "3"]},
        {-66003: ["fleet", bytes(32), -1]},
        {-66003: ["fleet", bytes(32), 1 << 53]},
        {4: 1 << 53},
        {7: bytes(15)},
        {9: "two  spaces"},
        {1000: 7},
    ],
    ids=str,
)
def test_a_cwt_of_another_form_is_refused_in_the_models_words(change: dict[int, Any]) -> None:
    """The issuer signed it, and still it is none."""
    with pytest.raises(MalformedError, match="the token's claims"):
        standing_of(_cwt(change))


@pytest.mark.parametrize(
    "change",
    [
        {"bootlease_policy": {"id": "fleet", "digest": base64url.encode(bytes(32))}},
        {
            "bootlease_policy": {
                "id": "fleet",
                "digest": base64url.encode(bytes(32)),
                "epoch": True,
            }
        },
        {"jti": base64url.encode(bytes(17))},
        {"jti": "*"},
        {"scope": ""},
        {"ear_status": "good"},
    ],
    ids=str,
)
def test_a_jwt_of_another_form_is_refused_in_the_models_words(change: dict[str, Any]) -> None:
    """The same."""
    with pytest.raises(MalformedError):
        standing_of(_jwt(change))


@FORMS
def test_claims_of_a_newer_issuer_do_not_matter(form: TokenFormat) -> None:
    """What is not known is ignored, and the rest is read all the same."""
    token = _cwt({-70000: 1}) if form is TokenFormat.CWT else _jwt({"newer": 1})
    assert standing_of(token).place == 0
    assert dataclasses.is_dataclass(token)
