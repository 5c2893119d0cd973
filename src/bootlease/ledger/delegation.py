"""The record of one delegation: that the holder of a lease passed some of it on to another key.

A record is written before its token is given, and its digest is the token's ``decision``. With the
claims that are kept beside it, everything in it can be made again: see ``audit.storeddelegations``.

Layout, deterministic CBOR (RFC 8949 §4.2.1)::

    ["bootlease/delegation/1", issuer, node, time, decision, parent lease id, parent claims,
     lease id, [scope name...], audience, cnf thumbprint, expires at, [grant...],
     policy digest, policy epoch]

``decision`` is the digest of the decision that granted the lease which the chain began with,
``parent claims`` the claims digest of the lease that was passed on, and ``grant`` the SHA-256 of
the text of each grant of the chain, the first first.

Only what was given is recorded, so there is no verdict: a refusal is any stranger's to cause.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger.merkle import HASH_SIZE

DELEGATION_TYPE: Final = "bootlease/delegation/1"
MAX_DELEGATION: Final = 16 * 1024
_MEMBERS: Final = 15
_LEASE_ID_SIZE: Final = 16
_MAX_TEXT: Final = 8 * 1024
_MAX_NAMES: Final = 256
_MAX_NUMBER: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRecord:
    """One delegated lease, as it was given.

    Attributes:
        issuer: URL of the verifier.
        node: Id of the node under whose lease it lives.
        time: Seconds since the epoch.
        decision: Digest of the decision that granted the lease which the chain began with.
        parent: Lease id of what was passed on, 16 bytes.
        parent_claims: Claims digest of that lease.
        lease_id: Of the child, 16 bytes.
        scope: Scope names.
        audience: Relying party.
        thumbprint: RFC 7638 thumbprint of the key granted to.
        expires_at: First second at which it is over.
        grants: Digest of each grant of the chain, the first first.
        policy_digest: Digest of the policy that allowed its depth.
        policy_epoch: Its epoch.
        encoded: The deterministic CBOR.
        digest: SHA-256 of ``encoded``.
    """

    issuer: str
    node: bytes
    time: int
    decision: bytes
    parent: bytes
    parent_claims: bytes
    lease_id: bytes
    scope: tuple[str, ...]
    audience: str
    thumbprint: bytes
    expires_at: int
    grants: tuple[bytes, ...]
    policy_digest: bytes
    policy_epoch: int
    encoded: bytes = field(init=False, repr=False, compare=False)
    digest: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        digests = (self.node, self.decision, self.parent_claims, self.thumbprint)
        if {*map(len, (*digests, *self.grants, self.policy_digest))} != {HASH_SIZE}:
            raise ValueError(f"a digest or identifier has another size than {HASH_SIZE} bytes")
        if len(self.parent) != _LEASE_ID_SIZE or len(self.lease_id) != _LEASE_ID_SIZE:
            raise ValueError(f"a lease id has another size than {_LEASE_ID_SIZE} bytes")
        if not self.scope or not self.grants:
            raise ValueError("a delegated lease has a scope, and a grant that it was given for")
        encoded = cbor.encode(
            [
                *(DELEGATION_TYPE, self.issuer, self.node, self.time, self.decision),
                *(self.parent, self.parent_claims, self.lease_id, list(self.scope)),
                *(self.audience, self.thumbprint, self.expires_at, list(self.grants)),
                *(self.policy_digest, self.policy_epoch),
            ]
        )
        if len(encoded) > MAX_DELEGATION:
            raise ValueError(f"a delegation record has at most {MAX_DELEGATION} bytes")
        object.__setattr__(self, "encoded", encoded)
        object.__setattr__(self, "digest", hashlib.sha256(encoded).digest())

    @classmethod
    def parse(cls, data: bytes) -> DelegationRecord:
        """Parse an encoded record.

        Raises:
            MalformedError: The bytes are no delegation record of this version.
        """
        members = _array(cbor.decode(data, max_bytes=MAX_DELEGATION))
        if len(members) != _MEMBERS or members[0] != DELEGATION_TYPE:
            raise MalformedError("not a delegation record of a type that this version knows")
        try:
            return cls(
                issuer=_text(members[1]),
                node=_bytes(members[2]),
                time=_integer(members[3]),
                decision=_bytes(members[4]),
                parent=_bytes(members[5]),
                parent_claims=_bytes(members[6]),
                lease_id=_bytes(members[7]),
                scope=tuple(map(_text, _array(members[8]))),
                audience=_text(members[9]),
                thumbprint=_bytes(members[10]),
                expires_at=_integer(members[11]),
                grants=tuple(map(_bytes, _array(members[12]))),
                policy_digest=_bytes(members[13]),
                policy_epoch=_integer(members[14]),
            )
        except ValueError as exc:
            raise MalformedError(f"delegation record: {exc}") from exc


def _array(value: object) -> Sequence[Any]:
    if type(value) is not list or len(value) > _MAX_NAMES:
        raise MalformedError("delegation record: an array is missing or too long")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise MalformedError("delegation record: bytes are missing")
    return value


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise MalformedError("delegation record: a number is missing")
    return value


def _text(value: object) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT:
        raise MalformedError("delegation record: text is missing")
    return value
