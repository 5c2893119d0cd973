"""A node's usual request, cut apart without the general parser.

Specification: RFC 9112 §2 to §6, of which this takes the one form in which nodes renew: a ``POST``
to one of two paths, each header of a short list at most once, a length, and nothing else. The
general parser takes a third of what all checks of a renewal take.

Two parsers of one message may disagree, and what lies between them is request smuggling. So this
one accepts a request only where the general one reads the same from the same bytes, and knows
nothing of what frames a body otherwise: transfer codings, ``Expect``, upgrades, repeated headers,
folded lines, bare line feeds. Whatever does not fit, to the last byte of its head, goes to the
general parser, which judges it and words every error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bootlease.verifier.routes.contract import EVIDENCE

_HEAD: Final = re.compile(
    rb"POST (/v1/nodes/[0-9a-f]{64}/(leases|challenges)) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z-]{1,20}: [!-~](?:[ -~]{0,200}[!-~])?\r\n){1,7})\r\n"
)
_NAMES: Final = frozenset(
    {
        b"host",
        b"content-type",
        b"content-length",
        b"accept",
        b"accept-encoding",
        b"user-agent",
        b"connection",
    }
)
_LENGTH: Final = re.compile(rb"[0-9]{1,6}")
_KEPT: Final = b"keep-alive"
_EVIDENCE: Final = EVIDENCE.encode()


@dataclass(frozen=True, slots=True)
class UsualRequest:
    """The head of a usual request.

    Attributes:
        path: Its target, which is a path alone.
        headers: Names in lower case with their values, in order.
        head: How long the head is.
        length: How long the body is.
    """

    path: str
    headers: list[tuple[bytes, bytes]]
    head: int
    length: int


def usual_request(data: bytes, at_most: int) -> UsualRequest | None:
    """Cut the head of a usual request from the front of ``data``.

    Args:
        data: What came on a connection that waits for a request.
        at_most: Longest body of a usual request.

    Returns:
        The head; None where the general parser has to look.
    """
    found = _HEAD.match(data)
    if found is None:
        return None
    path, route, block = found.groups()
    headers = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        headers.append((name.lower(), value))
    by_name = dict(headers)
    if len(by_name) != len(headers) or not _NAMES.issuperset(by_name) or b"host" not in by_name:
        return None
    length = by_name.get(b"content-length", b"0")
    if not _LENGTH.fullmatch(length) or by_name.get(b"connection", _KEPT) != _KEPT:
        return None
    # Whatever is refused for its announcement is refused by those who always did.
    if int(length) > (at_most if route == b"leases" else 0):
        return None
    if route == b"leases" and by_name.get(b"content-type") != _EVIDENCE:
        return None
    return UsualRequest(path.decode("ascii"), headers, found.end(), int(length))
