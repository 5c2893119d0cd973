"""The join bundle: what an operator hands to nodes, and nodes trust.

Layout: docs/protocol.md, "Join bundle". A bundle is copied to every node, so nothing gets in
that was not meant to: TLS roots are parsed and written anew, never passed on as they came.
"""

from __future__ import annotations

import re
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bootlease.errors import MalformedError
from bootlease.ledger import NoteKey
from bootlease.token import KeySet, PublicKey

VERSION: Final = 1

_MAX_ROOTS: Final = 64 * 1024
"""Agents take no more (docs/protocol.md)."""
_BEGIN: Final = re.compile(rb"-----BEGIN([^\r\n]*)")
_CERTIFICATE: Final = b" CERTIFICATE-----"


def bundle_members(
    issuer: str,
    keys: KeySet,
    ledger_key: NoteKey,
    *,
    leash_key: PublicKey | None = None,
    tls_root: str | None = None,
    join_token: str | None = None,
) -> dict[str, Any]:
    """Return the members of a join bundle.

    Args:
        issuer: The verifier's URL.
        keys: The keys that sign its tokens.
        ledger_key: The key that signs its ledger.
        leash_key: The key that signs permits to use expiring keys, where there is one.
        tls_root: PEM certificates that its TLS certificate ends in, where the machine's own
            roots do not do.
        join_token: Lets a node in, where the policy asks for one.
    """
    members: dict[str, Any] = {
        "v": VERSION,
        "issuer": issuer,
        "keys": keys.to_jwks(),
        "ledger_key": str(ledger_key),
    }
    if leash_key is not None:
        members["leash_key"] = leash_key.jwk()
    if tls_root is not None:
        members["tls_root"] = tls_root
    if join_token is not None:
        members["join_token"] = join_token
    return members


def tls_roots(data: bytes) -> str:
    """Return the certificates in ``data``, and nothing else that is in it, as PEM.

    Args:
        data: A PEM file, of one certificate or more; text between them is left out.

    Raises:
        MalformedError: It holds no certificate, something else such as a private key, or more
            than an agent takes.
    """
    for begin in _BEGIN.finditer(data):
        if begin[1].rstrip() != _CERTIFICATE:
            label = begin[1].decode("ascii", "replace").strip(" -")[:40]
            raise MalformedError(
                f"holds a PEM block {label!r}: only certificates go into a join bundle"
            )
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as exc:
        raise MalformedError("holds no PEM certificate that can be read") from exc
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
    if len(pem) > _MAX_ROOTS:
        raise MalformedError(
            f"holds more than {_MAX_ROOTS} bytes of certificates: give the one that the verifier's"
            " TLS certificate ends in"
        )
    return pem.decode("ascii")
