"""base64url in its one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.token import base64url


@given(st.binary(max_size=100))
def test_data_survives(data: bytes) -> None:
    """Encoding and decoding give the data back."""
    assert base64url.decode(base64url.encode(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AAAAA",
        "AA==",
        "AA=",
        "AAA=",
        "+AAA",
        "/AAA",
        "AA AA",
        "AAAA\n",
        "AB",
        "AAB",
        "ÄAAA",
        "A.AA",
    ],
)
def test_other_form_is_malformed(text: str) -> None:
    """Padding, the other alphabet, white space, stray bits and odd lengths are refused."""
    with pytest.raises(MalformedError):
        base64url.decode(text)
