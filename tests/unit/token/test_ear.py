"""Tiers, and the values of a trustworthiness vector, from one bound to the next."""

from __future__ import annotations

from typing import Any

import pytest

from bootlease import cbor
from bootlease.token import Tier, TrustVector
from bootlease.token.ear import meaning, tier_of

BORDERS = {
    Tier.NONE: (-1, 0, 1),
    Tier.AFFIRMING: (2, 31, -2, -32),
    Tier.WARNING: (32, 95, -33, -96),
    Tier.CONTRAINDICATED: (96, 127, -97, -128),
}


@pytest.mark.parametrize("tier", list(BORDERS), ids=lambda tier: tier.label)
def test_a_tier_reaches_from_one_border_to_the_next(tier: Tier) -> None:
    """AR4SI \N{SECTION SIGN}2.3.2, on both sides of zero."""
    for value in BORDERS[tier]:
        assert tier_of(value) is tier
        assert TrustVector(hardware=value).tier() is tier


def test_a_vector_is_as_good_as_its_worst_claim() -> None:
    """And none where it claims nothing."""
    assert TrustVector(hardware=2, executables=96, storage_opaque=33).tier() is Tier.CONTRAINDICATED
    assert TrustVector().tier() is Tier.NONE


@pytest.mark.parametrize("value", [-129, 128, 2.0, "2", True, (2,)], ids=repr)
def test_a_claim_of_a_vector_is_an_int8(value: Any) -> None:
    """Nothing else has a tier."""
    with pytest.raises(ValueError, match="is not an int8"):
        TrustVector(hardware=value)


def test_a_vector_says_what_is_claimed() -> None:
    """By the claims' numbers; what is not claimed is not there."""
    vector = TrustVector(instance_identity=2, hardware=-1)
    assert vector.to_cwt() == {0: 2, 4: -1}
    assert vector.encoded == cbor.encode({0: 2, 4: -1})


@pytest.mark.parametrize(
    "claims",
    [
        {-1: 2},
        {8: 2},
        {True: 2},
        {"0": 2},
        {0: True},
        {0: 1.0},
        {False: 1},
        {0.0: 1},
        {0: 2.0},
        {0: "2"},
        {0: 128},
    ],
    ids=str,
)
def test_an_unknown_claim_or_value_is_no_vector(claims: Any) -> None:
    """An assertion that nobody here understands does not vanish from a verdict."""
    # What equals a good one, such as True and 1.0, is not found where that was kept either.
    assert TrustVector.from_cwt({0: 1}).instance_identity == 1
    with pytest.raises(ValueError, match=r"trustworthiness"):
        TrustVector.from_cwt(claims)


@pytest.mark.parametrize("claims", [None, 7, [(0, 2)], "hardware"], ids=repr)
def test_what_is_no_map_is_no_vector(claims: object) -> None:
    """In either form."""
    for read in (TrustVector.from_cwt, TrustVector.from_jwt):
        with pytest.raises(ValueError, match="trustworthiness vector is not"):
            read(claims)


def test_both_forms_of_a_vector_come_back() -> None:
    """The first claim and the last among them."""
    vector = TrustVector(instance_identity=2, sourced_data=-1)
    assert TrustVector.from_cwt(vector.to_cwt()) == vector
    assert TrustVector.from_jwt(vector.to_jwt()) == vector
    with pytest.raises(ValueError, match="unknown claim"):
        TrustVector.from_jwt({"weather": 2})


def test_a_value_has_a_meaning_or_is_told_by_its_tier() -> None:
    """The words are AR4SI's where it has some, for whoever reads a verdict."""
    assert meaning("instance-identity", 2) == "recognised, not known to be compromised"
    assert meaning("instance-identity", 33) == "a warning value of the verifier's own"
    assert meaning("weather", 2) == "a affirming value of the verifier's own"
    assert meaning("weather", 0) == meaning("instance-identity", 0)
