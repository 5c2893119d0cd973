"""What an operator is told of a policy whose keys are wrong."""

from __future__ import annotations

import pytest

from bootlease.errors import MalformedError
from bootlease.policy import parse_policy
from bootlease.testing.scene import POLICY


def complaint(text: str | bytes) -> str:
    """Return why a policy is malformed."""
    with pytest.raises(MalformedError) as caught:
        parse_policy(text)
    return str(caught.value)


def test_a_misspelt_key_comes_with_the_one_that_was_meant() -> None:
    """The unknown key is named before the one that is missing for it."""
    said = complaint(POLICY.replace("banks", "bank"))
    assert said == (
        "policy: quote.bank is not a known key (did you mean 'banks'?); quote.banks is missing"
    )


def test_a_key_that_resembles_none_has_no_suggestion() -> None:
    """A guess that helps nobody is not made."""
    assert complaint(f"xyzzy = 1\n{POLICY}") == "policy: xyzzy is not a known key"


def test_all_wrong_keys_are_told_at_once() -> None:
    """An operator mends a file in one go, whatever table the mistakes are in."""
    said = complaint(POLICY.replace("life", "live").replace("admit", "admits"))
    for part in ("lease.live", "lease.life is missing", "enrolment.admits", "(did you mean"):
        assert part in said


def test_a_flood_of_wrong_keys_is_cut_short() -> None:
    """A file of nonsense does not fill a terminal."""
    said = complaint("".join(f"key{number} = 1\n" for number in range(1000)))
    assert "and 1002 more" in said
    assert len(said) < 1000


def test_another_schema_is_all_that_is_said_of_it() -> None:
    """Its keys are not held against it."""
    assert complaint("schema = 2\nother = 1\n") == "policy: schema must be 1"


@pytest.mark.parametrize("text", [f"\ufeff{POLICY}", f"\ufeff{POLICY}".encode()])
def test_a_byte_order_mark_is_named(text: str | bytes) -> None:
    """Some editors write one and show nothing of it."""
    assert "byte order mark" in complaint(text)
