"""What can be seen of evidence without parsing it: how much of it is log, which challenge it names.

Layout: docs/protocol.md, "Evidence" and "Binding". A document of tiny items costs a thousand times
more to parse than to search, and anybody can send one. Deterministic CBOR leaves one encoding, so
the bytes around a nonce are known. Nothing seen here is relied on: it decides what is worth
parsing, and the parser and the AK's signature decide the rest.
"""

from __future__ import annotations

from typing import Final

from bootlease import cbor
from bootlease.evidence.binding import BINDING_TYPE, MAX_BINDING
from bootlease.evidence.request import MAX_TPM_STRUCTURE

_LOG_PREFIX: Final = b"\xa7\x61v\x01\x64logs\xa1\x63tcg"
"""How every evidence document with a log begins."""
_BEFORE_NONCE: Final = (
    cbor.encode("type") + cbor.encode(BINDING_TYPE) + cbor.encode("nonce") + b"\x58\x20"
)
_NONCE_BYTES: Final = 32
_TAIL: Final = MAX_BINDING + MAX_TPM_STRUCTURE + 64
"""The binding and all that may follow it."""


def core_size(body: bytes) -> int:
    """Return how much of ``body`` is not the log.

    The parser's work and memory grow with the number of items, and ten megabytes can be ten
    million of them; inside a byte string there are none.
    """
    start = len(_LOG_PREFIX)
    if not body.startswith(_LOG_PREFIX) or len(body) <= start:
        return len(body)
    size = {0x58: 1, 0x59: 2, 0x5A: 4, 0x5B: 8}.get(body[start], 0)
    log = int.from_bytes(body[start + 1 : start + 1 + size], "big")
    return len(body) - min(log, len(body))


def nonce_in(body: bytes) -> bytes | None:
    """Return the nonce that evidence seems to name; None where it cannot be evidence."""
    at = body.rfind(_BEFORE_NONCE, max(0, len(body) - _TAIL))
    if at < 0:
        return None
    start = at + len(_BEFORE_NONCE)
    nonce = body[start : start + _NONCE_BYTES]
    return nonce if len(nonce) == _NONCE_BYTES else None
