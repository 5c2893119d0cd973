"""The canonical form of a reference set, read back: what its digest is taken over.

Layout: ``ReferenceSet.encode``. Deterministic CBOR (RFC 8949 §4.2.1), PCR values sorted, so that
one set has one encoding and every byte of it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.fields import Fields
from bootlease.model import HashAlg
from bootlease.reference.bootfile import parse_boot_rules
from bootlease.reference.bootrules import RULE_NAMES, BootRules
from bootlease.reference.values import (
    MAX_DESCRIPTION,
    MAX_EVENTS,
    MAX_VALUES,
    REFERENCE_TYPE,
    EventsReference,
    KnownEvent,
    PCRReference,
    ReferenceSet,
    ValueReference,
)

MAX_REFERENCE: Final = 16 * 1024 * 1024
_MAX_TEXT: Final = 64
_MAX_PCRS: Final = 24
_EVENT: Final = [int, bytes, str, bool]


def parse_canonical_reference(data: bytes) -> ReferenceSet:
    """Parse ``ReferenceSet.encode``'s form into an unverified set: who vouches for its digest?

    Raises:
        MalformedError: The bytes are not the canonical form of a reference set.
    """
    fields = Fields(cbor.decode(data, max_bytes=MAX_REFERENCE), "reference")
    if fields.text("type", at_most=_MAX_TEXT) != REFERENCE_TYPE:
        raise MalformedError("the reference set is not of a type that this version knows")
    try:
        reference = ReferenceSet(
            name=fields.text("name", at_most=_MAX_TEXT),
            version=fields.text("version", at_most=_MAX_TEXT),
            bank=HashAlg(fields.unsigned("bank")),
            pcrs={
                _pcr(pcr): _constraint(value)
                for pcr, value in fields.map("pcrs", at_most=_MAX_PCRS).items()
            },
            not_before=fields.unsigned("nbf") if fields.has("nbf") else None,
            not_after=fields.unsigned("exp") if fields.has("exp") else None,
            boot=_boot(fields) if fields.has("boot") else None,
        )
    except ValueError as exc:
        raise MalformedError(f"reference: {exc}") from exc
    fields.end()
    if reference.encode() != data:
        raise MalformedError("the reference set is not in its canonical form")
    return reference


def _boot(fields: Fields) -> BootRules:
    return parse_boot_rules(dict(fields.map("boot", at_most=len(RULE_NAMES))), _digest)


def _digest(value: object) -> bytes:
    if type(value) is not bytes:
        raise MalformedError("reference: a digest of the boot rules is not bytes")
    return value


def _pcr(value: object) -> int:
    if type(value) is not int:
        raise MalformedError("reference: a PCR index is not a number")
    return value


def _constraint(value: object) -> PCRReference:
    match value:
        case ["value", list() as values, list() as events] if len(values) <= MAX_VALUES:
            if any(type(each) is not bytes for each in values):
                raise MalformedError("reference: a PCR value is not bytes")
            return ValueReference(tuple(values), _events(events))
        case ["events", list() as events]:
            return EventsReference(_events(events))
    raise MalformedError("reference: a PCR is constrained by values or by events")


def _events(values: Sequence[Any]) -> tuple[KnownEvent, ...]:
    if len(values) > MAX_EVENTS:
        raise MalformedError(f"reference: more than {MAX_EVENTS} known events")
    return tuple(map(_event, values))


def _event(value: object) -> KnownEvent:
    if type(value) is not list or [*map(type, value)] != _EVENT:
        raise MalformedError("reference: a known event is [type, digest, description, required]")
    event_type, digest, description, required = value
    if len(description) > MAX_DESCRIPTION:
        raise MalformedError("reference: a description is too long")
    return KnownEvent(event_type, digest, description, required)
