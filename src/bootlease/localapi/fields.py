"""Members of JSON objects, read with their bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bootlease.errors import MalformedError

MAX_TEXT: Final = 2048
MAX_MILLISECONDS: Final = 1 << 43
"""Almost three centuries; below it a float of seconds tells every millisecond apart."""


def only(members: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    """Refuse members that are not known: what is not understood is not half obeyed.

    Raises:
        MalformedError: There is one.
    """
    unknown = sorted(set(members).difference(known))
    if unknown:
        raise MalformedError(f"{what} has an unknown member {unknown[0][:32]!a}")


def _member(members: Mapping[str, Any], name: str) -> object:
    if name not in members:
        raise MalformedError(f"{name} is missing")
    return members[name]


def text(members: Mapping[str, Any], name: str, *, at_most: int = MAX_TEXT) -> str:
    """Return text that prints.

    Raises:
        MalformedError: It is missing, no text, empty, too long or does not print.
    """
    value = _member(members, name)
    if type(value) is not str or not 0 < len(value) <= at_most or not value.isprintable():
        raise MalformedError(f"{name} is not printable text of 1 to {at_most} characters")
    return value


def number(members: Mapping[str, Any], name: str, *, at_most: int) -> int:
    """Return an integer from 0 to ``at_most``.

    Raises:
        MalformedError: It is missing or something else.
    """
    value = _member(members, name)
    if type(value) is not int or not 0 <= value <= at_most:
        raise MalformedError(f"{name} is not an integer from 0 to {at_most}")
    return value


def seconds(members: Mapping[str, Any], name: str) -> float:
    """Return a time that the wire has in whole milliseconds.

    Raises:
        MalformedError: It is missing or something else.
    """
    return number(members, name, at_most=MAX_MILLISECONDS) / 1000


def texts(members: Mapping[str, Any], name: str, *, at_most: int) -> tuple[str, ...]:
    """Return a list of texts; the caller checks each.

    Raises:
        MalformedError: It is missing or something else.
    """
    value = _member(members, name)
    if type(value) is not list or len(value) > at_most or not set(map(type, value)) <= {str}:
        raise MalformedError(f"{name} is not a list of at most {at_most} texts")
    return tuple(value)
