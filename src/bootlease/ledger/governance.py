"""Governance records: who changed what decisions depend on.

An enrolment, another policy, a reference set, a trusted root, a key rotation, an administrator's
login: each is a leaf in the same tree as the decisions, so that neither can be moved against the
other. Each record names the one before it.

Layout, deterministic CBOR (RFC 8949 §4.2.1)::

    ["bootlease/governance/1", time, author, kind, {name: text / bytes / integer, ...},
     previous / null]

``time`` is seconds since the epoch, ``previous`` the SHA-256 digest of the governance record before
this one. Kinds are dotted names. A reader keeps records of kinds it does not know: what was
recorded by a later version stays readable.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger.merkle import HASH_SIZE

GOVERNANCE_TYPE: Final = "bootlease/governance/1"
MAX_GOVERNANCE: Final = 256 * 1024
"""Bytes: a record may hold a checkpoint with its cosignatures, never evidence or logs."""

LEDGER_OPENED: Final = "ledger.opened"
SHARD_OPENED: Final = "shard.opened"
ENROLLED: Final = "node.enrolled"
"""Its details are the ``node`` and the digest of its ``enrolment`` record."""
LABELLED: Final = "node.labelled"
"""An operator gave a node other labels, and so another ``enrolment`` record in place of one
``before``; else its details are those of an enrolment."""
RECORDS_ENROLMENT: Final = frozenset({ENROLLED, LABELLED})
"""Kinds of records after which decisions may name the ``enrolment`` that they tell of."""
READMITTED: Final = "node.readmitted"
"""An operator let a ``node`` begin anew, and forgot where its TPM's counters stood."""
POLICY_ACTIVATED: Final = "policy.activated"
REFERENCE_REGISTERED: Final = "reference.registered"
ROOT_ADDED: Final = "root.added"
JOIN_TOKEN_CREATED: Final = "join-token.created"  # noqa: S105 - the kind of a record
KEY_ROTATED: Final = "key.rotated"
CREDENTIAL_CREATED: Final = "credential.created"
REVOCATION: Final = "revocation."
REVOCATION_LIFTED: Final = "revocation-lifted."
"""Then what kind of thing was revoked, or is not any more: ``subject`` says which."""
CREDENTIAL_REVOKED: Final = "credential.revoked"
RULE_DEMANDED: Final = "two-person.demanded"
RULE_LIFTED: Final = "two-person.lifted"
REPLACED: Final = "node.replaced"
"""A ``node`` has taken the place of another, ``replaces``."""
CHECKPOINT: Final = "checkpoint"
"""The detail of a ``shard.opened`` that holds the final checkpoint of the shard before, whole."""

GovernanceDetail = str | bytes | int

_MEMBERS: Final = 6
_MAX_NAME: Final = 255
_MAX_DETAILS: Final = 64
_KIND: Final = re.compile(r"[a-z][a-z0-9-]*(?:\.[a-z][a-z0-9-]*)+")


@dataclass(frozen=True, slots=True)
class GovernanceRecord:
    """One change, with its author.

    Attributes:
        time: Seconds since the epoch.
        author: Who did it, such as ``operator:alice#1f0c22ab`` or ``node:<hex id>``.
        kind: What was done, such as ``policy.activated``.
        details: What it was done with, by name.
        previous: Digest of the governance record before this one, ``None`` for the first.
        encoded: The deterministic CBOR.
        digest: SHA-256 of ``encoded``.
    """

    time: int
    author: str
    kind: str
    details: Mapping[str, GovernanceDetail]
    previous: bytes | None
    encoded: bytes = field(init=False, repr=False, compare=False)
    digest: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        object.__setattr__(self, "details", MappingProxyType(dict(self.details)))
        encoded = cbor.encode(
            [GOVERNANCE_TYPE, self.time, self.author, self.kind, self.details, self.previous]
        )
        if len(encoded) > MAX_GOVERNANCE:
            raise ValueError(f"a governance record has at most {MAX_GOVERNANCE} bytes")
        object.__setattr__(self, "encoded", encoded)
        object.__setattr__(self, "digest", hashlib.sha256(encoded).digest())

    def _check(self) -> None:
        if type(self.time) is not int or not 0 <= self.time < 1 << 63:
            raise ValueError("a governance record has a time in whole seconds")
        if not 0 < len(self.author) <= _MAX_NAME or not self.author.isprintable():
            raise ValueError(f"an author is 1 to {_MAX_NAME} printable characters")
        if len(self.kind) > _MAX_NAME or _KIND.fullmatch(self.kind) is None:
            raise ValueError("the kind of a governance record is a dotted name in lower case")
        if len(self.details) > _MAX_DETAILS:
            raise ValueError(f"a governance record has at most {_MAX_DETAILS} details")
        for name, value in self.details.items():
            if type(name) is not str or not 0 < len(name) <= _MAX_NAME:
                raise ValueError("a detail has a name")
            if type(value) not in (str, bytes, int):
                raise ValueError(f"the detail {name!r} is neither text, bytes nor an integer")
        if self.previous is not None and len(self.previous) != HASH_SIZE:
            raise ValueError("a governance record names the one before it by its digest")

    @classmethod
    def parse(cls, data: bytes) -> GovernanceRecord:
        """Parse an encoded record.

        Raises:
            MalformedError: The bytes are no governance record of this version.
        """
        members = cbor.decode(data, max_bytes=MAX_GOVERNANCE)
        if type(members) is not list or len(members) != _MEMBERS or members[0] != GOVERNANCE_TYPE:
            raise MalformedError("not a governance record of a type that this version knows")
        _, time, author, kind, details, previous = members
        if [type(author), type(kind), type(details)] != [str, str, dict]:
            raise MalformedError("governance record: author, kind or details are of another type")
        if previous is not None and type(previous) is not bytes:
            raise MalformedError("governance record: the previous digest is neither bytes nor null")
        return cls._made(time, author, kind, details, previous)

    @classmethod
    def _made(cls, *members: Any) -> GovernanceRecord:  # noqa: ANN401 - types were compared
        try:
            return cls(*members)
        except ValueError as exc:
            raise MalformedError(f"governance record: {exc}") from exc
