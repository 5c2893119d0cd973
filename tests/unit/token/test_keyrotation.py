"""Key rotations: only a trusted key leads to another, and only of its own verifier."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.tokens import ISSUER, NOW, fixed_signer
from bootlease.token import (
    Algorithm,
    KeySet,
    PrivateKeySigner,
    PublicKey,
    VerificationKey,
)
from bootlease.token.keyrotation import (
    _KIND,
    MAX_ROTATIONS,
    follow_rotations,
    parse_rotations,
    sign_rotation,
    verify_rotation,
)
from bootlease.token.signedjson import sign_object
from bootlease.token.statuslist import StatusList, StatusListToken, sign_status_jwt

SIGNERS = [fixed_signer(number) for number in range(50, 54)]
FIRST = KeySet((VerificationKey(SIGNERS[0].public),))
CHAIN = [
    sign_rotation(ISSUER, new.public, now=NOW, signer=old)
    for old, new in itertools.pairwise(SIGNERS)
]


def ids(keys: KeySet) -> list[str]:
    """The keys of a set."""
    return [key.key_id for key in keys.keys]


def finding(text: str, keys: KeySet = FIRST) -> str:
    """Return what is wrong."""
    with pytest.raises(VerificationError) as caught:
        verify_rotation(text, keys, issuer=ISSUER)
    (found,) = caught.value.findings
    return found.id


def test_a_chain_leads_to_the_newest_key() -> None:
    """From the first or from any other; what came before proves nothing and disturbs nothing."""
    assert ids(follow_rotations(FIRST, CHAIN, issuer=ISSUER)) == [s.key_id for s in SIGNERS]
    third = KeySet((VerificationKey(SIGNERS[2].public),))
    assert ids(follow_rotations(third, CHAIN, issuer=ISSUER)) == [s.key_id for s in SIGNERS[2:]]
    assert follow_rotations(FIRST, [], issuer=ISSUER) is FIRST


def test_a_chain_with_a_link_missing_or_forged_leads_nowhere() -> None:
    """A stranger's key is not reached, and neither is what it names."""
    assert ids(follow_rotations(FIRST, [CHAIN[0], CHAIN[2]], issuer=ISSUER)) == [
        s.key_id for s in SIGNERS[:2]
    ]
    stranger = fixed_signer(99)
    named = sign_rotation(ISSUER, fixed_signer(98).public, now=NOW, signer=stranger)
    assert follow_rotations(FIRST, [named], issuer=ISSUER) is FIRST


def test_what_is_no_rotation_of_this_verifier_is_refused() -> None:
    """Another key, verifier, kind, algorithm or signature."""
    stranger = sign_rotation(ISSUER, SIGNERS[1].public, now=NOW, signer=fixed_signer(99))
    assert finding(stranger) == "rotation.key.unknown"
    elsewhere = sign_rotation("https://o.example", SIGNERS[1].public, now=NOW, signer=SIGNERS[0])
    assert finding(elsewhere) == "rotation.issuer.mismatch"
    with pytest.raises(VerificationError):
        follow_rotations(FIRST, [elsewhere], issuer=ISSUER)
    listed = StatusListToken(ISSUER, NOW, NOW + 9, 5, StatusList.of([]))
    assert finding(sign_status_jwt(listed, SIGNERS[0])) == "rotation.typ.mismatch"
    broken = CHAIN[0][:-8] + ("A" * 8 if CHAIN[0][-8:] != "A" * 8 else "B" * 8)
    assert finding(broken) == "rotation.signature.invalid"

    class Misnamed:
        public, key_id, algorithm = SIGNERS[0].public, SIGNERS[0].key_id, Algorithm.ES384
        sign = staticmethod(SIGNERS[0].sign)

    liar = sign_rotation(ISSUER, SIGNERS[1].public, now=NOW, signer=Misnamed())
    assert finding(liar) == "rotation.algorithm.mismatch"


@pytest.mark.parametrize(
    "changes",
    [
        {"iat": "now"},
        {"jwk": None},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"more": 1},
    ],
)
def test_a_rotation_of_another_shape_is_malformed(changes: dict[str, Any]) -> None:
    """It has these members and no others, and names a key that may sign tokens."""
    members = {"iss": ISSUER, "iat": NOW, "jwk": SIGNERS[1].public.jwk(), **changes}
    with pytest.raises(MalformedError):
        verify_rotation(sign_object(_KIND, members, SIGNERS[0]), FIRST, issuer=ISSUER)


def test_a_rotation_to_a_key_that_signs_no_tokens_is_malformed() -> None:
    """RSA keys confirm leases and sign none."""
    key = PrivateKeySigner(rsa.generate_private_key(65537, 2048))
    text = sign_rotation(ISSUER, PublicKey.from_jwk(key.public.jwk()), now=NOW, signer=SIGNERS[0])
    with pytest.raises(MalformedError, match="do not sign tokens"):
        verify_rotation(text, FIRST, issuer=ISSUER)


def test_keys_by_rotation_are_bounded() -> None:
    """A thief of an old key cannot fill a node's memory."""
    signers = [fixed_signer(200 + number) for number in range(MAX_ROTATIONS + 2)]
    chain = [
        sign_rotation(ISSUER, new.public, now=NOW, signer=old)
        for old, new in itertools.pairwise(signers)
    ]
    first = KeySet((VerificationKey(signers[0].public),))
    assert len(follow_rotations(first, chain[:MAX_ROTATIONS], issuer=ISSUER).keys) == 64
    with pytest.raises(MalformedError, match="more than 64"):
        follow_rotations(first, chain, issuer=ISSUER)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_list_of_rotations_or_malformed(data: bytes) -> None:
    """Parse, or MalformedError, never any other."""
    with pytest.raises(MalformedError):
        parse_rotations(data)


def test_a_list_of_rotations_is_bounded_and_of_texts() -> None:
    """Nothing else comes through."""
    assert parse_rotations(b'{"rotations": ["a.b.c"]}') == ("a.b.c",)
    for data in (
        b'{"rotations": [1]}',
        b'{"rotations": {}}',
        b'{"rotations": [' + b",".join([b'""'] * 64) + b"]}",
        b'{"rotations": []}' + b" " * 300_000,
    ):
        with pytest.raises(MalformedError):
            parse_rotations(data)


def test_a_rotation_that_was_followed_is_followed_again() -> None:
    """A verifier publishes all of them for ever; a key that is trusted stays so, once."""
    keys = follow_rotations(FIRST, CHAIN, issuer=ISSUER)
    assert follow_rotations(keys, CHAIN, issuer=ISSUER) is keys
