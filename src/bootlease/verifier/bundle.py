"""The join bundle: what an operator hands to nodes, and nodes trust.

Layout: docs/protocol.md, "Join bundle".
"""

from __future__ import annotations

from typing import Any, Final

from bootlease.token import KeySet

VERSION: Final = 1


def bundle_members(
    issuer: str, keys: KeySet, *, tls_root: str | None = None, join_token: str | None = None
) -> dict[str, Any]:
    """Return the members of a join bundle.

    Args:
        issuer: The verifier's URL.
        keys: The keys that sign its tokens.
        tls_root: PEM certificates that its TLS certificate ends in, where the machine's own
            roots do not do.
        join_token: Lets a node in, where the policy asks for one.
    """
    members: dict[str, Any] = {"v": VERSION, "issuer": issuer, "keys": keys.to_jwks()}
    if tls_root is not None:
        members["tls_root"] = tls_root
    if join_token is not None:
        members["join_token"] = join_token
    return members
