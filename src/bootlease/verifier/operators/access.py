"""Secrets that the verifier hands out: admin credentials and join tokens.

Both are 256 random bits as base64url text, shown once and stored as SHA-256: there is nothing to
guess, so no slow hash is needed. The prefix tells a person, and a scanner of leaked secrets, what
a string is.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

from bootlease.ports import StoredCredential

ADMIN_PREFIX: Final = "bladm_"
JOIN_PREFIX: Final = "bljoin_"
_BYTES: Final = 32
_SCHEME: Final = "bearer"
_MAX_HEADER: Final = 256


def new_secret(prefix: str) -> str:
    """Return a fresh secret."""
    return prefix + secrets.token_urlsafe(_BYTES)


def secret_digest(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def bearer_digest(header: str | None) -> bytes | None:
    """Return the digest of the credential in an Authorization header (RFC 6750 §2.1), if any."""
    if header is None or len(header) > _MAX_HEADER:
        return None
    scheme, _, credential = header.partition(" ")
    if scheme.lower() != _SCHEME or not credential:
        return None
    return hashlib.sha256(credential.encode(errors="replace")).digest()


def credential_of(digest: bytes, known: Iterable[StoredCredential]) -> StoredCredential | None:
    """Return the credential of this digest, in a time that does not depend on which it is."""
    found: StoredCredential | None = None
    for each in known:
        if hmac.compare_digest(digest, each.digest):
            found = each
    return found
