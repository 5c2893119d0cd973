"""A public key in either form: each way in which it is none, by itself."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bootlease.errors import MalformedError
from bootlease.testing.keys import event_signer
from bootlease.token import KeyKind, PrivateKeySigner, PublicKey
from bootlease.token.eventkeys import EventKeySet
from bootlease.token.keyrotation import MAX_ROTATION, MAX_ROTATIONS, parse_rotations

P256: Final = PrivateKeySigner(ec.derive_private_key(11, ec.SECP256R1())).public
P384: Final = PrivateKeySigner(ec.derive_private_key(12, ec.SECP384R1())).public
ED25519: Final = PrivateKeySigner(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))).public
RSA: Final = PrivateKeySigner(rsa.generate_private_key(65537, 2048)).public
EVENT_KEY: Final = event_signer().public
KEYS: Final = {"P-256": P256, "P-384": P384, "Ed25519": ED25519, "RSA": RSA}
KEY = pytest.mark.parametrize("name", list(KEYS))


@KEY
def test_a_private_key_is_not_taken_for_a_public_one(name: str) -> None:
    """Whoever sends one has shown it; it counts no more."""
    key = KEYS[name]
    label = -3 if name == "RSA" else -4
    with pytest.raises(MalformedError, match="private key material"):
        PublicKey.from_cose({**key.cose(), label: b"secret"})
    with pytest.raises(MalformedError, match="private key material"):
        PublicKey.from_jwk({**key.jwk(), "d": "AAAA"})


@KEY
def test_parameters_have_one_length(name: str) -> None:
    """A leading zero more or less would be another spelling of the same key."""
    key = KEYS[name]
    for at, parameter in enumerate(key.parameters):
        for odd in (b"\0" + parameter, parameter[1:], parameter + b"\0", b"", parameter.hex()):
            made: list[Any] = list(key.parameters)
            made[at] = odd
            with pytest.raises(ValueError, match=r"key"):
                PublicKey(key.kind, tuple(made))
    with pytest.raises(ValueError, match=r"key"):
        PublicKey(key.kind, key.parameters[:-1])
    with pytest.raises(ValueError, match=r"key"):
        PublicKey(key.kind, (*key.parameters, key.parameters[-1]))


def test_an_rsa_modulus_is_full() -> None:
    """Its first bit is set: a shorter one in as many bytes is a weaker key."""
    modulus, exponent = RSA.parameters
    assert PublicKey(KeyKind.RSA, (b"\x80" + modulus[1:], exponent))
    for odd in ((b"\x7f" + modulus[1:], exponent), (modulus, b"\x03"), (modulus, b"\0\1\0\1")):
        with pytest.raises(ValueError, match="full modulus"):
            PublicKey(KeyKind.RSA, odd)


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP", "crv": "X25519"},
        {"kty": "OKP", "crv": "Ed448"},
        {"kty": "OKP", "crv": None},
        {"kty": "EC", "crv": "Ed25519"},
        {"kty": "oct", "crv": "Ed25519"},
        {"kty": None, "crv": "Ed25519"},
        {"kty": "EC", "crv": ["P-256"]},
        {"kty": "EC", "crv": "secp256k1"},
    ],
    ids=str,
)
def test_type_and_curve_of_a_jwk_belong_together(change: dict[str, Any]) -> None:
    """Neither alone says what a key is."""
    with pytest.raises(MalformedError, match="is not an EC"):
        PublicKey.from_jwk({**ED25519.jwk(), **change})


@pytest.mark.parametrize(
    "change",
    [{1: True}, {-1: True}, {1: 7}, {-1: [1]}, {-1: "P-256"}, {1: 1}, {1: None}, {-1: 8}],
    ids=str,
)
def test_type_and_curve_of_a_cose_key_belong_together(change: dict[int, Any]) -> None:
    """A boolean is no number, nor is a name."""
    with pytest.raises(MalformedError):
        PublicKey.from_cose({**P256.cose(), **change})
    with pytest.raises(MalformedError):
        PublicKey.from_cose({**ED25519.cose(), 1: True, -1: 6})


@pytest.mark.parametrize("value", [None, 7, "key", [(1, 2)], b"key"], ids=repr)
def test_what_is_no_map_is_no_key(value: object) -> None:
    """Malformed, and no other error."""
    for read in (PublicKey.from_jwk, PublicKey.from_cose):
        with pytest.raises(MalformedError, match=r"is not (an object|a map)"):
            read(value)


def test_equal_keys_hash_alike_and_others_do_not() -> None:
    """Caches go by it."""
    again = PublicKey(P256.kind, P256.parameters)
    assert (again, hash(again)) == (P256, hash(P256))
    assert len({hash(key) for key in KEYS.values()}) == len(KEYS)


def test_an_event_key_says_what_it_is_for() -> None:
    """And need not be told so."""
    jwk = {**EVENT_KEY.jwk(), "kid": event_signer().key_id}
    (member,) = EventKeySet.from_jwks(json.dumps({"keys": [jwk]}).encode()).to_jwks()["keys"]
    assert member == {**jwk, "alg": "RS256", "use": "sig"}


def test_a_list_of_rotations_is_bounded() -> None:
    """In its length, and in how many there are."""
    most = MAX_ROTATIONS * (MAX_ROTATION + 8)
    text = json.dumps({"rotations": ["a"] * MAX_ROTATIONS}).encode()
    assert len(parse_rotations(text.ljust(most))) == MAX_ROTATIONS
    with pytest.raises(MalformedError, match="too long"):
        parse_rotations(text.ljust(most + 1))
    with pytest.raises(MalformedError, match="too many"):
        parse_rotations(json.dumps({"rotations": ["a"] * (MAX_ROTATIONS + 1)}).encode())
