"""UEFI variables that were measured, with what they hold, read once for each content.

Specifications: TCG PFP 1.06 §10.2.6 (UEFI_VARIABLE_DATA); UEFI 2.11 §3.3 (global variables),
§32.4.1 (signature data); shim ``tpm.c`` (tpm_measure_variable).

In PCR 7 a digest is over name and value, and only such an event counts here: where it is over the
value alone, anybody could give it another name. Fleets measure the same few databases again and
again, so what was read of a body is kept by its digest. The digest alone is no key: an event with
that digest and other data must not be given what belongs to the first, so bodies are compared too.
Only what verified is kept: otherwise anybody could fill the place of one digest with other bodies
and have every later look-up compare them all.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bootlease.bootstate.keyfacts import AuthorityKind, MeasuredCertificate, SignatureDatabase
from bootlease.bootstate.sigdb import measured_certificate, parse_signature_database
from bootlease.errors import MalformedError
from bootlease.eventlog import Coverage, Event, EventType, verified_data
from bootlease.eventlog.bodies import parse_variable_data
from bootlease.frozen import quick_init
from bootlease.model import HashAlg

GLOBAL_VARIABLE: Final = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHIM_LOCK: Final = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")

FLAGS: Final = frozenset({"SecureBoot", "SetupMode", "AuditMode", "DeployedMode"})
KEYS: Final = frozenset({"PK", "KEK"})
DATABASES: Final = frozenset({"db", "dbx", "dbt", "dbr"})
_ROLES: Final = {
    **{(GLOBAL_VARIABLE, name): name for name in FLAGS | KEYS},
    **{(IMAGE_SECURITY_DATABASE, name): name for name in DATABASES},
}
_NAMESPACES: Final = frozenset({GLOBAL_VARIABLE.bytes_le, IMAGE_SECURITY_DATABASE.bytes_le})

SBAT_NAMES: Final = frozenset({"SbatLevel", "SBAT"})
SHIM_STATE_NAMES: Final = frozenset({"MokListTrusted", "MokSBState", "MokDBState", "MokPolicy"})

_SIGNATURES: Final = frozenset({AuthorityKind.CERTIFICATE, AuthorityKind.HASH})
_WITH_NAME: Final = frozenset({Coverage.WHOLE, Coverage.ALL_BUT_LAST_BYTE})
_VARIABLE_TYPES: Final = frozenset(
    {
        int(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG),
        int(EventType.EV_EFI_VARIABLE_AUTHORITY),
    }
)
_ANY_OTHER_TYPE: Final = int(EventType.EV_PREBOOT_CERT)
"""Stands for all other types, under which a variable is measured whole or not at all."""

_OWNER_SIZE: Final = 16
_SHA256_SIZE: Final = 32
_DER_HEADER: Final = b"\x30\x82"
_DER_HEADER_SIZE: Final = 4
_CACHED_BODIES: Final = 512
_MAX_CACHED_BODY: Final = 64 * 1024
"""A full cache then takes some tens of MB, whoever filled it."""


@quick_init
@dataclass(frozen=True, slots=True)
class AuthorityContent:
    """What an EV_EFI_VARIABLE_AUTHORITY event holds.

    Attributes:
        kind: What ``data`` is.
        owner: Signature owner, where there is one.
        data: Certificate, digest or value.
        certificate: The certificate, where ``data`` is one.
        padded: The event has bytes behind the variable.
    """

    kind: AuthorityKind
    owner: uuid.UUID | None
    data: bytes
    certificate: MeasuredCertificate | None
    padded: bool

    @property
    def ownerless(self) -> bool:
        """Whether a signature stands without the owner that a database has before it."""
        return self.owner is None and self.kind in _SIGNATURES


@quick_init
@dataclass(frozen=True, slots=True)
class MeasuredVariable:
    """A variable whose name and value an event's digest covers.

    Attributes:
        namespace: GUID of the name.
        name: The name; lone surrogates are replaced.
        role: The name where it is one of Secure Boot's, in the right namespace.
        value: The value; empty where ``database`` holds what it means.
        coverage: Which part of the event the digest is over.
        database: The value of PK, KEK, db, dbx, dbt or dbr.
        authority: What the value of an authority event is.
        trouble: Why the value is not what the name demands.
    """

    namespace: uuid.UUID
    name: str
    role: str | None
    value: bytes
    coverage: Coverage
    database: SignatureDatabase | None
    authority: AuthorityContent | None
    trouble: str | None


class _Body(tuple[int, HashAlg, bytes, bytes]):
    """Type, bank, digest and data of an event, found by its digest and compared as a whole.

    Hashing the data for the look-up would cost as much as verifying it.
    """

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(self[2])


def read_variable(event: Event, bank: HashAlg, column: int) -> MeasuredVariable | None:
    """Return the variable that an event proves, ``None`` where its digest does not.

    Args:
        event: An event that should hold UEFI_VARIABLE_DATA.
        bank: The quoted bank.
        column: Where that bank's digest stands in the event.
    """
    data = event[5]
    kind = event[2] if event[2] in _VARIABLE_TYPES else _ANY_OTHER_TYPE
    key = _Body((kind, bank, event[4][column], data))
    try:
        return _read_cached(key) if len(data) <= _MAX_CACHED_BODY else _read(key)
    except _UnprovenError:
        return None


def could_hold_secure_boot(event: Event) -> bool:
    """Tell whether an event's data begins as a variable of Secure Boot does, whatever its type."""
    return event[5][:16] in _NAMESPACES


class _UnprovenError(Exception):
    """A digest does not cover a variable; an exception, because the memo keeps results only."""


def _read(key: _Body) -> MeasuredVariable:
    event_type, bank, digest, data = key
    event = Event(0, 0, event_type, (bank,), (digest,), data)
    verified = verified_data(event, bank)
    if verified is None or verified.coverage not in _WITH_NAME:
        raise _UnprovenError
    try:
        # Of the covered bytes only: what lies behind them is nobody's word.
        variable = parse_variable_data(verified.data)
    except MalformedError as exc:
        raise _UnprovenError from exc
    role = _ROLES.get((variable.vendor_guid, variable.name))
    database, authority, trouble = None, None, None
    value = variable.data
    if event_type == EventType.EV_EFI_VARIABLE_AUTHORITY:
        padded = variable.size != len(verified.data)
        authority = _authority(variable.vendor_guid, variable.name, value, padded=padded)
    elif role is not None and role not in FLAGS:
        try:
            database = parse_signature_database(value)
        except MalformedError as exc:
            trouble = str(exc)
        value = b""
    return MeasuredVariable(
        variable.vendor_guid,
        variable.name,
        role,
        value,
        verified.coverage,
        database,
        authority,
        trouble,
    )


_read_cached: Final = lru_cache(maxsize=_CACHED_BODIES)(_read)


def _authority(namespace: uuid.UUID, name: str, value: bytes, *, padded: bool) -> AuthorityContent:
    if namespace == SHIM_LOCK and name in SBAT_NAMES:
        return AuthorityContent(AuthorityKind.SBAT_LEVEL, None, value, None, padded)
    if namespace == SHIM_LOCK and name in SHIM_STATE_NAMES:
        return AuthorityContent(AuthorityKind.SHIM_VARIABLE, None, value, None, padded)
    owner = uuid.UUID(bytes_le=value[:_OWNER_SIZE]) if len(value) > _OWNER_SIZE else None
    for signer, data in ((None, value), (owner, value[_OWNER_SIZE:])):
        if _is_der_sequence(data):
            certificate = measured_certificate(data)
            if certificate.subject is not None:
                kind = AuthorityKind.CERTIFICATE
                return AuthorityContent(kind, signer, data, certificate, padded)
        elif len(data) == _SHA256_SIZE:
            return AuthorityContent(AuthorityKind.HASH, signer, data, None, padded)
    return AuthorityContent(AuthorityKind.OPAQUE, None, value, None, padded)


def _is_der_sequence(data: bytes) -> bool:
    """Tell whether data is one DER SEQUENCE of 256 bytes or more and nothing else."""
    size = int.from_bytes(data[2:_DER_HEADER_SIZE], "big")
    return data.startswith(_DER_HEADER) and len(data) == _DER_HEADER_SIZE + size
