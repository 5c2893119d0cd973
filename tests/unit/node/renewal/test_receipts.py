"""A lease whose decision nobody can prove later is none."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from bootlease import cbor
from bootlease.errors import VerificationError
from bootlease.evidence import IssuedLease, TokenEncoding
from bootlease.ledger import encode_leaf
from bootlease.node.renewal.receipts import verify_lease_receipt
from bootlease.testing.sealing import SealedLedger, with_receipt
from bootlease.testing.tokens import FakeIssuer, execution_claims
from bootlease.token import VerifiedToken, verify_token
from bootlease.token.cose import parse_sign1

LEDGER = SealedLedger.create()
ISSUER = FakeIssuer()
CLAIMS = execution_claims()
ENCODINGS = list(TokenEncoding)


@functools.cache
def token_of(encoding: TokenEncoding) -> tuple[IssuedLease, VerifiedToken]:
    """Return a lease without receipt, and its token as verified."""
    data = ISSUER.cwt(CLAIMS) if encoding is TokenEncoding.CWT else ISSUER.jwt(CLAIMS).encode()
    token = verify_token(
        data,
        ISSUER.keys,
        now=CLAIMS.issued_at,
        issuer=CLAIMS.issuer,
        audience=CLAIMS.audience,
    )
    lease = IssuedLease(CLAIMS.lease_id, encoding, data, token.digest, CLAIMS.expires_at)
    return lease, token


def refused(lease: IssuedLease, token: VerifiedToken, decision: bytes) -> list[str]:
    """Return the findings of a refusal."""
    with pytest.raises(VerificationError) as caught:
        verify_lease_receipt(lease, token, decision, LEDGER.key)
    return [finding.id for finding in caught.value.findings]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_receipt_proves_the_lease(encoding: TokenEncoding) -> None:
    """In a CWT and beside a JWT, with other leaves around it."""
    lease, token = token_of(encoding)
    mine = encode_leaf(CLAIMS.decision, token.digest)
    others = [encode_leaf(bytes(32), None)] * 4
    proven = with_receipt(lease, LEDGER.append([*others, mine, *others])[4])
    verify_lease_receipt(proven, token, CLAIMS.decision, LEDGER.key)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_receipt_is_no_lease(encoding: TokenEncoding) -> None:
    """A verifier that does not prove is not believed."""
    lease, token = token_of(encoding)
    assert refused(lease, token, CLAIMS.decision) == ["receipt.missing"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_receipt_of_another_lease_proves_nothing(encoding: TokenEncoding) -> None:
    """Neither of other claims of the decision, nor of the claims under another decision."""
    lease, token = token_of(encoding)
    for leaf in (
        encode_leaf(CLAIMS.decision, bytes(32)),
        encode_leaf(CLAIMS.decision, None),
        encode_leaf(bytes(32), token.digest),
    ):
        proven = with_receipt(lease, LEDGER.append([leaf])[0])
        (finding,) = refused(proven, token, CLAIMS.decision)
        assert finding.startswith("ledger.")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_receipt_of_another_ledger_proves_nothing(encoding: TokenEncoding) -> None:
    """Of the same name, with another key."""
    lease, token = token_of(encoding)
    leaf = encode_leaf(CLAIMS.decision, token.digest)
    proven = with_receipt(lease, SealedLedger.create().append([leaf])[0])
    (finding,) = refused(proven, token, CLAIMS.decision)
    assert finding.startswith("ledger.")


def test_the_answer_names_the_decision_of_its_token() -> None:
    """What is reported as the decision is what the token says."""
    lease, token = token_of(TokenEncoding.CWT)
    assert refused(lease, token, bytes(32)) == ["answer.decision.mismatch"]


def test_a_cwt_with_two_receipts_is_refused() -> None:
    """One of them nobody would look at."""
    lease, token = token_of(TokenEncoding.CWT)
    leaf = encode_leaf(CLAIMS.decision, token.digest)
    receipt = LEDGER.append([leaf])[0].cose()
    message = parse_sign1(lease.token, max_bytes=1 << 14)
    header = {394: [receipt, receipt]}
    parts = [message.protected, header, message.payload, message.signature]
    twice = dataclasses.replace(lease, token=b"\xd2" + cbor.encode(parts))
    assert refused(twice, token, CLAIMS.decision) == ["receipt.missing"]
