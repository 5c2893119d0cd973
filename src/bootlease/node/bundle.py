"""The join bundle: all that a node must know of its verifier, and trusts.

Written by ``bootlease verifier bundle`` and carried to the node by its operator. One JSON object::

    {"v": 1,
     "issuer": "https://verifier.example:8443",      exact ``iss`` of every token; where it listens
     "keys": {"keys": [JWK, ...]},                   the keys that sign its tokens
     "ledger_key": "name+hash+key",                  the key that signs its ledger (C2SP vkey)
     "leash_key": JWK,                               optional: permits the use of expiring keys
     "tls_root": "-----BEGIN CERTIFICATE-----...",   optional: the only root its TLS may end in
     "join_token": "..."}                            optional: lets a node in

Unknown, repeated and missing members are errors. Where the verifier rotates its token key since,
the agent follows (``renewal.trust``); another ledger key takes a new bundle.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509

from bootlease.errors import MalformedError
from bootlease.evidence.enrolment import MAX_JOIN_TOKEN
from bootlease.evidence.expiring import authority_name
from bootlease.ledger import NoteKey
from bootlease.token import KeySet, PublicKey, strictjson

MAX_BUNDLE: Final = 256 * 1024
_MAX_ISSUER: Final = 512
_MAX_PEM: Final = 64 * 1024
_VERSION: Final = 1
_REQUIRED: Final = frozenset({"v", "issuer", "keys", "ledger_key"})
_OPTIONAL: Final = frozenset({"leash_key", "tls_root", "join_token"})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class JoinBundle:
    """What a node trusts about its verifier.

    Attributes:
        issuer: The verifier's URL, without a final slash.
        keys: The keys that sign its tokens.
        ledger_key: The key that signs its ledger.
        tls_root: PEM certificates, the only roots that its TLS certificate may end in; None for
            the machine's own roots.
        join_token: Secret that lets this node in, where the policy asks for one.
        leash_key: The key that permits uses of expiring keys; None where the verifier has none.
    """

    issuer: str
    keys: KeySet
    ledger_key: NoteKey
    tls_root: str | None = None
    join_token: str | None = field(default=None, repr=False)
    leash_key: PublicKey | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 over issuer and keys: names the verifier, whatever else came along."""
        parts = (self.issuer.encode(), str(self.ledger_key).encode(), self.keys.to_cose())
        return hashlib.sha256(b"\0".join(parts)).digest()

    @property
    def plain_and_remote(self) -> bool:
        """The verifier is reached without TLS over a network."""
        parts = urlsplit(self.issuer)
        return parts.scheme == "http" and parts.hostname not in _LOOPBACK


def parse_bundle(data: bytes) -> JoinBundle:
    """Parse a join bundle.

    Args:
        data: Bytes that the operator vouches for.

    Raises:
        MalformedError: The bytes are not a join bundle of this version.
    """
    if len(data) > MAX_BUNDLE:
        raise MalformedError(f"join bundle is longer than {MAX_BUNDLE} bytes")
    members = strictjson.parse_object(data)
    if members.get("v") != _VERSION or type(members.get("v")) is not int:
        raise MalformedError(f'join bundle lacks the member "v" with version {_VERSION}')
    if missing := _REQUIRED - members.keys():
        raise MalformedError(f"join bundle lacks {', '.join(sorted(missing))}")
    if unknown := members.keys() - _REQUIRED - _OPTIONAL:
        raise MalformedError(f"join bundle has unknown members: {', '.join(sorted(unknown))[:80]}")
    return JoinBundle(
        issuer=_issuer(members["issuer"]),
        keys=_keys(members["keys"]),
        ledger_key=_ledger_key(members["ledger_key"]),
        tls_root=_tls_root(members["tls_root"]) if "tls_root" in members else None,
        join_token=_join_token(members["join_token"]) if "join_token" in members else None,
        leash_key=_leash_key(members["leash_key"]) if "leash_key" in members else None,
    )


def _issuer(value: Any) -> str:  # noqa: ANN401 - unverified JSON
    if type(value) is not str or not 0 < len(value) <= _MAX_ISSUER or not value.isascii():
        raise MalformedError("join bundle's issuer is not a URL")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:
        raise MalformedError("join bundle's issuer is not a URL") from exc
    plain = (
        not parts.query and not parts.fragment and parts.username is None and value.isprintable()
    )
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain or port == 0:
        raise MalformedError("join bundle's issuer is not an http or https URL of a verifier")
    # The issuer is compared byte for byte with every token's; one spelling, no final slash.
    if value.endswith("/") or " " in value:
        raise MalformedError("join bundle's issuer must not end in a slash or hold spaces")
    return value


def _keys(value: Any) -> KeySet:  # noqa: ANN401 - unverified JSON
    if type(value) is not dict:
        raise MalformedError("join bundle's keys are not a JWK Set")
    return KeySet.from_jwks(strictjson.serialise(value))


def _ledger_key(value: Any) -> NoteKey:  # noqa: ANN401 - unverified JSON
    if type(value) is not str:
        raise MalformedError("join bundle's ledger_key is not a C2SP verifier key")
    return NoteKey.parse(value)


def _leash_key(value: Any) -> PublicKey:  # noqa: ANN401 - unverified JSON
    key = PublicKey.from_jwk(value)
    try:
        authority_name(key)
    except ValueError as exc:
        raise MalformedError("join bundle's leash_key is not a key on P-256") from exc
    return key


def _tls_root(value: Any) -> str:  # noqa: ANN401 - unverified JSON
    if type(value) is not str or len(value) > _MAX_PEM:
        raise MalformedError(f"join bundle's tls_root is not PEM of at most {_MAX_PEM} bytes")
    try:
        x509.load_pem_x509_certificates(value.encode())
    except ValueError as exc:
        raise MalformedError("join bundle's tls_root holds no PEM certificate") from exc
    return value


def _join_token(value: Any) -> str:  # noqa: ANN401 - unverified JSON
    if type(value) is not str or not 0 < len(value) <= MAX_JOIN_TOKEN or not value.isascii():
        raise MalformedError(f"join bundle's join_token is not 1 to {MAX_JOIN_TOKEN} characters")
    return value
