"""CBOR, key and token parsers on any bytes: parse, or MalformedError, never any other."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.tokens import (
    AUDIENCE,
    HOLDER,
    ISSUER,
    NOW,
    FakeIssuer,
    execution_claims,
)
from bootlease.token import (
    ExecutionClaims,
    KeySet,
    PublicKey,
    base64url,
    make_proof,
    parse_token,
    strictjson,
    verify_proof,
    verify_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ISSUED = FakeIssuer()
CWT = ISSUED.cwt(execution_claims())
JWT = ISSUED.jwt(execution_claims())
PROOF = make_proof(
    HOLDER, htm="GET", htu="https://tools.example/a", iat=NOW, jti="j" * 22, access_token=JWT
)

KEYS = st.integers(-5, 300) | st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS | st.integers(-(1 << 70), 1 << 70),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
CBOR = st.recursive(
    SCALARS | st.integers(-(1 << 63), 1 << 53) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)

PARSERS: dict[str, Callable[[bytes], object]] = {
    "decode": lambda data: cbor.decode(data, max_bytes=1024),
    "decode with tags": lambda data: cbor.decode(data, max_bytes=1024, tags=frozenset(range(64))),
    "decode_foreign": lambda data: cbor.decode_foreign(data, max_bytes=1024),
    "decode_to_compare": lambda data: cbor.decode_to_compare(data, max_bytes=1024),
    "parse_object": strictjson.parse_object,
    "KeySet.parse": KeySet.parse,
    "parse_token": parse_token,
    "base64url": lambda data: base64url.decode(data.decode("latin-1")),
}


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(name: str, data: bytes) -> None:
    """Whatever the bytes, a parser returns or raises MalformedError."""
    with contextlib.suppress(MalformedError):
        PARSERS[name](data)


@given(st.binary(max_size=120))
def test_accepted_cbor_has_one_spelling(data: bytes) -> None:
    """What decode accepts encodes to the same bytes."""
    with contextlib.suppress(MalformedError):
        assert cbor.encode(cbor.decode(data, max_bytes=1024)) == data


@given(st.text(max_size=60))
def test_accepted_base64url_has_one_spelling(text: str) -> None:
    """What decode accepts encodes to the same text."""
    with contextlib.suppress(MalformedError):
        assert base64url.encode(base64url.decode(text)) == text


def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    """Return ``data`` with some bytes replaced."""
    out = bytearray(data)
    for place, value in changes:
        out[place % len(out)] = value
    return bytes(out)


CHANGES = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=3)


@given(CHANGES)
def test_changed_cwt_is_never_accepted(changes: list[tuple[int, int]]) -> None:
    """A CWT with any byte changed is malformed or fails verification."""
    token = changed(CWT, changes)
    if token == CWT:
        return
    with contextlib.suppress(MalformedError):
        parse_token(token)
    with pytest.raises((MalformedError, VerificationError)):
        verify_token(token, ISSUED.keys, now=NOW, issuer=ISSUER, audience=AUDIENCE)


@given(CHANGES)
def test_changed_jwt_is_never_accepted(changes: list[tuple[int, int]]) -> None:
    """A JWT with any character changed is malformed or fails verification."""
    token = changed(JWT.encode(), changes)
    if token == JWT.encode():
        return
    with contextlib.suppress(MalformedError):
        parse_token(token)
    with pytest.raises((MalformedError, VerificationError)):
        verify_token(token, ISSUED.keys, now=NOW, issuer=ISSUER, audience=AUDIENCE)


@given(CHANGES)
def test_changed_proof_is_never_accepted(changes: list[tuple[int, int]]) -> None:
    """A proof with any character changed is malformed or fails verification."""
    proof = changed(PROOF.encode(), changes).decode("latin-1")
    if proof == PROOF:
        return
    with pytest.raises((MalformedError, VerificationError)):
        verify_proof(
            proof,
            confirmation=HOLDER.public,
            htm="GET",
            htu="https://tools.example/a",
            access_token=JWT,
            now=NOW,
        )


def replaced(members: Any, path: list[Any], value: object) -> Any:
    """Return ``members`` with what stands at ``path`` replaced."""
    if not path:
        return value
    copy = list(members) if isinstance(members, list | tuple) else dict(members)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


def paths(members: Any) -> list[list[Any]]:
    """Return the path of every member, however deep."""
    found: list[list[Any]] = [[]]
    if isinstance(members, dict):
        found += [[key, *path] for key, member in members.items() for path in paths(member)]
    elif isinstance(members, list | tuple):
        found += [[i, *path] for i, member in enumerate(members) for path in paths(member)]
    return found


CWT_PATHS = paths(execution_claims().to_cwt())
JWT_PATHS = paths(execution_claims().to_jwt())


@given(st.sampled_from(CWT_PATHS), CBOR)
def test_any_value_in_any_cwt_claim_is_read_or_malformed(path: list[Any], value: object) -> None:
    """Claims are read, or they are malformed; nothing else."""
    data = cbor.encode(replaced(execution_claims().to_cwt(), path, value))
    with contextlib.suppress(MalformedError):
        ExecutionClaims.from_cwt(cbor.decode(data, max_bytes=1 << 20))


@given(st.sampled_from(JWT_PATHS), JSON)
def test_any_value_in_any_jwt_claim_is_read_or_malformed(path: list[Any], value: object) -> None:
    """Claims are read, or they are malformed; nothing else."""
    members = replaced(execution_claims().to_jwt(), path, value)
    with contextlib.suppress(MalformedError):
        parsed = strictjson.parse_object(json.dumps(members).encode())
        ExecutionClaims.from_jwt(parsed)


@given(JSON | CBOR)
def test_any_value_is_a_public_key_or_malformed(value: object) -> None:
    """JWK and COSE_Key parsers take any value."""
    for parse in (PublicKey.from_jwk, PublicKey.from_cose):
        with contextlib.suppress(MalformedError):
            parse(value).load()
