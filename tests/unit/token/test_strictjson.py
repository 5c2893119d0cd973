"""JSON without ambiguities."""

from __future__ import annotations

import pytest

from bootlease.errors import MalformedError
from bootlease.token import strictjson


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":123456789012345678901}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"[1]",
        b"1",
        b"",
        b'{"a":1}x',
        b'{"a":1}{"a":1}',
        b"{'a':1}",
        b'{"a":1,}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"\xff":1}',
        b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_ambiguous_json_is_malformed(data: bytes) -> None:
    """Repeated names, non-integers, huge numbers, other values and deep nesting are refused."""
    with pytest.raises(MalformedError):
        strictjson.parse_object(data)


def test_object_is_parsed() -> None:
    """A plain object comes back as it is."""
    assert strictjson.parse_object(b'{"a":[1,null,true,"\\u00e4"]}') == {"a": [1, None, True, "ä"]}


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003"], ids=repr)
def test_only_the_white_space_of_json_stands_around_it(space: str) -> None:
    """Other readers know no other (RFC 8259)."""
    assert strictjson.parse_object(b' \t\n\r{"a":1} \t\n\r') == {"a": 1}
    for text in (f'{space}{{"a":1}}', f'{{"a":1}}{space}'):
        with pytest.raises(MalformedError):
            strictjson.parse_object(text.encode())


def test_an_integer_has_at_most_twenty_digits() -> None:
    """As many as 64 bits have; a sign counts as one."""
    assert strictjson.parse_object(b'{"a":' + b"9" * 20 + b"}") == {"a": int("9" * 20)}
    with pytest.raises(MalformedError):
        strictjson.parse_object(b'{"a":' + b"9" * 21 + b"}")
