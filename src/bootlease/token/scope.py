"""Scope names: their form, and which name covers which. The one place that knows either.

Specifications: RFC 6749 §3.3 and RFC 8693 §4.2 (names with one space between). Of the characters
allowed there, a name has letters, digits and ``._~/:@+-``.

A name stands for itself. One that ends in ``:*`` or ``/*`` stands for every name that goes on
where its ``*`` is: ``repo:acme/*`` for ``repo:acme/x`` and ``repo:acme/x/y``, not for ``repo:acme``
or ``repo:acme/``. A wildcard is thus a branch, never part of a word, and nothing grants everything.
The same relation decides what a policy grants and what a relying party honours.

Names are compared as text and mean nothing here: ``..`` is no way up. Who makes one of a path that
a caller chose resolves the path before.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final, TypeGuard

MAX_NAMES: Final = 32
"""Names that one lease has."""

MAX_NAME: Final = 128
"""Characters of one name."""

_MAX_TEXT: Final = MAX_NAMES * (MAX_NAME + 1) - 1
_NAME: Final = re.compile(r"[A-Za-z0-9._~/:@+-]+(?:[:/]\*)?")
_WILDCARDS: Final = (":*", "/*")
_FORM: Final = f"1 to {MAX_NAME} letters, digits and ._~/:@+-, and at most a final :* or /*"


def is_scope_name(name: object) -> TypeGuard[str]:
    """Tell whether ``name`` has the form of a scope name."""
    return type(name) is str and len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def check(names: tuple[str, ...]) -> None:
    """Check the names of a lease's scope.

    Raises:
        ValueError: No name, too many, one twice, or one that is not a scope name.
    """
    if type(names) is not tuple or not 0 < len(names) <= MAX_NAMES:
        raise ValueError(f"a scope has 1 to {MAX_NAMES} names")
    if set(map(type, names)) != {str}:
        raise ValueError("a scope name is not text")
    _check_names(names)


@functools.lru_cache(maxsize=1024)
def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not is_scope_name(name):
            raise ValueError(f"{name[:MAX_NAME]!a} is not a scope name: {_FORM}")
    if len(set(names)) != len(names):
        raise ValueError("a scope repeats a name")


@functools.lru_cache(maxsize=1024)
def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(" "))


def parse(text: object) -> tuple[str, ...]:
    """Split a scope claim; ``check`` has the last word on the names.

    Raises:
        ValueError: Not text, or too long.
    """
    if type(text) is not str or len(text) > _MAX_TEXT:
        raise ValueError(f"scope is not text of at most {_MAX_TEXT} characters")
    return _split(text)


def covers(granted: str, requested: str) -> bool:
    """Tell whether all that ``requested`` stands for, ``granted`` stands for; both scope names."""
    if granted == requested:
        return True
    # A requested wildcard is compared by its text: whatever it stands for begins with what is
    # before its star. The length keeps a branch from covering its own stem.
    return (
        granted.endswith(_WILDCARDS)
        and len(requested) >= len(granted)
        and requested.startswith(granted[:-1])
    )


def any_covers(granted: Iterable[str], requested: str) -> bool:
    """Tell whether one of the granted scope names covers ``requested``, whatever text it is.

    What is not a scope name is covered by none: no token can carry it.
    """
    return is_scope_name(requested) and any(covers(name, requested) for name in granted)


def uncovered(granted: Iterable[str], requested: Iterable[str]) -> tuple[str, ...]:
    """Return the requested names that no granted one covers, each judged alone."""
    grants = tuple(granted)
    return tuple([name for name in requested if not any_covers(grants, name)])
