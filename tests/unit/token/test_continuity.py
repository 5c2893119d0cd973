"""Continuity statements: each thing that they must say is checked by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.tokens import ISSUER as URL
from bootlease.testing.tokens import NOW, FakeIssuer, execution_claims
from bootlease.token import PrivateKeySigner, TokenFormat, base64url
from bootlease.token.continuity import (
    _KIND,
    MAX_STATEMENT,
    MAX_VALID,
    Continuity,
    Statement,
    sign_statement,
    stale,
    verify_statement,
)
from bootlease.token.signedjson import sign_object
from bootlease.token.statuslist import STATUS_RING, StatusList

ISSUER = FakeIssuer()
KEY = ISSUER.signer.key_id
STATEMENT = Statement(URL, NOW, NOW + 10, 7, 3, frozenset({KEY}), StatusList.of([5]))
MEMBERS: dict[str, Any] = {
    "iss": URL,
    "iat": NOW,
    "exp": NOW + 10,
    "seq": 7,
    "min_epoch": 3,
    "keys": [KEY],
    "status_list": StatusList.of([5]).to_json(),
}


def verify(text: str, *, now: float = NOW, after: Continuity | None = None) -> Continuity:
    """Verify with the issuer's key."""
    return verify_statement(text, ISSUER.keys, now=now, issuer=URL, leeway=5, after=after)


def findings(text: str, *, now: float = NOW, after: Continuity | None = None) -> list[str]:
    """Return the ids of what is wrong."""
    with pytest.raises(VerificationError) as caught:
        verify(text, now=now, after=after)
    return [each.id for each in caught.value.findings]


def said(**changes: Any) -> str:
    """Return a signed statement with other members."""
    return sign_object(_KIND, {**MEMBERS, **changes}, ISSUER.signer)


def test_a_statement_says_what_was_signed() -> None:
    """Every member comes back, and whose signature it bears."""
    made = verify(sign_statement(STATEMENT, ISSUER.signer))
    assert made == Continuity(
        URL, NOW, NOW + 10, 7, 3, frozenset({KEY}), StatusList.of([5]), key_id=KEY
    )
    assert made.status.get(5) == 1
    assert made == verify(said())


@pytest.mark.parametrize(
    ("changes", "now", "expected"),
    [
        ({"iss": "https://other.example"}, NOW, "continuity.issuer.mismatch"),
        ({}, NOW + 15, "continuity.stale"),
        ({}, NOW - 6, "continuity.issued.future"),
        ({"keys": [FakeIssuer(99).signer.key_id]}, NOW, "continuity.key.withdrawn"),
    ],
)
def test_a_statement_that_does_not_count_says_why(
    changes: dict[str, Any], now: float, expected: str
) -> None:
    """One thing wrong is one finding; within the leeway nothing is."""
    assert findings(said(**changes), now=now) == [expected]
    assert verify(said(), now=NOW + 14.9).sequence == 7
    assert verify(said(), now=NOW - 5).sequence == 7


def test_an_older_statement_is_not_taken_for_a_newer_one() -> None:
    """Whoever holds back the newest may not play an older one that has not expired."""
    newest = verify(said(seq=8))
    assert findings(said(seq=7), after=newest) == ["continuity.sequence.back"]
    assert verify(said(seq=8), after=newest).sequence == 8
    # What has expired holds nobody back.
    later = said(seq=7, iat=NOW + 20, exp=NOW + 30)
    assert findings(later, now=NOW + 14.9, after=newest)[-1] == "continuity.sequence.back"
    assert verify(later, now=NOW + 20, after=newest).sequence == 7


def test_a_statement_by_another_key_is_refused() -> None:
    """Signed by a stranger, or changed, or of another algorithm or kind."""
    other = FakeIssuer(99)
    text = sign_object(_KIND, {**MEMBERS, "keys": [other.signer.key_id]}, other.signer)
    assert findings(text) == ["continuity.key.unknown"]
    head, _, signature = said().rpartition(".")
    raw = bytearray(base64url.decode(signature))
    raw[0] ^= 1
    broken = f"{head}.{base64url.encode(bytes(raw))}"
    assert findings(broken) == ["continuity.signature.invalid"]
    token = str(ISSUER.token(execution_claims(), TokenFormat.UNSAFE_BEARER))
    assert findings(token) == ["continuity.typ.mismatch"]
    p384 = PrivateKeySigner(ec.derive_private_key(3, ec.SECP384R1()))
    header = base64url.encode(
        f'{{"alg":"{p384.algorithm.value}","kid":"{KEY}","typ":"{_KIND.typ}"}}'.encode()
    )
    other_algorithm = ".".join([header, *said().split(".")[1:]])
    assert findings(other_algorithm) == ["continuity.algorithm.mismatch"]


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": 7},
        {"iat": "now"},
        {"iat": -1},
        {"exp": NOW},
        {"exp": NOW + MAX_VALID + 1},
        {"exp": True},
        {"seq": None},
        {"seq": 1 << 53},
        {"min_epoch": -1},
        {"keys": []},
        {"keys": KEY},
        {"keys": [KEY] * 65},
        {"keys": ["short"]},
        {"keys": [7]},
        {"status_list": StatusList.of([5], size=STATUS_RING - 8).to_json()},
        {"status_list": {"bits": 1}},
        {"status_list": None},
        {"more": 1},
    ],
)
def test_a_statement_of_another_shape_is_malformed(changes: dict[str, Any]) -> None:
    """It has these members, of these types and bounds, and no others."""
    with pytest.raises(MalformedError):
        verify(said(**changes))


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_must_be_there(name: str) -> None:
    """What is not said cannot be believed."""
    rest = {key: value for key, value in MEMBERS.items() if key != name}
    with pytest.raises(MalformedError, match="members"):
        verify(sign_object(_KIND, rest, ISSUER.signer))


def test_nothing_is_signed_that_nobody_would_accept() -> None:
    """A key that does not count signs nothing, and no statement lives for ever."""
    with pytest.raises(ValueError, match="key that counts"):
        sign_statement(replace(STATEMENT, key_ids=frozenset({"x"})), ISSUER.signer)
    for life in (0, MAX_VALID + 1):
        with pytest.raises(ValueError, match="valid for"):
            sign_statement(replace(STATEMENT, expires_at=NOW + life), ISSUER.signer)


def test_a_long_text_is_not_read() -> None:
    """Nobody's gigabyte is parsed."""
    with pytest.raises(MalformedError, match="longer than"):
        verify("x" * (MAX_STATEMENT + 1))


def test_a_header_without_key_id_is_malformed() -> None:
    """No key is tried that the header does not name."""
    header = base64url.encode(f'{{"alg":"ES256","typ":"{_KIND.typ}"}}'.encode())
    with pytest.raises(MalformedError, match="kid"):
        verify(f"{header}.e30.AA")


def test_a_stale_statement_is_named_as_one() -> None:
    """Whoever keeps one looks again when using it."""
    assert stale(verify(said()), NOW + 99).id == "continuity.stale"


@given(text=st.text(max_size=200))
def test_any_text_is_a_statement_or_an_error_of_ours(text: str) -> None:
    """Parse, or MalformedError, or refused, never any other."""
    with pytest.raises((MalformedError, VerificationError)):
        verify(text)


def test_a_statement_may_count_for_one_second() -> None:
    """That is the shortest; none is signed that counts for less."""
    assert sign_statement(replace(STATEMENT, expires_at=NOW + 1), ISSUER.signer)
    with pytest.raises(ValueError, match="valid for 1"):
        sign_statement(replace(STATEMENT, expires_at=NOW), ISSUER.signer)


def test_a_newer_statement_holds_until_its_last_second() -> None:
    """From then on an older one is heard again: a verifier may have been restored."""
    newest = verify(said(seq=9, exp=NOW + 10))
    older = said(seq=8, iat=NOW + 10, exp=NOW + 40)
    assert findings(older, now=NOW + 14.9, after=newest) == ["continuity.sequence.back"]
    assert verify(older, now=NOW + 15, after=newest).sequence == 8
