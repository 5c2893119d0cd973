"""Signatures kept apart from tokens, and the tokens given back from them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.testing.tokens import execution_claims
from bootlease.token import Algorithm, PrivateKeySigner, TokenFormat, sign_cwt, sign_jwt
from bootlease.token.receipts import attach_receipt
from bootlease.token.signatures import MAX_SIGNATURES, TokenSignatures

SIGNERS = [
    PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())),
    PrivateKeySigner(ec.generate_private_key(ec.SECP384R1())),
    PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()),
]
FORMS = (TokenFormat.CWT, TokenFormat.JWT)


def tokens(signer: PrivateKeySigner) -> tuple[bytes, bytes]:
    """Sign one CWT and one JWT."""
    claims = execution_claims()
    return sign_cwt(claims, signer), sign_jwt(claims, signer).encode()


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda each: each.algorithm.value)
def test_tokens_come_back_byte_for_byte(signer: PrivateKeySigner) -> None:
    """Claims and signatures make the token that was signed, in either form."""
    cwt, jwt = tokens(signer)
    given_out = [attach_receipt(cwt, bytes(300)), jwt]
    kept = TokenSignatures.parse(TokenSignatures.under(given_out, signer).encode())
    assert kept.tokens([(execution_claims(), form) for form in FORMS]) == (cwt, jwt)


def test_one_lease_takes_a_hundred_bytes() -> None:
    """What is kept for ever is small beside the token, which has more than a thousand bytes."""
    cwt, _ = tokens(SIGNERS[0])
    assert len(TokenSignatures.under([cwt], SIGNERS[0]).encode()) == 102


def test_another_number_of_tokens_is_refused() -> None:
    """A signature belongs to one token, by its place."""
    kept = TokenSignatures.under(tokens(SIGNERS[0]), SIGNERS[0])
    with pytest.raises(MalformedError, match="2 signatures for 1"):
        kept.tokens([(execution_claims(), TokenFormat.CWT)])


KEY = bytes(32)


@pytest.mark.parametrize(
    "members",
    [
        [],
        [-7, KEY],
        {1: -7},
        [-9, KEY, b"s"],
        ["ES256", KEY, b"s"],
        [-257, KEY, b"s"],
        [-7, KEY[:31], b"s"],
        [-7, "key", b"s"],
        [-7, KEY, b"s", "s"],
        [-7, KEY, None],
    ],
)
def test_what_are_no_signatures_is_malformed(members: object) -> None:
    """One encoding for one content: no other names of an algorithm, no shorter key ids."""
    with pytest.raises(MalformedError):
        TokenSignatures.parse(cbor.encode(members))


@given(data=st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Nothing else comes of unverified bytes."""
    try:
        parsed = TokenSignatures.parse(data)
    except MalformedError:
        return
    assert parsed.encode() == data


@given(signatures=st.lists(st.binary(max_size=100), min_size=1, max_size=20))
def test_what_is_encoded_parses(signatures: list[bytes]) -> None:
    """Whatever the signatures are."""
    made = TokenSignatures(Algorithm.ES256, SIGNERS[0].key_id, tuple(signatures))
    assert TokenSignatures.parse(made.encode()) == made


def test_what_is_too_long_is_malformed() -> None:
    """Lengths are bounded before use."""
    made = TokenSignatures(Algorithm.ES256, SIGNERS[0].key_id, (bytes(MAX_SIGNATURES),))
    with pytest.raises(MalformedError):
        TokenSignatures.parse(made.encode())
