"""JSON as RFC 8725 §2.4 and RFC 7493 (I-JSON) want it in tokens.

Refused: member names that repeat (two parsers, two meanings), NaN and infinities, fractions and
exponents (no structure here has a non-integer number), integers beyond 64 bits, bytes after the
value, and nesting that exhausts the stack.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from bootlease.errors import MalformedError

_MAX_INT_DIGITS: Final = 20
_WHITE_SPACE: Final = " \t\n\r"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name is repeated")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:24]} is not an integer")


def _integer(text: str) -> int:
    if len(text) > _MAX_INT_DIGITS:
        raise ValueError("an integer is beyond 64 bits")
    return int(text)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_no_number,
    parse_constant=_no_number,
    parse_int=_integer,
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object that fills ``data``; the caller has bounded its length.

    Raises:
        MalformedError: Anything else, whatever the bytes.
    """
    try:
        text = data.decode().strip(_WHITE_SPACE)
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as exc:
        raise MalformedError(f"JSON: {exc}") from exc
    if type(value) is not dict or end != len(text):
        raise MalformedError("JSON value is not an object, or has bytes after it")
    return value


def serialise(value: object) -> bytes:
    """Return the compact UTF-8 form of ``value``."""
    return _ENCODER.encode(value).encode()
