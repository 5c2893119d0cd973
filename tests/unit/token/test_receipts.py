"""Receipts in the unprotected header of a CWT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.testing.tokens import FakeIssuer, execution_claims
from bootlease.token import verify_cwt
from bootlease.token.cose import parse_sign1
from bootlease.token.receipts import attach_receipt, receipts_of

MAX = 16 * 1024


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    """An issuer of tokens."""
    return FakeIssuer()


@given(receipt=st.binary(max_size=1200))
def test_a_receipt_rides_in_a_token_and_comes_out_as_it_went_in(receipt: bytes) -> None:
    """Whatever its length, also where the short layout is parsed by itself."""
    token = attach_receipt(FakeIssuer().cwt(execution_claims()), receipt)
    assert receipts_of(token) == (receipt,)
    message = parse_sign1(token, max_bytes=MAX)
    parts = [message.protected, message.unprotected, message.payload, message.signature]
    assert cbor.decode(token[1:], max_bytes=MAX) == parts


def test_a_token_with_a_receipt_is_the_same_token(issuer: FakeIssuer) -> None:
    """Signature and claims digest do not change: heads and receipts name the claims."""
    plain = issuer.cwt(execution_claims())
    proven = attach_receipt(plain, bytes(300))
    before, after = verify_cwt(plain, issuer.keys), verify_cwt(proven, issuer.keys)
    assert before.digest == after.digest


def test_a_token_without_receipt_has_none(issuer: FakeIssuer) -> None:
    """Nothing is made up."""
    assert receipts_of(issuer.cwt(execution_claims())) == ()


def test_a_second_receipt_is_not_put_over_the_first(issuer: FakeIssuer) -> None:
    """The header would lose one."""
    proven = attach_receipt(issuer.cwt(execution_claims()), b"first")
    with pytest.raises(ValueError, match="already"):
        attach_receipt(proven, b"second")


@pytest.mark.parametrize("value", [b"bare", [1], [[b"nested"]], {}, [b""] * 9])
def test_receipts_of_another_shape_are_malformed(issuer: FakeIssuer, value: object) -> None:
    """The unprotected header is anybody's."""
    token = issuer.cwt(execution_claims())
    message = parse_sign1(token, max_bytes=MAX)
    forged = b"\xd2" + cbor.encode(
        [message.protected, {394: value}, message.payload, message.signature]
    )
    with pytest.raises(MalformedError):
        receipts_of(forged)


@given(data=st.binary(max_size=600), at=st.integers(0, 2000))
def test_a_damaged_token_parses_as_the_general_decoder_says(data: bytes, at: int) -> None:
    """The short layouts are a way to be fast, not another grammar."""
    token = attach_receipt(FakeIssuer().cwt(execution_claims()), bytes(range(256)) * 2)
    at %= len(token)
    damaged = token[:at] + data + token[at + len(data) :]
    try:
        message = parse_sign1(damaged, max_bytes=MAX)
    except MalformedError:
        return
    parts = [message.protected, message.unprotected, message.payload, message.signature]
    assert cbor.decode(damaged.removeprefix(b"\xd8\x3d")[1:], max_bytes=MAX) == parts


def test_a_receipt_is_attached_to_a_token_alone(issuer: FakeIssuer) -> None:
    """What is not a tagged COSE_Sign1 has no header to put it in."""
    token = issuer.cwt(execution_claims())
    for odd in (token[1:], b"\xd3" + token[1:], b"\xd1" + token[1:]):
        with pytest.raises(ValueError, match="attached to a tagged COSE_Sign1"):
            attach_receipt(odd, b"receipt")


def test_eight_receipts_are_as_many_as_there_may_be(issuer: FakeIssuer) -> None:
    """One more is malformed."""
    message = parse_sign1(issuer.cwt(execution_claims()), max_bytes=MAX)
    kept = cbor.encode([message.protected, {394: [b"r"] * 8}, message.payload, message.signature])
    assert receipts_of(b"\xd2" + kept) == (b"r",) * 8
