"""Tokens that need possession, and bearer tokens: what other JWT libraries make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet as JoseKeySet

from bootlease.errors import MalformedError
from bootlease.testing.tokens import AUDIENCE, ISSUER, FakeIssuer, execution_claims
from bootlease.token import TokenFormat, base64url, sign_jwt, strictjson, verify_jwt
from bootlease.token.jws import encode_header, sign_compact
from bootlease.token.signatures import TokenSignatures
from bootlease.token.verify import parse_token

ISSUED = FakeIssuer()
CLAIMS = execution_claims()
JWKS: Any = ISSUED.keys.to_jwks()
USUAL = {"alg": "ES256", "kid": ISSUED.signer.key_id, "typ": "eat+jwt"}


def by_pyjwt(token: str) -> object:
    """Check as a program with PyJWT does, its clock apart."""
    key = jwt.PyJWKSet.from_dict(JWKS).keys[0]
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    return jwt.decode(
        token, key.key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER, options=options
    )


def by_joserfc(token: str) -> object:
    """Check as a program with joserfc does."""
    return joserfc_jwt.decode(token, JoseKeySet.import_key_set(JWKS), algorithms=["ES256"]).claims


LIBRARIES = [
    pytest.param(by_pyjwt, jwt.InvalidTokenError, id="pyjwt"),
    pytest.param(by_joserfc, JoseError, id="joserfc"),
]


@pytest.mark.parametrize(("check", "error"), LIBRARIES)
def test_a_library_that_knows_no_possession_refuses_a_token(
    check: Callable[[str], object], error: type[Exception]
) -> None:
    """A stolen token is worth nothing at a program that would take it from anybody."""
    with pytest.raises(error, match=r"bootlease_pop|[Cc]ritical"):
        check(ISSUED.jwt(CLAIMS))


@pytest.mark.parametrize(("check", "_error"), LIBRARIES)
def test_a_library_takes_a_bearer_token(
    check: Callable[[str], Any], _error: type[Exception]
) -> None:
    """The same claims in the bearer form pass."""
    claims = check(str(ISSUED.token(CLAIMS, TokenFormat.UNSAFE_BEARER)))
    assert claims["sub"] == CLAIMS.subject
    assert claims == json.loads(strictjson.serialise(CLAIMS.to_jwt()))


@pytest.mark.parametrize("form", [TokenFormat.JWT, TokenFormat.UNSAFE_BEARER])
def test_both_forms_say_the_same_and_tell_themselves_apart(form: TokenFormat) -> None:
    """Claims and digest are those of the lease; the form is what the signed header says."""
    token = str(ISSUED.token(CLAIMS, form))
    verified = verify_jwt(token, ISSUED.keys)
    assert verified.format is form
    assert (verified.claims, verified.digest) == (CLAIMS, CLAIMS.digest)
    assert parse_token(token) == (form, CLAIMS)


@pytest.mark.parametrize(
    "extra",
    [
        {"bootlease_pop": "dpop"},
        {"crit": ["bootlease_pop"]},
        {"crit": ["bootlease_pop"], "bootlease_pop": "none"},
        {"crit": ["bootlease_pop"], "bootlease_pop": True},
        {"crit": ["bootlease_pop", "bootlease_pop"], "bootlease_pop": "dpop"},
        {"crit": ["bootlease_pop", "exp"], "bootlease_pop": "dpop", "exp": 1},
        {"crit": "bootlease_pop", "bootlease_pop": "dpop"},
        {"crit": [], "bootlease_pop": "dpop"},
    ],
)
def test_a_header_is_one_of_two(extra: dict[str, Any]) -> None:
    """Whatever else is said of possession is malformed, though the issuer signed it."""
    payload = strictjson.serialise(CLAIMS.to_jwt())
    token = sign_compact(encode_header({**USUAL, **extra}), payload, ISSUED.signer)
    with pytest.raises(MalformedError):
        verify_jwt(token, ISSUED.keys)
    with pytest.raises(MalformedError):
        parse_token(token)


def test_taking_the_parameter_out_breaks_the_signature() -> None:
    """Nobody makes a bearer token of another one: the header is signed."""
    payload, signature = ISSUED.jwt(CLAIMS).split(".")[1:]
    stripped = f"{base64url.encode(json.dumps(USUAL).encode())}.{payload}.{signature}"
    with pytest.raises(jwt.InvalidSignatureError):
        by_pyjwt(stripped)


@pytest.mark.parametrize("form", list(TokenFormat))
def test_kept_signatures_give_each_form_back(form: TokenFormat) -> None:
    """The token of a decision made again is the token that was signed, to the byte."""
    token = ISSUED.token(CLAIMS, form)
    data = token.encode() if isinstance(token, str) else token
    kept = TokenSignatures.parse(TokenSignatures.under([data], ISSUED.signer).encode())
    assert kept.tokens([(CLAIMS, form)]) == (data,)


def test_a_cwt_is_no_form_of_a_jwt() -> None:
    """Our own misuse is an error, not a token."""
    with pytest.raises(ValueError, match="no form of a JWT"):
        sign_jwt(CLAIMS, ISSUED.signer, TokenFormat.CWT)
