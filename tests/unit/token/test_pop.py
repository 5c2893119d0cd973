"""Proof of possession: one holder, one request, one token, now."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.tokens import HOLDER, NOW, fixed_signer
from bootlease.token import PrivateKeySigner, VerifiedProof, base64url, make_proof, verify_proof
from bootlease.token.jws import encode_header, sign_compact
from bootlease.token.pop import MAX_PROOF_BYTES, proof_key, token_hash

URL = "https://tools.example/run"
TOKEN = "eyJ.a.b"
RSA_KEY = rsa.generate_private_key(65537, 2048)
SIGNERS = [
    HOLDER,
    PrivateKeySigner(ec.derive_private_key(3, ec.SECP384R1())),
    PrivateKeySigner(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))),
    PrivateKeySigner(RSA_KEY),
]


def proof(
    *, header: dict[str, Any] | None = None, signer: PrivateKeySigner = HOLDER, **claims: Any
) -> str:
    """Return a proof with header and claims changed; ``...`` removes a member."""
    full_header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": HOLDER.public.jwk(), **(header or {})}
    full = {"jti": "j", "htm": "POST", "htu": URL, "iat": NOW, "ath": token_hash(TOKEN), **claims}
    payload = json.dumps({key: value for key, value in full.items() if value is not ...}).encode()
    kept = {key: value for key, value in full_header.items() if value is not ...}
    return sign_compact(encode_header(kept), payload, signer)


def check(text: str, **changes: Any) -> VerifiedProof:
    """Verify as a relying party does, with some argument changed."""
    options: dict[str, Any] = {
        "confirmation": HOLDER.public,
        "htm": "POST",
        "htu": URL,
        "access_token": TOKEN,
        "now": NOW,
    }
    return verify_proof(text, **{**options, **changes})


def refusals(text: str, **changes: Any) -> list[str]:
    """Return the ids of all findings."""
    with pytest.raises(VerificationError) as caught:
        check(text, **changes)
    return [finding.id for finding in caught.value.findings]


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.public.kind.value)
def test_holder_proves_possession(signer: PrivateKeySigner) -> None:
    """Every kind of confirmation key makes proofs that verify."""
    text = make_proof(signer, htm="POST", htu=URL + "?q=1#f", iat=NOW, jti="j", access_token=TOKEN)
    verified = check(text, confirmation=signer.public)
    assert verified == VerifiedProof("j", NOW, signer.public.thumbprint())


def test_rsa_key_may_sign_with_pss() -> None:
    """An RSA key proves with PS256 as well, and with nothing else."""

    class PSSSigner(PrivateKeySigner):
        def sign(self, data: bytes) -> bytes:
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            return RSA_KEY.sign(data, scheme, hashes.SHA256())

    signer = PSSSigner(RSA_KEY)
    header = {"alg": "PS256", "jwk": signer.public.jwk()}
    assert check(proof(header=header, signer=signer), confirmation=signer.public)
    wrong = proof(header={**header, "alg": "RS256"}, signer=signer)
    assert refusals(wrong, confirmation=signer.public) == ["pop.signature.invalid"]
    other = proof(header={**header, "alg": "RS512"}, signer=signer)
    assert refusals(other, confirmation=signer.public) == ["pop.algorithm.mismatch"]


def test_other_holder_is_refused() -> None:
    """A thief proves with a key of his own."""
    thief = fixed_signer(13)
    header = {"jwk": thief.public.jwk()}
    assert refusals(proof(header=header, signer=thief)) == ["pop.key.mismatch"]


def test_holders_key_with_thiefs_signature_is_refused() -> None:
    """Naming the key is not having it."""
    assert refusals(proof(signer=fixed_signer(13))) == ["pop.signature.invalid"]


@pytest.mark.parametrize("typ", ["eat+jwt", "JWT", "DPOP+JWT"])
def test_object_of_another_type_is_refused(typ: str) -> None:
    """A token signed by the holder's key is no proof."""
    assert refusals(proof(header={"typ": typ})) == ["pop.typ.mismatch"]


@pytest.mark.parametrize("alg", ["none", "HS256", "ES384"])
def test_other_algorithm_is_refused(alg: str) -> None:
    """The key says how it verifies."""
    assert refusals(proof(header={"alg": alg})) == ["pop.algorithm.mismatch"]


def test_other_method_is_refused() -> None:
    """A proof for POST does not GET; methods are compared exactly."""
    assert refusals(proof(), htm="GET") == ["pop.method.mismatch"]
    assert refusals(proof(htm="post")) == ["pop.method.mismatch"]


@pytest.mark.parametrize(
    "url",
    [
        "https://tools.example/other",
        "https://tools.example/run/",
        "http://tools.example/run",
        "https://evil.example/run",
        "https://tools.example:8443/run",
        "https://tools.example.evil.example/run",
    ],
)
def test_other_url_is_refused(url: str) -> None:
    """A proof for one endpoint is not sent to another."""
    assert refusals(proof(), htu=url) == ["pop.url.mismatch"]


@pytest.mark.parametrize(
    "url", ["https://tools.example/run?q=2", "HTTPS://Tools.Example:443/run", URL + "#f"]
)
def test_same_url_in_another_form_is_accepted(url: str) -> None:
    """Query, fragment, case of scheme and host, and the default port make no difference."""
    assert check(proof(), htu=url)


@pytest.mark.parametrize(
    "url", ["", "/run", "ftp://a/run", "https://", "https://u@a/", "https://a:x/", "https://a/\n"]
)
def test_url_that_is_none_is_malformed(url: str) -> None:
    """Only absolute http and https URLs without user info are compared."""
    with pytest.raises(MalformedError):
        check(proof(htu=url))


def test_other_token_is_refused() -> None:
    """A proof is bound to the token that it came with."""
    assert refusals(proof(), access_token=TOKEN + "x") == ["pop.token.mismatch"]


def test_old_proof_is_refused() -> None:
    """Up to its age and the leeway it passes, then not."""
    assert check(proof(), now=NOW + 65)
    assert refusals(proof(), now=NOW + 65.1) == ["pop.too-old"]
    assert refusals(proof(), now=NOW + 11, max_age=5) == ["pop.too-old"]


def test_proof_from_the_future_is_refused() -> None:
    """Up to the leeway a clock may be ahead."""
    assert check(proof(), now=NOW - 5)
    assert refusals(proof(), now=NOW - 6) == ["pop.issued.future"]


def test_every_reason_is_reported() -> None:
    """Findings about request and time are collected."""
    found = refusals(proof(), htm="GET", htu="https://a/", access_token="b", now=NOW + 999)
    assert found == [
        "pop.method.mismatch",
        "pop.url.mismatch",
        "pop.token.mismatch",
        "pop.too-old",
    ]


@pytest.mark.parametrize(
    "claims",
    [
        *({name: ...} for name in ("jti", "htm", "htu", "iat", "ath")),
        *({name: 7} for name in ("jti", "htm", "htu", "ath")),
        {"jti": ""},
        {"jti": "a" * 129},
        {"jti": "a\n"},
        {"iat": "1900000000"},
        {"iat": 1900000000.0},
        {"iat": True},
        {"iat": -1},
        {"iat": 1 << 53},
    ],
    ids=repr,
)
def test_proof_without_a_claim_is_malformed(claims: dict[str, Any]) -> None:
    """Each claim is demanded, in its type."""
    with pytest.raises(MalformedError):
        check(proof(**claims))


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": ...},
        {"jwk": "key"},
        {"jwk": {**HOLDER.public.jwk(), "d": "AAAA"}},
        {"alg": ...},
        {"typ": ...},
        {"crit": ["exp"]},
        {"x": "a" * 3000},
    ],
    ids=lambda header: repr(header)[:40],
)
def test_proof_with_a_bad_header_is_malformed(header: dict[str, Any]) -> None:
    """Key, algorithm and type are demanded; private keys and extensions are refused."""
    with pytest.raises(MalformedError):
        check(proof(header=header))


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "é.é.é", "A" * (MAX_PROOF_BYTES + 1)])
def test_other_text_is_malformed(text: str) -> None:
    """What is no compact JWS, or too long, is refused."""
    with pytest.raises(MalformedError):
        check(text)


def test_confirmation_key_off_its_curve_is_malformed() -> None:
    """A token that confirms no key at all cannot be proven."""
    jwk = {**HOLDER.public.jwk(), "y": base64url.encode(bytes(32))}
    key = type(HOLDER.public).from_jwk(jwk)
    with pytest.raises(MalformedError):
        check(proof(header={"jwk": jwk}), confirmation=key)


@pytest.mark.parametrize("jti", ["j", "j" * 128], ids=len)
def test_an_id_of_any_allowed_length_is_accepted(jti: str) -> None:
    """1 to 128 characters name a proof."""
    assert check(proof(jti=jti)).jti == jti


def test_the_first_and_the_last_time_are_times() -> None:
    """They are read, and are only too far away."""
    assert refusals(proof(iat=0)) == ["pop.too-old"]
    assert refusals(proof(iat=(1 << 53) - 1)) == ["pop.issued.future"]


@pytest.mark.parametrize("nonce", [None, "n1"])
def test_a_proof_says_nothing_that_was_not_asked_for(nonce: str | None) -> None:
    """A nonce where there is one, and no empty one where there is none."""
    text = make_proof(
        HOLDER, htm="POST", htu=URL, iat=NOW, jti="j", access_token=TOKEN, nonce=nonce
    )
    members = json.loads(base64url.decode(text.split(".")[1]))
    wanted = {} if nonce is None else {"nonce": nonce}
    assert members == {
        "jti": "j",
        "htm": "POST",
        "htu": URL,
        "iat": NOW,
        "ath": token_hash(TOKEN),
        **wanted,
    }


def test_a_servers_nonce_is_in_the_proof() -> None:
    """RFC 9449 §8: a relying party that gave one finds it; without one there is no such claim."""
    for nonce in (None, "eyJ7S_zG.eyJH0-Z.HX4w-7v"):
        text = make_proof(
            HOLDER, htm="POST", htu=URL, iat=NOW, jti="j", access_token=TOKEN, nonce=nonce
        )
        assert check(text).jti == "j"
        claims = json.loads(base64url.decode(text.split(".")[1]))
        assert claims.get("nonce") == nonce
        assert ("nonce" in claims) == (nonce is not None)


def test_a_proof_names_its_key() -> None:
    """Unverified: where no token says whose it must be."""
    assert proof_key(proof()) == HOLDER.public
    for text in ("", "a.b", "A" * (MAX_PROOF_BYTES + 1), proof(header={"jwk": ...})):
        with pytest.raises(MalformedError):
            proof_key(text)
    with pytest.raises(MalformedError, match="longer"):
        proof_key("A" * (MAX_PROOF_BYTES + 1))
