"""Which part of a node's IMA list comes with evidence, and its digest.

Layout: docs/protocol.md, "Evidence". The kernel's list grows while a quote is made and sent, so it
is read after the quote and is no part of the binding: PCR 10, which the quote covers, tells how far
it is to be believed. The document names the part by its digest all the same, so that what was
decided on can be kept, and found again, apart from the document.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.fields import DIGEST_SIZE

IMA_LIST: Final = "ima"
"""Kind of the kernel's measurement list, as the kernel shows it in binary."""

MAX_ENTRIES: Final = (1 << 32) - 1
"""Entries of a list: it is read whole into the kernel's memory, and never comes near."""

EMPTY_LIST: Final = hashlib.sha256(b"").digest()
_MEMBERS: Final = 2
_ARRAY: Final = b"\x82"
_DIGEST: Final = b"\x58\x20"


@dataclass(frozen=True, slots=True)
class IMASegment:
    """Entries of an IMA list, one after the other: unverified.

    Attributes:
        first: Number of the first of them, from 0.
        digest: SHA-256 of their bytes.
    """

    first: int
    digest: bytes

    @classmethod
    def of(cls, first: int, data: bytes) -> IMASegment:
        """Name the entries ``data``, which begin with number ``first``."""
        return cls(first, hashlib.sha256(data).digest())

    @property
    def empty(self) -> bool:
        """No entry comes along: nothing was measured since."""
        return self.digest == EMPTY_LIST

    def wire(self) -> list[Any]:
        """Return the wire form."""
        return [self.first, self.digest]


def parse_segment(value: object) -> IMASegment:
    """Read the decoded wire form.

    Raises:
        MalformedError: It has not the form of one.
    """
    if not isinstance(value, list | tuple) or len(value) != _MEMBERS:
        raise MalformedError("evidence needs a number and a digest in 'ima'")
    first, digest = value
    if type(first) is not int or not 0 <= first <= MAX_ENTRIES:
        raise MalformedError("evidence begins its IMA list with an impossible entry")
    if type(digest) is not bytes or len(digest) != DIGEST_SIZE:
        raise MalformedError(f"evidence needs {DIGEST_SIZE} bytes for the digest of its IMA list")
    return IMASegment(first, digest)


def cut_segment(data: bytes, start: int) -> tuple[IMASegment, int]:
    """Read the encoded segment that stands at ``start``, and where it ends.

    Raises:
        MalformedError: None stands there in its shortest form.
    """
    at = start + len(_ARRAY)
    size = {0x18: 1, 0x19: 2, 0x1A: 4}.get(data[at], 0) if at < len(data) else 0
    first = int.from_bytes(data[at + 1 : at + 1 + size] if size else data[at : at + 1], "big")
    number = _ARRAY + cbor.encode_integer(first) + _DIGEST
    begin = start + len(number)
    end = begin + DIGEST_SIZE
    if not data.startswith(number, start) or end > len(data):
        raise MalformedError("no part of an IMA list is named here", offset=start)
    return IMASegment(first, data[begin:end]), end
