"""Keys, key sets, and the algorithm that belongs to each key."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import import_key

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.token import (
    Algorithm,
    KeySet,
    PrivateKeySigner,
    PublicKey,
    VerificationKey,
    base64url,
)
from bootlease.token.keys import MAX_KEY_SET_BYTES, MAX_KEYS, PrivateKey

RSA_KEY = rsa.generate_private_key(65537, 2048)
PRIVATE: dict[str, PrivateKey] = {
    "P-256": ec.derive_private_key(11, ec.SECP256R1()),
    "P-384": ec.derive_private_key(12, ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
}
ALL: dict[str, PrivateKey] = {**PRIVATE, "RSA": RSA_KEY}


def verification_key(name: str) -> VerificationKey:
    """Return the public half of a test key."""
    return VerificationKey(PrivateKeySigner(PRIVATE[name]).public)


KEY_SET = KeySet(tuple(map(verification_key, PRIVATE)))


@pytest.mark.parametrize("name", ALL)
def test_public_key_survives_both_forms(name: str) -> None:
    """JWK and COSE_Key give the key back, and it loads to the one it came from."""
    key = PublicKey.from_cryptography(ALL[name].public_key())
    assert PublicKey.from_jwk(key.jwk()) == key
    assert PublicKey.from_cose(cbor.decode(cbor.encode(key.cose()), max_bytes=4096)) == key
    assert PublicKey.from_cryptography(key.load()) == key


@pytest.mark.parametrize("name", ALL)
def test_thumbprint_is_that_of_rfc_7638(name: str) -> None:
    """Another implementation computes the same thumbprint from our JWK."""
    key = PublicKey.from_cryptography(ALL[name].public_key())
    assert base64url.encode(key.thumbprint()) == import_key(dict(key.jwk())).thumbprint()


def test_thumbprint_of_the_rfc_7638_example() -> None:
    """RFC 7638 §3.1, its key and its result."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPe"
        "bWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY36"
        "8QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4l"
        "Fd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = PublicKey.from_jwk({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256"})
    assert base64url.encode(key.thumbprint()) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_cose_thumbprint_of_the_rfc_9679_example() -> None:
    """RFC 9679 §6, its key and its result."""
    key = PublicKey.from_cose(
        {
            1: 2,
            -1: 1,
            -2: bytes.fromhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"),
            -3: bytes.fromhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"),
        }
    )
    assert key.cose_thumbprint().hex() == (
        "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
    )


def test_key_set_survives_both_forms() -> None:
    """What is published as JWKS and as COSE_KeySet is read back, and by form alone."""
    jwks = json.dumps(KEY_SET.to_jwks()).encode()
    for again in (
        KeySet.from_jwks(jwks),
        KeySet.from_cose(KEY_SET.to_cose()),
        KeySet.parse(jwks),
        KeySet.parse(KEY_SET.to_cose()),
    ):
        assert again.keys == KEY_SET.keys


def test_pem_key_is_a_key_set() -> None:
    """A PEM public key is a set of one."""
    pem = (
        PRIVATE["P-256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert KeySet.parse(pem).keys == (verification_key("P-256"),)


@pytest.mark.parametrize("name", PRIVATE)
def test_signature_verifies_with_its_own_key_only(name: str) -> None:
    """Each algorithm signs and verifies; other data, key or length does not."""
    signature = PrivateKeySigner(PRIVATE[name]).sign(b"data")
    verification_key(name).verify(signature, b"data")
    other = next(other for other in PRIVATE if other != name)
    for key, bad, data in [
        (name, signature, b"other"),
        (name, signature[:-1], b"data"),
        (name, bytes(len(signature)), b"data"),
        (name, b"", b"data"),
        (other, signature, b"data"),
    ]:
        with pytest.raises(VerificationError) as caught:
            verification_key(key).verify(bad, data)
        assert caught.value.findings[0].id == "token.signature.invalid"


def jwk(name: str = "P-256", **changes: object) -> dict[str, Any]:
    """Return a JWK of the published set, changed; ``...`` removes a member."""
    index = list(PRIVATE).index(name)
    members = {**KEY_SET.to_jwks()["keys"][index], **changes}
    return {key: value for key, value in members.items() if value is not ...}


def b64(data: bytes) -> str:
    """Return base64url with Python's own encoder."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


RSA_JWK = PublicKey.from_cryptography(RSA_KEY.public_key())
BAD_JWKS: dict[str, Any] = {
    "private member": [jwk(d=b64(bytes(32)))],
    "symmetric key": [{"kty": "oct", "k": b64(bytes(32)), "kid": "a"}],
    "RSA key": [{**RSA_JWK.jwk(), "kid": base64url.encode(RSA_JWK.thumbprint())}],
    "unknown kty": [jwk(kty="AKP")],
    "unknown curve": [jwk(crv="P-521")],
    "curve that is a list": [jwk(crv=["P-256"])],
    "curve of another size": [jwk(crv="P-384")],
    "no kid": [jwk(kid=...)],
    "kid of another key": [jwk(kid=jwk("P-384")["kid"])],
    "kid injection": [jwk(kid="../../dev/null")],
    "alg none": [jwk(alg="none")],
    "alg HS256": [jwk(alg="HS256")],
    "alg of another curve": [jwk(alg="ES384")],
    "use enc": [jwk(use="enc")],
    "key_ops sign": [jwk(key_ops=["sign"])],
    "key twice": [jwk(), jwk()],
    "point off the curve": [jwk(y=b64(bytes(32)))],
    "padded coordinate": [jwk(x=jwk()["x"] + "=")],
    "no coordinate": [jwk(y=...)],
    "numeric coordinate": [jwk(y=1)],
    "not an object": ["P-256"],
    "no key": [],
    "no array": {"0": jwk()},
    "too many keys": [jwk() for _ in range(MAX_KEYS + 1)],
}


@pytest.mark.parametrize("name", BAD_JWKS)
def test_bad_jwk_set_is_malformed(name: str) -> None:
    """One key that must not verify tokens spoils the set."""
    with pytest.raises(MalformedError):
        KeySet.from_jwks(json.dumps({"keys": BAD_JWKS[name]}).encode())


def cose(**changes: object) -> dict[int, Any]:
    """Return the P-256 COSE_Key of the published set, changed; ``m1`` is label -1, ``p4`` is 4."""
    members = dict(cbor.decode(KEY_SET.to_cose(), max_bytes=4096)[0])
    for name, value in changes.items():
        label = int(name[1:]) * (-1 if name[0] == "m" else 1)
        if value is ...:
            del members[label]
        else:
            members[label] = value
    return members


BAD_COSE: dict[str, Any] = {
    "private member": [cose(m4=bytes(32))],
    "symmetric key": [{1: 4, -1: bytes(32)}],
    "boolean kty": [cose(p1=True)],
    "boolean curve": [cose(m1=True)],
    "unknown curve": [cose(m1=3)],
    "compressed point": [cose(m3=True)],
    "no kid": [cose(p2=...)],
    "other kid": [cose(p2=bytes(32))],
    "other alg": [cose(p3=-35)],
    "HMAC alg": [cose(p3=5)],
    "key_ops sign": [cose(p4=[1])],
    "key twice": [cose(), cose()],
    "no key": [],
    "no array": {0: cose()},
}


@pytest.mark.parametrize("name", BAD_COSE)
def test_bad_cose_key_set_is_malformed(name: str) -> None:
    """One key that must not verify tokens spoils the set."""
    with pytest.raises(MalformedError):
        KeySet.from_cose(cbor.encode(BAD_COSE[name]))


def test_a_set_holds_no_more_keys_than_a_verifier_has() -> None:
    """Each costs a relying party the loading of a point, in whatever form they come."""
    made = (ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(MAX_KEYS + 1))
    sets = [KeySet((VerificationKey(PublicKey.from_cryptography(each)),)) for each in made]
    members = [cbor.decode(each.to_cose(), max_bytes=4096)[0] for each in sets]
    with pytest.raises(MalformedError, match=f"1 to {MAX_KEYS} keys"):
        KeySet.from_cose(cbor.encode(members))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"keys":1}',
        b'{"keys":[],"keys":[]}',
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b" " * (MAX_KEY_SET_BYTES + 1),
        RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_other_file_is_malformed(data: bytes) -> None:
    """What is no key set, or is too long, is refused."""
    with pytest.raises(MalformedError):
        KeySet.parse(data)


def test_weak_or_odd_keys_are_refused() -> None:
    """RSA below 2048 bits or with another exponent, and other curves, are not taken over."""
    for key in (
        rsa.generate_private_key(65537, 1024).public_key(),  # noqa: S505 - it is refused
        rsa.generate_private_key(3, 2048).public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        "key",
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - each says what
            PublicKey.from_cryptography(key)


def test_algorithm_identifiers_are_bound_to_keys() -> None:
    """Each key has one algorithm, in its polymorphic and its fully specified names."""
    assert [key.algorithm for key in KEY_SET.keys] == [
        Algorithm.ES256,
        Algorithm.ES384,
        Algorithm.ED25519,
    ]
    assert [key.algorithm.cose_ids for key in KEY_SET.keys] == [(-7, -9), (-35, -51), (-8, -19)]
