"""What can be seen of evidence without parsing it: how much of it is log, which challenge it names.

Layout: docs/protocol.md, "Evidence" and "Binding". A document of tiny items costs a thousand times
more to parse than to search, and anybody can send one. Deterministic CBOR leaves one encoding, so
the bytes around a nonce are known. Nothing seen here is relied on: it decides what is worth
parsing, and the parser and the AK's signature decide the rest.
"""

from __future__ import annotations

import re
from typing import Final

from bootlease import cbor
from bootlease.evidence.binding import BINDING_TYPE, MAX_BINDING
from bootlease.evidence.request import MAX_TPM_STRUCTURE

_BEFORE_LOGS: Final = re.compile(
    rb"(?:\xa7\x61v\x01"
    rb"|\xa8\x61v\x01\x63ima\x82(?:[\x00-\x17]|\x18.|\x19.{2}|\x1a.{4})\x58\x20.{32})"
    rb"\x64logs[\xa1\xa2]",
    re.DOTALL,
)
"""How every evidence document with logs begins, with and without a part of an IMA list."""
_LOG_NAMES: Final = (b"\x63ima", b"\x63tcg")
"""In the order in which they stand."""
_NAME: Final = 4
_BEFORE_NONCE: Final = (
    cbor.encode("type") + cbor.encode(BINDING_TYPE) + cbor.encode("nonce") + b"\x58\x20"
)
_NONCE_BYTES: Final = 32
_TAIL: Final = MAX_BINDING + MAX_TPM_STRUCTURE + 64
"""The binding and all that may follow it."""


def core_size(body: bytes) -> int:
    """Return how much of ``body`` is not the logs.

    The parser's work and memory grow with the number of items, and ten megabytes can be ten
    million of them; inside a byte string there are none.
    """
    found = _BEFORE_LOGS.match(body)
    core, at = len(body), 0 if found is None else found.end()
    for name in _LOG_NAMES if at else ():
        if body.startswith(name, at):
            length, at = _log_at(body, at + _NAME)
            core -= length
    return core


def _log_at(body: bytes, start: int) -> tuple[int, int]:
    """Return how much of ``body`` is the byte string that begins at ``start``, and its end."""
    size = {0x58: 1, 0x59: 2, 0x5A: 4, 0x5B: 8}.get(body[start], 0) if start < len(body) else 0
    begin = min(start + 1 + size, len(body))
    length = min(int.from_bytes(body[start + 1 : begin], "big"), len(body) - begin)
    return length, begin + length


def nonce_in(body: bytes) -> bytes | None:
    """Return the nonce that evidence seems to name; None where it cannot be evidence."""
    at = body.rfind(_BEFORE_NONCE, max(0, len(body) - _TAIL))
    if at < 0:
        return None
    start = at + len(_BEFORE_NONCE)
    nonce = body[start : start + _NONCE_BYTES]
    return nonce if len(nonce) == _NONCE_BYTES else None
