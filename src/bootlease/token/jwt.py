"""Execution tokens as JWT.

Specifications: RFC 7519, RFC 8725, RFC 9711 §7 (EAT in JWT), RFC 9782 (media type), RFC 7515
§4.1.11 (``crit``). The JWS form is in ``jws``; the claims in ``claims``.

The header says, critically, that possession must be proven: a library that knows nothing of it
refuses the token, where it would otherwise take a stolen one. A bearer token lacks the parameter
and differs in nothing else (docs/adr/0013-bearer-audiences.md).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
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
    split_compact,
)
from bootlease.token.keys import Algorithm, KeySet, Signer, VerificationKey
from bootlease.token.kinds import TokenFormat
from bootlease.token.shape import has_jwt_shape
from bootlease.token.verified import (
    BY_DPOP,
    JWT_TYP,
    MAX_TOKEN_BYTES,
    POSSESSION,
    AuthenticToken,
    Token,
    unknown_key,
    unknown_profile,
    wrong_algorithm,
    wrong_typ,
)


def sign_jwt(claims: ExecutionClaims, signer: Signer, form: TokenFormat = TokenFormat.JWT) -> str:
    """Sign ``claims`` as a JWT with the verifier's token key.

    Args:
        claims: What the token says.
        signer: Signs.
        form: A JWT, or one that any library takes from whoever has it.
    """
    header = _header(signer.algorithm, signer.key_id, form)
    return sign_compact(header, strictjson.serialise(claims.to_jwt()), signer)


def join_jwt(
    claims: ExecutionClaims,
    signature: bytes,
    *,
    algorithm: Algorithm,
    key_id: str,
    form: TokenFormat = TokenFormat.JWT,
) -> str:
    """Return the JWT that ``sign_jwt`` made of ``claims``, given its signature, unverified."""
    payload = strictjson.serialise(claims.to_jwt())
    return join_compact(_header(algorithm, key_id, form), payload, signature)


@functools.lru_cache(maxsize=64)
def _header(algorithm: Algorithm, key_id: str, form: TokenFormat) -> str:
    header: dict[str, Any] = {"alg": algorithm.value, "kid": key_id, "typ": JWT_TYP}
    if form is TokenFormat.JWT:
        header |= {"crit": [POSSESSION], POSSESSION: BY_DPOP}
    elif form is not TokenFormat.UNSAFE_BEARER:
        raise ValueError(f"{form.value} is no form of a JWT")
    return encode_header(header)


def _form(header: Mapping[str, Any]) -> TokenFormat:
    if "crit" in header and header[POSSESSION] == BY_DPOP:
        return TokenFormat.JWT
    if "crit" in header or POSSESSION in header:
        raise MalformedError("JWS header says of possession what is not understood")
    return TokenFormat.UNSAFE_BEARER


def parse_jwt(token: str) -> tuple[TokenFormat, ExecutionClaims]:
    """Read a JWT without checking its signature; return form and claims.

    Raises:
        MalformedError: Not an execution token.
    """
    text = header_text(token, max_bytes=MAX_TOKEN_BYTES)
    form = _form(parse_header(text, critical=POSSESSION))
    return form, ExecutionClaims.from_jwt(strictjson.parse_object(parse_payload(token)))


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
    key, form = _signing_key(keys, header_text(token, max_bytes=MAX_TOKEN_BYTES))
    signed, payload, signature = split_compact(token)
    key.verify(signature, signed)
    members = strictjson.parse_object(payload)
    if members.get("eat_profile") != EAR_PROFILE:
        raise unknown_profile(members.get("eat_profile"))
    opened = kind(form, key.key_id, payload, members)
    if not has_jwt_shape(members):
        _ = opened.claims
    return opened


@functools.lru_cache(maxsize=256)
def _signing_key(keys: KeySet, header_base64url: str) -> tuple[VerificationKey, TokenFormat]:
    # All tokens of one key and form share one header: it is judged once.
    header = parse_header(header_base64url, critical=POSSESSION)
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
    return key, _form(header)
