"""Sets of event keys: RSA, named by thumbprint, bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.testing.keys import event_signer
from bootlease.testing.tokens import fixed_signer
from bootlease.token import KeyKind, KeySet, PublicKey, VerificationKey
from bootlease.token.eventkeys import MAX_EVENT_KEYS, EventKey, EventKeySet
from bootlease.token.keys import MAX_KEY_SET_BYTES

EXPONENT = b"\x01\x00\x01"
KEY = EventKey(event_signer().public)
KEYS = EventKeySet((KEY,))
JWK: dict[str, Any] = KEYS.to_jwks()["keys"][0]


def jwks(*keys: object) -> bytes:
    """A JWK Set."""
    return json.dumps({"keys": keys}).encode()


def test_a_published_set_is_read_again() -> None:
    """With the algorithm that the CAEP interoperability profile demands."""
    read = EventKeySet.from_jwks(json.dumps(KEYS.to_jwks()).encode())
    assert read.keys == KEYS.keys
    assert read.get(KEY.key_id) == KEY
    assert read.get("other") is None
    assert (JWK["alg"], JWK["use"], JWK["kty"], JWK["kid"]) == ("RS256", "sig", "RSA", KEY.key_id)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_set_or_malformed(data: bytes) -> None:
    """Parse, or MalformedError, never any other."""
    try:
        EventKeySet.from_jwks(data)
    except MalformedError:
        return


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (jwks(), "1 to 16"),
        (jwks(JWK, JWK), "twice"),
        (jwks(*[{}] * (MAX_EVENT_KEYS + 1)), "too many"),
        (b"[]", "not an object"),
        (b"{}", "no keys"),
        (jwks({**JWK, "kid": "x"}), "thumbprint"),
        (jwks({**JWK, "alg": "PS256"}), "alg does not fit"),
        (jwks({**JWK, "use": "enc"}), "not meant for signatures"),
        (jwks({**JWK, "key_ops": ["sign"]}), "not meant for signatures"),
        (jwks({**JWK, "d": "AA"}), "private"),
        (jwks({**JWK, "n": JWK["n"][:100]}), "2048"),
        (b" " * (MAX_KEY_SET_BYTES + 1), "longer than"),
    ],
)
def test_what_is_no_set_of_event_keys_is_malformed(data: bytes, expected: str) -> None:
    """Each is wrong in one way."""
    with pytest.raises(MalformedError, match=expected):
        EventKeySet.from_jwks(data)


def test_a_set_just_within_its_bounds_is_read() -> None:
    """So many keys, and so many bytes."""
    keys = [
        EventKey(PublicKey(KeyKind.RSA, (bytes([255]) * 255 + bytes([2 * number + 1]), EXPONENT)))
        for number in range(MAX_EVENT_KEYS)
    ]
    data = json.dumps(EventKeySet(tuple(keys)).to_jwks()).encode()
    assert EventKeySet.from_jwks(data.ljust(MAX_KEY_SET_BYTES)).keys == tuple(keys)


def test_token_keys_and_event_keys_are_never_in_one_set() -> None:
    """Whoever holds one of them cannot speak as the other."""
    tokens = KeySet((VerificationKey(fixed_signer(7).public),))
    with pytest.raises(MalformedError, match="RSA"):
        EventKeySet.from_jwks(json.dumps(tokens.to_jwks()).encode())
    with pytest.raises(MalformedError, match="do not sign tokens"):
        KeySet.from_jwks(json.dumps(KEYS.to_jwks()).encode())
