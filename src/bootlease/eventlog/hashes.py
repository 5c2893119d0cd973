"""Constructors of the hash functions that PCR banks use.

Specification: TCG Algorithm Registry 1.34. They are bound once, because an extend is one hash
of 64 bytes or so and looking a hash up by name costs as much as computing it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Final, Protocol

from bootlease.model import HashAlg


class Hash(Protocol):
    """A hash that has taken in its data."""

    def digest(self) -> bytes:
        """Return the digest."""


NewHash = Callable[[bytes], Hash]

_CONSTRUCTORS: Final[Mapping[HashAlg, NewHash]] = {
    HashAlg.SHA1: partial(hashlib.sha1, usedforsecurity=False),
    HashAlg.SHA256: hashlib.sha256,
    HashAlg.SHA384: hashlib.sha384,
    HashAlg.SHA512: hashlib.sha512,
    HashAlg.SM3_256: partial(hashlib.new, "sm3"),
    HashAlg.SHA3_256: hashlib.sha3_256,
    HashAlg.SHA3_384: hashlib.sha3_384,
    HashAlg.SHA3_512: hashlib.sha3_512,
}


@cache
def hash_constructor(alg: HashAlg) -> NewHash | None:
    """Return the constructor of a hash, ``None`` where OpenSSL was built without it (SM3)."""
    constructor = _CONSTRUCTORS[alg]
    try:
        constructor(b"")
    except ValueError:
        return None
    return constructor
