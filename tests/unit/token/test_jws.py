"""Compact JWS: one form of text, a header that is judged, a key that knows its algorithm."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.testing.tokens import NOW, execution_claims, fixed_signer
from bootlease.token import (
    Algorithm,
    KeySet,
    PrivateKeySigner,
    VerificationKey,
    VerifiedProof,
    base64url,
    strictjson,
    verify_jwt,
    verify_proof,
)
from bootlease.token.jws import (
    encode_header,
    header_text,
    parse_header,
    parse_payload,
    sign_compact,
    verify_compact,
)
from bootlease.token.pop import PROOF_TYP, token_hash
from bootlease.token.verified import JWT_TYP

SIGNER = fixed_signer(7)
ED25519 = PrivateKeySigner(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))
P384 = PrivateKeySigner(ec.derive_private_key(3, ec.SECP384R1()))
RSA = PrivateKeySigner(rsa.generate_private_key(65537, 2048))
SIGNERS = [SIGNER, P384, ED25519, RSA]
KEYS = KeySet((VerificationKey(SIGNER.public),))
ED_KEYS = KeySet((VerificationKey(ED25519.public),))
URL, TOKEN = "https://tools.example/run", "eyJ.a.b"
INVALID = Finding("test.signature.invalid", "The signature does not verify.")
HEADER = {"alg": "ES256", "typ": "test"}
PAYLOAD = b'{"a":"' + b"\xff\xfe\xfd" * 3 + b'"}'
TEXT = sign_compact(encode_header(HEADER), PAYLOAD, SIGNER)


def check(text: str, signer: PrivateKeySigner = SIGNER) -> bytes:
    """Verify with a signer's own key and algorithm."""
    key = signer.public.load_jose()
    return verify_compact(text, key, signer.algorithm, invalid=INVALID)


def signed(header: dict[str, Any], signer: PrivateKeySigner = SIGNER) -> str:
    """Return the payload signed under any header."""
    return sign_compact(encode_header(header), PAYLOAD, signer)


def signed_claims(header: dict[str, Any], signer: PrivateKeySigner) -> str:
    """Return a proof's claims signed under any header."""
    claims = {"jti": "j", "htm": "GET", "htu": URL, "iat": NOW, "ath": token_hash(TOKEN)}
    full = encode_header({"typ": PROOF_TYP, **header})
    return sign_compact(full, strictjson.serialise(claims), signer)


def check_proof(text: str, signer: PrivateKeySigner = SIGNER) -> VerifiedProof:
    """Verify a proof as a relying party does, its holder being ``signer``."""
    return verify_proof(
        text, confirmation=signer.public, htm="GET", htu=URL, access_token=TOKEN, now=NOW
    )


def respelt(part: int, change: str) -> str:
    """Return the JWS with one of its parts written another way."""
    parts = TEXT.split(".")
    text = parts[part]
    if change == "trailing bits":
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        assert len(text) % 4, "the part has unused bits"
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        text = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
        assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == data
    else:
        text = {
            "padding": text + "=" * (-len(text) % 4 or 4),
            "other alphabet": text.replace("-", "+").replace("_", "/") + "++++",
            "white space": text[:4] + " " + text[4:],
            "new line": text + "\n",
            "not ASCII": text[:-1] + "\u00e9",
            "surrogate": text[:-1] + "\ud800",
        }[change]
    return ".".join((*parts[:part], text, *parts[part + 1 :]))


def test_signed_payload_comes_back() -> None:
    """What was signed is what is handed out, verified or not."""
    assert check(TEXT) == parse_payload(TEXT) == PAYLOAD


@pytest.mark.parametrize(
    "change",
    ["padding", "other alphabet", "white space", "new line", "not ASCII", "surrogate"],
)
@pytest.mark.parametrize("part", [1, 2], ids=["payload", "signature"])
def test_other_spelling_is_malformed(part: int, change: str) -> None:
    """One value has one text form, or caches and replay checks keyed by text could be led past."""
    with pytest.raises(MalformedError):
        check(respelt(part, change))
    with pytest.raises(MalformedError):
        parse_payload(respelt(part, change))


@pytest.mark.parametrize("part", [1, 2], ids=["payload", "signature"])
def test_bits_that_encode_nothing_are_malformed(part: int) -> None:
    """The same bytes with other unused bits are another text."""
    with pytest.raises(MalformedError):
        check(respelt(part, "trailing bits"))


@pytest.mark.parametrize("change", ["padding", "white space", "new line", "not ASCII"])
def test_other_spelling_of_the_header_is_malformed(change: str) -> None:
    """The header is judged in its one form before anything else is."""
    with pytest.raises(MalformedError):
        parse_header(header_text(respelt(0, change), max_bytes=4096))


@pytest.mark.parametrize("change", ["not ASCII", "surrogate"])
def test_header_outside_ascii_is_malformed_wherever_it_is_read(change: str) -> None:
    """What was signed is bytes; text that has none is no JWS, though its header was judged."""
    with pytest.raises(MalformedError):
        check(respelt(0, change))
    with pytest.raises(MalformedError):
        parse_payload(respelt(0, change))


@pytest.mark.parametrize("signature", ["", "AAAA", "A" * 86, "A" * 88])
def test_signature_that_is_not_the_keys_is_refused(signature: str) -> None:
    """Whatever its length, a well-formed signature is refused with the caller's finding."""
    text = TEXT.rpartition(".")[0]
    with pytest.raises(VerificationError) as caught:
        check(f"{text}.{signature}")
    assert caught.value.findings == (INVALID,)


@pytest.mark.parametrize("part", [0, 1])
def test_signature_over_something_else_is_refused(part: int) -> None:
    """Header and payload are both signed."""
    parts = TEXT.split(".")
    parts[part] = encode_header({**HEADER, "new": 1})
    with pytest.raises(VerificationError) as caught:
        check(".".join(parts))
    assert caught.value.findings == (INVALID,)


NOT_THE_KEYS = ["none", "None", "HS256", "ES384", "RS256", "EdDSA", "ES256K", "", "../ES256"]


@pytest.mark.parametrize("name", NOT_THE_KEYS)
def test_header_has_no_say_in_how_a_signature_is_checked(name: str) -> None:
    """Whatever the header calls it, the key's own algorithm is what verifies, and nothing less."""
    assert check(signed({**HEADER, "alg": name})) == PAYLOAD
    unsigned = signed({**HEADER, "alg": name}).rpartition(".")[0]
    secret = json.dumps(SIGNER.public.jwk()).encode()
    mac = base64url.encode(hmac.digest(secret, unsigned.encode(), hashlib.sha256))
    for signature in ("", mac):
        with pytest.raises(VerificationError) as caught:
            check(f"{unsigned}.{signature}")
        assert caught.value.findings == (INVALID,)


@pytest.mark.parametrize("name", NOT_THE_KEYS)
def test_algorithm_that_is_not_the_keys_is_refused(name: str) -> None:
    """Tokens and proofs that name another algorithm are refused though their key signed them."""
    header = {"alg": name, "typ": JWT_TYP, "kid": SIGNER.key_id}
    with pytest.raises(VerificationError) as caught:
        verify_jwt(signed(header), KEYS)
    assert [each.id for each in caught.value.findings] == ["token.algorithm.mismatch"]
    with pytest.raises(VerificationError) as caught:
        check_proof(signed({"alg": name, "typ": PROOF_TYP, "jwk": SIGNER.public.jwk()}))
    assert [each.id for each in caught.value.findings] == ["pop.algorithm.mismatch"]


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.public.kind.value)
def test_key_is_used_with_its_own_algorithm_only(
    signer: PrivateKeySigner, algorithm: Algorithm
) -> None:
    """A pair that does not belong together is refused in our own words, whatever was signed."""
    text, key = signed(HEADER, signer), signer.public.load_jose()
    if algorithm is signer.algorithm:
        assert verify_compact(text, key, algorithm, invalid=INVALID) == PAYLOAD
    else:
        with pytest.raises(VerificationError) as caught:
            verify_compact(text, key, algorithm, invalid=INVALID)
        assert caught.value.findings == (INVALID,)


def test_es256_with_a_key_of_another_curve_is_refused() -> None:
    """SHA-256 under a P-384 key is a sound signature, and no algorithm of JOSE."""
    private = ec.derive_private_key(3, ec.SECP384R1())
    text = signed(HEADER, P384).rpartition(".")[0]
    numbers = decode_dss_signature(private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    signature = b"".join(number.to_bytes(48, "big") for number in numbers)
    with pytest.raises(VerificationError) as caught:
        verify_compact(
            f"{text}.{base64url.encode(signature)}",
            P384.public.load_jose(),
            Algorithm.ES256,
            invalid=INVALID,
        )
    assert caught.value.findings == (INVALID,)


def test_ed448_is_refused() -> None:
    """EdDSA means Ed25519 here, for a key of the other curve too."""
    private = ed448.Ed448PrivateKey.from_private_bytes(bytes(57))
    text = signed(HEADER).rpartition(".")[0]
    signature = base64url.encode(private.sign(text.encode()))
    key = OKPKey.import_key(private.public_key())
    with pytest.raises(VerificationError) as caught:
        verify_compact(f"{text}.{signature}", key, Algorithm.ED25519, invalid=INVALID)
    assert caught.value.findings == (INVALID,)


@pytest.mark.parametrize(
    "extra", [{"crit": ["exp"]}, {"crit": []}, {"b64": True}, {"b64": False, "crit": ["b64"]}]
)
def test_critical_parameters_are_malformed(extra: dict[str, Any]) -> None:
    """Extensions that are not understood are not skipped, in tokens and in proofs."""
    with pytest.raises(MalformedError):
        parse_header(encode_header({**HEADER, **extra}))
    with pytest.raises(MalformedError):
        verify_jwt(signed({"alg": "ES256", "typ": JWT_TYP, "kid": SIGNER.key_id, **extra}), KEYS)
    header = {"alg": "ES256", "typ": PROOF_TYP, "jwk": SIGNER.public.jwk(), **extra}
    with pytest.raises(MalformedError):
        check_proof(signed(header))


@pytest.mark.parametrize("part", [0, 1])
def test_unencoded_payload_is_malformed(part: int) -> None:
    """RFC 7797: a payload is base64url, never text or nothing that stands elsewhere."""
    header = encode_header({**HEADER, "b64": False, "crit": ["b64"]})
    payload = ('{"a":1}', "a.b")[part]
    signature = base64url.encode(SIGNER.sign(f"{header}.{payload}".encode()))
    with pytest.raises(MalformedError):
        check(f"{header}.{payload}.{signature}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        *(".", "..", "...", "AAAA", "AAAA.AAAA"),
        *(f".{TEXT}", f"{TEXT}.", f"{TEXT}.AAAA", TEXT.replace(".", "..", 1)),
        *(TEXT.replace(".", ".AA.", 1), f"é{TEXT}", f"{TEXT}é", f"\ud800{TEXT}"),
    ],
    ids=itertools.count(),
)
def test_other_number_of_parts_or_other_text_is_refused(text: str) -> None:
    """Dots between the parts and nowhere else; what is outside ASCII is no JWS."""
    with pytest.raises((MalformedError, VerificationError)):
        check(text)
    with pytest.raises((MalformedError, VerificationError)):
        verify_jwt(text, KEYS)


def test_parameters_that_are_not_understood_are_ignored() -> None:
    """RFC 7515 §4: also when a registered one has a type that it should not have."""
    assert check(signed({**HEADER, "new": [1], "jku": 7, "x5c": "AAAA"})) == PAYLOAD


def test_both_names_of_ed25519_verify_without_a_warning() -> None:
    """RFC 9864 renamed EdDSA; an Ed25519 key means the same by both."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("EdDSA", "Ed25519"):
            proof = signed_claims({"alg": name, "jwk": ED25519.public.jwk()}, ED25519)
            assert check_proof(proof, ED25519)
            header = {"alg": name, "typ": JWT_TYP, "kid": ED25519.key_id}
            claims = strictjson.serialise(execution_claims().to_jwt())
            token = sign_compact(encode_header(header), claims, ED25519)
            assert verify_jwt(token, ED_KEYS).claims == execution_claims()
    with pytest.raises(VerificationError):
        check_proof(signed_claims({"alg": "Ed448", "jwk": ED25519.public.jwk()}, ED25519), ED25519)


def test_header_that_nests_too_deep_is_malformed() -> None:
    """Nesting that exhausts the stack is refused in our own words."""
    nested = '{"alg":"ES256","typ":"t","x":' + "[" * 2000 + "]" * 2000 + "}"
    with pytest.raises(MalformedError):
        parse_header(base64url.encode(nested.encode()))


def test_length_is_bounded_before_anything_is_decoded() -> None:
    """The JWS by its caller, the header here."""
    assert header_text(TEXT, max_bytes=len(TEXT)) == TEXT.split(".")[0]
    with pytest.raises(MalformedError):
        header_text(TEXT, max_bytes=len(TEXT) - 1)
    with pytest.raises(MalformedError):
        header_text("A" * 2049 + ".AAAA.AAAA", max_bytes=4096)


@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_=-]{0,40}\.A{0,9}"))
def test_any_text_is_refused_by_our_errors(text: str) -> None:
    """Nothing that joserfc or the codec raises gets out."""
    with pytest.raises((MalformedError, VerificationError)):
        check(TEXT.split(".")[0] + "." + text)
    with pytest.raises((MalformedError, VerificationError)):
        check(text)


def test_header_is_compact_json() -> None:
    """A header is written without white space, its members in the order given."""
    data = base64.urlsafe_b64decode(encode_header(HEADER) + "==")
    assert data == json.dumps(HEADER, separators=(",", ":")).encode()
