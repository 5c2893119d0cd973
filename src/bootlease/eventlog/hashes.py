"""Constructors of the hash functions that PCR banks use, as far as this build has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

from bootlease.model import HASH_CONSTRUCTORS, HashAlg


class Hash(Protocol):
    """A hash that has taken in its data."""

    def digest(self) -> bytes:
        """Return the digest."""


NewHash = Callable[[bytes], Hash]


@cache
def hash_constructor(alg: HashAlg) -> NewHash | None:
    """Return the constructor of a hash, ``None`` where OpenSSL was built without it (SM3)."""
    constructor = HASH_CONSTRUCTORS[alg]
    try:
        constructor(b"")
    except ValueError:
        return None
    return constructor
