"""The two headers that present a token."""

from __future__ import annotations

import pytest

from bootlease.errors import VerificationError
from bootlease.relyingparty import presented


def test_both_headers_are_found_whatever_their_case() -> None:
    """Other headers are passed over."""
    headers = [(b"Host", b"x"), (b"AUTHORIZATION", b"DPoP t"), (b"dPoP", b"p"), (b"host", b"y")]
    assert presented(headers) == ("DPoP t", "p")


def test_a_header_that_is_not_there_is_none() -> None:
    """Which of the two is missing is for the checker to say."""
    assert presented([]) == (None, None)
    assert presented([(b"dpop", b"p")]) == (None, "p")
    assert presented([(b"authorization", b"t")]) == ("t", None)


@pytest.mark.parametrize("name", [b"authorization", b"dpop"])
@pytest.mark.parametrize("again", [b"same", b"other"])
def test_a_header_that_is_there_twice_is_refused(name: bytes, again: bytes) -> None:
    """A proxy may have judged the one and this server would read the other."""
    with pytest.raises(VerificationError) as caught:
        presented([(name, b"same"), (name.upper(), again)])
    assert caught.value.findings[0].id == "request.header.repeated"


def test_bytes_beyond_ascii_come_through_as_text() -> None:
    """The checker refuses them; reading them does not fail."""
    assert presented([(b"authorization", b"DPoP \xff")]) == ("DPoP ÿ", None)
