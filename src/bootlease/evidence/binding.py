"""The binding: the one structure whose hash the TPM signs as qualifyingData.

A quote authenticates 32 bytes. The binding spends them on everything a lease depends on: the
challenge's nonce, the lineage's head, what is asked for, the keys it is asked for, and the logs.
It names each part by a digest of its own, so that a refusal can say *which* part was exchanged
while only one hash has to be signed (design decision 0005).

Layout: docs/protocol.md, "Binding".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.fields import DIGEST_SIZE, Fields
from bootlease.frozen import quick_init

BINDING_TYPE: Final = "bootlease/quote/1"
TCG_LOG: Final = "tcg"
"""Kind of the firmware's event log."""
LOG_KINDS: Final = frozenset({TCG_LOG})
"""Logs that a binding names. What is read after the quote, as an IMA list is, cannot be among
them."""

MAX_BINDING: Final = 1024


@quick_init
@dataclass(frozen=True, slots=True)
class Binding:
    """What a quote is bound to.

    Attributes:
        nonce: The challenge's nonce, 32 bytes.
        previous: Head of the lineage to continue, or None to begin a new one.
        scope: ``request.scope_digest`` of the leases asked for.
        confirmation: ``request.confirmation_digest`` of the leases asked for.
        logs: SHA-256 of each presented log, by kind.
    """

    nonce: bytes
    previous: bytes | None
    scope: bytes
    confirmation: bytes
    logs: Mapping[str, bytes]

    def encode(self) -> bytes:
        """Return the deterministic CBOR whose SHA-256 the TPM signs."""
        return cbor.encode(
            {
                "type": BINDING_TYPE,
                "nonce": self.nonce,
                "prev": self.previous,
                "scope": self.scope,
                "cnf": self.confirmation,
                "logs": dict(self.logs),
            }
        )


_CONFIRMATION: Final = b"\xa6\x63cnf\x58\x20"
_LOG: Final = b"\x64logs\xa1\x63tcg\x58\x20"
_NONCE: Final = b"\x64type" + cbor.encode(BINDING_TYPE) + b"\x65nonce\x58\x20"
_SCOPE: Final = b"\x65scope\x58\x20"
PLAIN_BINDINGS: Final = (
    (_CONFIRMATION, _LOG, b"\x64prev\x58\x20", _NONCE, _SCOPE),
    (_CONFIRMATION, _LOG, b"\x64prev\xf6" + _NONCE, _SCOPE),
)
"""What stands before each digest of a binding with one log, for a renewal and for a beginning;
deterministic encoding leaves no choice between the digests."""


def qualifying_data(encoded_binding: bytes) -> bytes:
    """Return the 32 bytes that go into TPM2_Quote as qualifyingData."""
    return hashlib.sha256(encoded_binding).digest()


def log_digest(data: bytes) -> bytes:
    """Hash a log as presented."""
    return hashlib.sha256(data).digest()


def parse_binding(data: bytes) -> Binding:
    """Parse an encoded binding into unverified values.

    Raises:
        MalformedError: The bytes are not a binding of this version.
    """
    fields = Fields(cbor.decode(data, max_bytes=MAX_BINDING), "binding")
    kind = fields.text("type", at_most=64)
    if kind != BINDING_TYPE:
        raise MalformedError(f"binding is of type {kind!r}, this version knows {BINDING_TYPE!r}")
    binding = Binding(
        nonce=fields.digest("nonce"),
        previous=fields.optional_digest("prev"),
        scope=fields.digest("scope"),
        confirmation=fields.digest("cnf"),
        logs=_log_digests(fields.map("logs", at_most=len(LOG_KINDS))),
    )
    fields.end()
    return binding


def _log_digests(logs: Mapping[object, object]) -> Mapping[str, bytes]:
    digests: dict[str, bytes] = {}
    for kind, digest in logs.items():
        if not isinstance(kind, str) or kind not in LOG_KINDS:
            raise MalformedError("binding names a log of unknown kind")
        if type(digest) is not bytes or len(digest) != DIGEST_SIZE:
            raise MalformedError(f"binding needs {DIGEST_SIZE} bytes for the log {kind!r}")
        digests[kind] = digest
    return digests
