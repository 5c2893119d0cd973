"""Each value of a claim, broken by itself where claims are made, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from bootlease.errors import MalformedError
from bootlease.testing.chains import chain
from bootlease.testing.tokens import execution_claims
from bootlease.token import (
    ExecutionClaims,
    Tier,
    TrustVector,
    VerifierID,
    base64url,
    strictjson,
)
from bootlease.token.claimparts import (
    BootClaim,
    LineageClaim,
    PolicyClaim,
    ReferenceClaim,
    require_digest,
    require_number,
    require_text,
)

CLAIMS: Final = execution_claims()
TEXTS: Final = ("", "a" * 513, "a\n", "\ud800", b"text", None, 7, ("a",))
DIGESTS: Final = (b"", b"d" * 31, b"d" * 33, "d" * 32, None)
NUMBERS: Final = (-1, 1 << 53, 1.0, "1", True, None)
MOST: Final = (1 << 53) - 1


def read(claims: ExecutionClaims) -> dict[str, Any]:
    """Return the members of a JWT as they are read."""
    return strictjson.parse_object(strictjson.serialise(claims.to_jwt()))


@pytest.mark.parametrize("value", TEXTS, ids=lambda each: repr(each)[:20])
def test_text_is_bounded_and_printable(value: Any) -> None:
    """In every claim that is text."""
    with pytest.raises(ValueError, match="is not text"):
        require_text("x", value)
    for make in (
        lambda: VerifierID(value, "1"),
        lambda: VerifierID("d", value),
        lambda: PolicyClaim(value, bytes(32), 1),
        lambda: ReferenceClaim(value, bytes(32)),
        lambda: replace(CLAIMS, issuer=value),
        lambda: replace(CLAIMS, subject=value),
        lambda: replace(CLAIMS, audience=value),
        lambda: replace(CLAIMS, appraisal_policies=("p", value)),
    ):
        with pytest.raises((ValueError, TypeError)):
            make()


@pytest.mark.parametrize("value", ["a", "a" * 512], ids=len)
def test_text_reaches_its_bounds(value: str) -> None:
    """1 to 512 characters are text."""
    require_text("x", value)
    assert replace(CLAIMS, subject=value).subject == value


@pytest.mark.parametrize("value", DIGESTS, ids=lambda each: repr(each)[:20])
def test_a_digest_is_32_bytes(value: Any) -> None:
    """In every claim that is one; text of that length is none."""
    with pytest.raises(ValueError, match="is not a digest"):
        require_digest("x", value)
    made: list[Callable[[], object]] = [
        lambda: PolicyClaim("p", value, 1),
        lambda: ReferenceClaim("r", value),
        lambda: LineageClaim(value, 0),
        lambda: LineageClaim(value, 1, bytes(32)),
        lambda: replace(CLAIMS, evidence=value),
        lambda: replace(CLAIMS, decision=value),
    ]
    if value is not None:
        made.append(lambda: LineageClaim(bytes(32), 1, value))
    for make in made:
        with pytest.raises((ValueError, TypeError)):
            make()


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_a_number_is_one_that_json_keeps(value: Any) -> None:
    """In every claim that is one; a boolean is none."""
    with pytest.raises(ValueError, match="is not a non-negative integer"):
        require_number("x", value)
    for make in (
        lambda: BootClaim(value, 1),
        lambda: BootClaim(1, value),
        lambda: PolicyClaim("p", bytes(32), value),
        lambda: LineageClaim(bytes(32), value, bytes(32)),
        lambda: replace(CLAIMS, issued_at=value),
        lambda: replace(CLAIMS, not_before=value),
        lambda: replace(CLAIMS, expires_at=value),
    ):
        with pytest.raises((ValueError, TypeError)):
            make()


def test_a_number_reaches_its_bounds() -> None:
    """0 and 2^53 - 1 are numbers."""
    assert BootClaim(0, MOST) == BootClaim(0, MOST)
    require_number("x", MOST)
    assert LineageClaim(bytes(32), 0).prev is None


@pytest.mark.parametrize(
    "change",
    [
        {"lease_id": b"l" * 15},
        {"lease_id": "l" * 16},
        {"nonce": b"n" * 7},
        {"nonce": b"n" * 65},
        {"nonce": "n" * 32},
        {"level": -1},
        {"level": 4},
        {"appraisal_policies": ()},
        {"scope": ()},
        {"status": Tier.AFFIRMING, "vector": TrustVector(configuration=32)},
    ],
    ids=str,
)
def test_claims_hold_together(change: dict[str, Any]) -> None:
    """What no verifier may say is not made."""
    with pytest.raises(ValueError, match=r"\w"):
        replace(CLAIMS, **change)


@pytest.mark.parametrize(
    "change", [{"nonce": b"n" * 8}, {"nonce": b"n" * 64}, {"level": 3}], ids=str
)
def test_claims_reach_their_bounds(change: dict[str, Any]) -> None:
    """What is just within a bound is said."""
    made = replace(CLAIMS, **change)
    assert ExecutionClaims.from_jwt(read(made)) == made


@pytest.mark.parametrize("name", ["ear_status", "bootlease_key_protection"])
@pytest.mark.parametrize("value", ["", "good", 2, None, ["tpm"], {}, True], ids=repr)
def test_a_name_is_one_of_a_table(name: str, value: object) -> None:
    """A name that is unknown, or no name at all, is not taken for another."""
    members = {**read(CLAIMS), name: value}
    with pytest.raises(MalformedError):
        ExecutionClaims.from_jwt(members)


def test_a_delegated_jwt_says_who_acts() -> None:
    """Beside its chain, for readers of logs (RFC 8693 \N{SECTION SIGN}4.1)."""
    claims = chain(1)
    assert claims.delegation is not None
    members = claims.to_jwt()
    assert members["act"] == claims.delegation.actors()
    assert members["bootlease_delegation"] == claims.delegation.to_jwt()


def test_base64url_keeps_every_character() -> None:
    """Only padding is left out at the end."""
    for text in ("XXXX", "AAAX", "AXA", "____"):
        assert base64url.encode(base64url.decode(text)) == text
