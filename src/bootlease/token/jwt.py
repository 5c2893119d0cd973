"""Execution tokens as JWT.

Specifications: RFC 7519, RFC 8725, RFC 9711 §7 (EAT in JWT), RFC 9782 (media type). The JWS form
is in ``jws``; the claims in ``claims``.
"""

from __future__ import annotations

import functools
from typing import Any

from bootlease.errors import MalformedError
from bootlease.token import strictjson
from bootlease.token.claims import ExecutionClaims
from bootlease.token.ear import EAR_PROFILE
from bootlease.token.jws import (
    encode_header,
    header_text,
    join_compact,
    parse_header,
    parse_payload,
    sign_compact,
    verify_compact,
)
from bootlease.token.keys import (
    INVALID_SIGNATURE,
    Algorithm,
    KeySet,
    Signer,
    VerificationKey,
)
from bootlease.token.shape import has_jwt_shape
from bootlease.token.verified import (
    JWT_TYP,
    MAX_TOKEN_BYTES,
    AuthenticToken,
    Token,
    TokenFormat,
    unknown_key,
    unknown_profile,
    wrong_algorithm,
    wrong_typ,
)


def sign_jwt(claims: ExecutionClaims, signer: Signer) -> str:
    """Sign ``claims`` as a JWT with the verifier's token key."""
    header = _header(signer.algorithm, signer.key_id)
    return sign_compact(header, strictjson.serialise(claims.to_jwt()), signer)


def join_jwt(
    claims: ExecutionClaims, signature: bytes, *, algorithm: Algorithm, key_id: str
) -> str:
    """Return the JWT that ``sign_jwt`` made of ``claims``, given its signature, unverified."""
    payload = strictjson.serialise(claims.to_jwt())
    return join_compact(_header(algorithm, key_id), payload, signature)


@functools.lru_cache(maxsize=64)
def _header(algorithm: Algorithm, key_id: str) -> str:
    return encode_header({"alg": algorithm.value, "kid": key_id, "typ": JWT_TYP})


def parse_jwt(token: str) -> tuple[dict[str, Any], ExecutionClaims]:
    """Read a JWT without checking its signature; return header and claims.

    Raises:
        MalformedError: Not an execution token.
    """
    header = parse_header(header_text(token, max_bytes=MAX_TOKEN_BYTES))
    return header, ExecutionClaims.from_jwt(strictjson.parse_object(parse_payload(token)))


def verify_jwt(token: str, keys: KeySet) -> AuthenticToken:
    """Prove that a key of ``keys`` signed this execution token.

    Proves nothing about issuer, audience, time or possession: see ``verify_token``.

    Args:
        token: Unverified text.
        keys: The keys of the one issuer the caller trusts.

    Raises:
        MalformedError: Not an execution token.
        VerificationError: Wrong kind, key, algorithm, signature or profile.
    """
    return open_jwt(AuthenticToken, token, keys)


def open_jwt(kind: type[Token], token: str, keys: KeySet) -> Token:
    """Do what ``verify_jwt`` does; ``verify_token`` lets it make the type that it vouches for."""
    key = _signing_key(keys, header_text(token, max_bytes=MAX_TOKEN_BYTES))
    payload = verify_compact(token, key.jose_key, key.algorithm, invalid=INVALID_SIGNATURE)
    members = strictjson.parse_object(payload)
    if members.get("eat_profile") != EAR_PROFILE:
        raise unknown_profile(members.get("eat_profile"))
    opened = kind(TokenFormat.JWT, key.key_id, payload, members)
    if not has_jwt_shape(members):
        _ = opened.claims
    return opened


@functools.lru_cache(maxsize=256)
def _signing_key(keys: KeySet, header_base64url: str) -> VerificationKey:
    # All tokens of one key share one header: it is judged once.
    header = parse_header(header_base64url)
    if header["typ"] != JWT_TYP:
        raise wrong_typ(JWT_TYP, header["typ"])
    key_id = header.get("kid")
    if type(key_id) is not str:
        raise MalformedError("JWS header lacks kid")
    key = keys.get(key_id)
    if key is None:
        raise unknown_key(key_id[:128])
    if header["alg"] not in key.algorithm.jose_names:
        raise wrong_algorithm(key.algorithm.value, header["alg"])
    return key
