"""The two headers that present a token, each of which a request has once.

Specifications: RFC 9449 §4.3 step 1 and §7.1, RFC 6750 §2 (one token a request). Of two headers of
one name, a proxy may have judged the one and a server may read the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bootlease.errors import VerificationError
from bootlease.model import Finding

_NAMES: Final = (b"authorization", b"dpop")


def presented(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str | None, str | None]:
    """Return a request's Authorization and DPoP headers.

    Args:
        headers: Names and values as they arrived.

    Raises:
        VerificationError: One of the two is there more than once.
    """
    found: dict[bytes, str] = {}
    for raw, value in headers:
        name = raw.lower()
        if name not in _NAMES:
            continue
        if name in found:
            raise VerificationError(
                Finding(
                    "request.header.repeated",
                    "The request has one of its headers for authorization twice.",
                    seen=name.decode(),
                )
            )
        found[name] = value.decode("latin-1")
    return found.get(_NAMES[0]), found.get(_NAMES[1])
