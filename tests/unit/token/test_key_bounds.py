"""What a key set may be, and what a signature may look like: the last bound of each."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.token import Algorithm, KeySet, PrivateKeySigner, VerificationKey, base64url
from bootlease.token.cose import parse_sign1
from bootlease.token.jws import header_text, parse_header
from bootlease.token.keys import MAX_KEY_SET_BYTES, signature_check
from bootlease.token.signatures import TokenSignatures

P256: Final = ec.derive_private_key(11, ec.SECP256R1())
P384: Final = ec.derive_private_key(12, ec.SECP384R1())
ED25519: Final = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNERS: Final = [PrivateKeySigner(key) for key in (P256, P384, ED25519)]
SIGNER = pytest.mark.parametrize("signer", SIGNERS, ids=lambda each: each.algorithm.value)


@SIGNER
def test_a_signature_has_one_length(signer: PrivateKeySigner) -> None:
    """Zeros before either number change nothing about it, and would make another token of it."""
    check = signature_check(signer.public.load(), signer.algorithm)
    signature = signer.sign(b"data")
    half = len(signature) // 2
    assert check(signature, b"data")
    first, second = signature[:half], signature[half:]
    for odd in (
        first + b"\0" + second,
        b"\0" + signature,
        b"\0" + first + b"\0" + second,
        signature + b"\0",
        signature[:-1],
        first,
        b"",
    ):
        assert not check(odd, b"data")


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (P256.public_key(), Algorithm.ED25519),
        (P256.public_key(), Algorithm.PS256),
        (ED25519.public_key(), Algorithm.ES256),
        (ED25519.public_key(), Algorithm.RS256),
        (rsa.generate_private_key(65537, 2048).public_key(), Algorithm.RS256),
        (rsa.generate_private_key(65537, 2048).public_key(), Algorithm.ES256),
        (rsa.generate_private_key(65537, 2048).public_key(), Algorithm.ED25519),
    ],
)
def test_a_key_checks_by_its_own_algorithm(key: Any, algorithm: Algorithm) -> None:
    """Any other choice is a mistake that is found before anything is checked."""
    with pytest.raises(ValueError, match="is not an algorithm of this key"):
        signature_check(key, algorithm)


def test_ed25519_has_two_names() -> None:
    """RFC 8037's and RFC 9864's; every other algorithm has its own alone."""
    assert Algorithm.ED25519.jose_names == ("EdDSA", "Ed25519")
    for algorithm in Algorithm:
        if algorithm is not Algorithm.ED25519:
            assert algorithm.jose_names == (algorithm.value,)


@SIGNER
def test_a_published_key_says_what_it_is_for(signer: PrivateKeySigner) -> None:
    """Signatures, by one algorithm (RFC 7517 \N{SECTION SIGN}4)."""
    keys = KeySet((VerificationKey(signer.public),))
    assert keys.to_jwks() == {
        "keys": [
            {
                **signer.public.jwk(),
                "kid": signer.key_id,
                "alg": signer.algorithm.value,
                "use": "sig",
            }
        ]
    }


@SIGNER
def test_a_key_need_not_say_what_it_is_for(signer: PrivateKeySigner) -> None:
    """Both members are optional; what they say, where they are, must fit."""
    jwk = {**signer.public.jwk(), "kid": signer.key_id}
    assert KeySet.from_jwks(json.dumps({"keys": [jwk]}).encode()).keys[0].public == signer.public
    cose = {**signer.public.cose(), 2: base64url.decode(signer.key_id)}
    assert KeySet.from_cose(cbor.encode([cose])).keys[0].public == signer.public


@pytest.mark.parametrize("read", [KeySet.from_jwks, KeySet.parse], ids=["jwks", "any"])
def test_a_key_set_is_bounded(read: Any) -> None:
    """It is not read before its length was looked at; up to the bound it is."""
    jwk = {**SIGNERS[0].public.jwk(), "kid": SIGNERS[0].key_id}
    text = json.dumps({"keys": [jwk]}).encode()
    assert read(text.ljust(MAX_KEY_SET_BYTES)).keys
    with pytest.raises(MalformedError, match="key set is longer"):
        read(text.ljust(MAX_KEY_SET_BYTES + 1))


def test_a_pem_file_is_bounded() -> None:
    """However good the key in it is."""
    pem = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(MalformedError, match="key set is longer"):
        KeySet.parse(pem.ljust(MAX_KEY_SET_BYTES + 1))


def test_a_key_file_may_begin_with_an_empty_line() -> None:
    """Editors leave some."""
    signer = SIGNERS[0]
    jwk = {**signer.public.jwk(), "kid": signer.key_id}
    assert KeySet.parse(b"\n" + json.dumps({"keys": [jwk]}).encode()).keys
    pem = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert KeySet.parse(b"\n" + pem).keys[0].public == signer.public


@pytest.mark.parametrize("value", [7, "keys", {1: 2}, None], ids=repr)
def test_a_cose_key_set_is_an_array(value: object) -> None:
    """What is none is malformed, whatever else it is."""
    with pytest.raises(MalformedError, match="not an array"):
        KeySet.from_cose(cbor.encode(value))


def test_a_jws_header_is_bounded() -> None:
    """2,048 characters, and not one more."""
    assert header_text("a" * 2048 + ".b.c", max_bytes=9999) == "a" * 2048
    with pytest.raises(MalformedError, match="header is longer"):
        header_text("a" * 2049 + ".b.c", max_bytes=9999)
    assert header_text("a.b", max_bytes=3) == "a"
    with pytest.raises(MalformedError, match="JWS is longer"):
        header_text("a.bc", max_bytes=3)


@pytest.mark.parametrize("name", ["alg", "typ"])
@pytest.mark.parametrize("value", [7, None, ["ES256"], {}], ids=repr)
def test_a_jws_header_names_its_algorithm_and_type(name: str, value: object) -> None:
    """As text; a list of them would be compared by some and searched by others."""
    header = {"alg": "ES256", "typ": "eat+jwt", name: value}
    with pytest.raises(MalformedError, match="lacks alg or typ"):
        parse_header(base64url.encode(json.dumps(header).encode()))


def test_a_protected_header_is_bounded() -> None:
    """512 bytes, and not one more."""
    for size, good in ((512, True), (513, False)):
        data = b"\xd2" + cbor.encode([bytes(size), {}, b"payload", b"signature"])
        if good:
            assert parse_sign1(data, max_bytes=4096).protected == bytes(size)
        else:
            with pytest.raises(MalformedError, match="protected header is longer"):
                parse_sign1(data, max_bytes=4096)


@pytest.mark.parametrize(
    "head", [[[], bytes(32)], [{}, bytes(32)], [True, bytes(32)], [-7, "k" * 32], [-7, [0] * 32]]
)
def test_kept_signatures_name_their_algorithm_and_key(head: list[object]) -> None:
    """By a number, and by 32 bytes that are no text."""
    with pytest.raises(MalformedError, match="name no algorithm"):
        TokenSignatures.parse(cbor.encode([*head, b"signature"]))
