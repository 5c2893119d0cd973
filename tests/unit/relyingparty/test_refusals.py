"""How each refusal is answered over HTTP."""

from __future__ import annotations

import json

import pytest

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.model import Finding
from bootlease.relyingparty import refusal_for


def error(id_: str) -> VerificationError:
    """Return an error with a finding of this id."""
    return VerificationError(Finding(id_, "No."))


@pytest.mark.parametrize(
    ("found", "status", "code"),
    [
        ("request.token.missing", 401, None),
        ("request.proof.missing", 401, "invalid_dpop_proof"),
        ("request.header.repeated", 400, "invalid_request"),
        ("request.path.ambiguous", 400, "invalid_request"),
        ("request.scope.unruled", 403, "insufficient_scope"),
        ("request.scope.undemanded", 403, "insufficient_scope"),
        ("pop.replayed", 401, "invalid_dpop_proof"),
        ("token.expired", 401, "invalid_token"),
        ("token.revoked", 401, "invalid_token"),
        ("token.parent.revoked", 401, "invalid_token"),
        ("token.epoch.too-old", 401, "invalid_token"),
        ("token.key.withdrawn", 401, "invalid_token"),
        ("token.key.unknown", 401, "invalid_token"),
        ("token.receipt.missing", 401, "invalid_token"),
        ("delegation.scope.wider", 401, "invalid_token"),
        ("ledger.receipt.key.unknown", 401, "invalid_token"),
        ("token.scope.insufficient", 403, "insufficient_scope"),
        ("token.tier.insufficient", 403, "insufficient_scope"),
        ("token.level.insufficient", 403, "insufficient_scope"),
        ("token.depth.exceeded", 403, "insufficient_scope"),
    ],
)
def test_what_is_the_requests_fault_is_challenged(
    found: str, status: int, code: str | None
) -> None:
    """401 for what a new token or proof repairs, 403 for what this holder may not do."""
    refusal = refusal_for(error(found))
    assert (refusal.status, refusal.retry_after) == (status, None)
    assert refusal.www_authenticate is not None
    if code is None:
        assert refusal.www_authenticate == 'DPoP algs="ES256 ES384 EdDSA RS256 PS256"'
    else:
        assert refusal.www_authenticate == f'DPoP error="{code}", error_description="No."'
    assert dict(refusal.headers()) == {
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "www-authenticate": refusal.www_authenticate,
    }


@pytest.mark.parametrize(
    "problem",
    [
        error("continuity.stale"),
        error("continuity.missing"),
        error("status.index.unknown"),
        error("pop.replay.full"),
        TransportError("No."),
    ],
    ids=str,
)
def test_what_is_no_fault_of_the_request_may_be_tried_again(
    problem: VerificationError | TransportError,
) -> None:
    """The token may be good: no new one would help, a little time may."""
    refusal = refusal_for(problem)
    assert (refusal.status, refusal.www_authenticate, refusal.retry_after) == (503, None, 1)
    assert dict(refusal.headers()) == {
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "retry-after": "1",
    }


def test_the_first_finding_decides() -> None:
    """Statement findings stand before those that explain them."""
    both = VerificationError(Finding("token.expired", "One."), Finding("continuity.stale", "Two."))
    assert refusal_for(both).status == 401


def test_a_header_holds_nothing_but_text() -> None:
    """What somebody else wrote makes no header of its own, and is bounded."""
    refusal = refusal_for(MalformedError('a"\r\nSet-Cookie: x\\é'))
    assert refusal.www_authenticate == (
        'DPoP error="invalid_token", error_description="a\'??Set-Cookie: x ?"'
    )
    assert refusal.status == 401
    long = refusal_for(MalformedError("x" * 1000))
    assert long.www_authenticate is not None
    assert long.www_authenticate.count("x") == 256
    assert json.loads(long.body)["detail"] == "x" * 256


def test_the_body_is_a_problem_document() -> None:
    """RFC 9457, with every finding."""
    refusal = refusal_for(error("token.revoked"))
    assert json.loads(refusal.body) == {
        "type": "about:blank",
        "title": "The request is not authorized",
        "status": 401,
        "detail": "No.",
        "findings": [{"id": "token.revoked", "effect": "refuses", "message": "No."}],
    }
    assert "findings" not in json.loads(refusal_for(TransportError("gone")).body)
