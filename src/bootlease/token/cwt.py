"""Execution tokens as CWT.

Specifications: RFC 8392, RFC 9711 §7 (EAT in CWT), RFC 9782 (media type, used as ``typ``). The
COSE_Sign1 form is in ``cose``; the claims in ``claims``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.token import base64url
from bootlease.token.claimkeys import EAT_PROFILE
from bootlease.token.claims import ExecutionClaims
from bootlease.token.cose import Sign1, join_sign1, parse_protected, parse_sign1, sign1
from bootlease.token.ear import EAR_PROFILE
from bootlease.token.keys import Algorithm, KeySet, Signer, VerificationKey
from bootlease.token.kinds import TokenFormat
from bootlease.token.shape import has_cwt_shape
from bootlease.token.verified import (
    CWT_TYP,
    MAX_TOKEN_BYTES,
    AuthenticToken,
    Token,
    unknown_key,
    unknown_profile,
    wrong_algorithm,
    wrong_typ,
)


def sign_cwt(
    claims: ExecutionClaims,
    signer: Signer,
    *,
    unprotected: Mapping[int | str, Any] | None = None,
) -> bytes:
    """Sign ``claims`` as a CWT.

    Args:
        claims: What the token says.
        signer: The verifier's token key.
        unprotected: Header parameters outside the signature, such as receipts (394).
    """
    return sign1(claims.encoded(), signer, typ=CWT_TYP, unprotected=unprotected)


def join_cwt(
    claims: ExecutionClaims, signature: bytes, *, algorithm: Algorithm, key_id: str
) -> bytes:
    """Return the CWT that ``sign_cwt`` made of ``claims``, given its signature, unverified."""
    return join_sign1(claims.encoded(), signature, algorithm=algorithm, key_id=key_id, typ=CWT_TYP)


def parse_cwt(token: bytes) -> tuple[Sign1, ExecutionClaims]:
    """Read a CWT without checking its signature.

    Raises:
        MalformedError: Not an execution token.
    """
    message = parse_sign1(token, max_bytes=MAX_TOKEN_BYTES)
    parse_protected(message.protected)
    return message, ExecutionClaims.from_cwt(
        cbor.decode(message.payload, max_bytes=MAX_TOKEN_BYTES)
    )


def verify_cwt(token: bytes, keys: KeySet) -> AuthenticToken:
    """Prove that a key of ``keys`` signed this execution token.

    Proves nothing about issuer, audience, time or possession: see ``verify_token``.

    Args:
        token: Unverified bytes.
        keys: The keys of the one issuer the caller trusts.

    Raises:
        MalformedError: Not an execution token.
        VerificationError: Wrong kind, key, algorithm, signature or profile.
    """
    return open_cwt(AuthenticToken, token, keys)


def open_cwt(kind: type[Token], token: bytes, keys: KeySet) -> Token:
    """Do what ``verify_cwt`` does; ``verify_token`` lets it make the type that it vouches for."""
    message = parse_sign1(token, max_bytes=MAX_TOKEN_BYTES)
    key = _signing_key(keys, message.protected)
    key.verify(message.signature, message.to_be_signed())
    members = cbor.decode_to_compare(message.payload, max_bytes=MAX_TOKEN_BYTES)
    if type(members) is not dict:
        raise MalformedError("the claims set is not a map")
    if members.get(EAT_PROFILE) != EAR_PROFILE:
        raise unknown_profile(members.get(EAT_PROFILE))
    opened = kind(TokenFormat.CWT, key.key_id, message.payload, members)
    if not has_cwt_shape(members):
        _ = opened.claims
    return opened


@functools.lru_cache(maxsize=256)
def _signing_key(keys: KeySet, protected: bytes) -> VerificationKey:
    # All tokens of one key share one protected header: it is judged once.
    header = parse_protected(protected)
    if header.typ != CWT_TYP:
        raise wrong_typ(CWT_TYP, header.typ)
    key = keys.get(base64url.encode(header.key_id))
    if key is None:
        raise unknown_key(header.key_id.hex()[:128])
    if header.algorithm not in key.algorithm.cose_ids:
        raise wrong_algorithm(str(key.algorithm.cose_id), str(header.algorithm))
    return key
