"""The file form of a reference set: JSON with a strict schema.

    {"schema": 1, "name": "debian-12", "version": "2026-11", "bank": "sha256",
     "not_before": 1790000000, "not_after": 1800000000,            (both optional)
     "pcrs": {"0": {"match": "value", "values": ["<hex>"], "events": [<event>…]},
              "4": {"match": "events", "events": [<event>…]}},
     "boot": {…}}                                              (optional; see ``bootfile``)

    <event>  {"type": "EV_SEPARATOR", "digest": "<hex>", "description": "…", "required": true}

An event type without a name is written as ``"0x0000002a"``. Every other member is an error, and
so is one that is missing, empty or repeated: a typo must never widen what is accepted.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.eventlog import EventType, type_name
from bootlease.model import PCR_COUNT, HashAlg
from bootlease.reference.bootfile import boot_rules_file, parse_boot_rules
from bootlease.reference.values import (
    EventsReference,
    KnownEvent,
    PCRReference,
    ReferenceSet,
    ValueReference,
)
from bootlease.token import strictjson

MAX_FILE: Final = 16 * 1024 * 1024
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){1,64}", re.ASCII)
_NUMBERED_TYPE: Final = re.compile(r"0x[0-9a-f]{8}", re.ASCII)
_PCR: Final = re.compile(r"0|[1-9][0-9]?", re.ASCII)
_REQUIRED: Final = frozenset({"schema", "name", "version", "bank", "pcrs"})
_OPTIONAL: Final = frozenset({"not_before", "not_after", "boot"})
_EVENT: Final = frozenset({"type", "digest", "description", "required"})


def parse_reference(data: bytes) -> ReferenceSet:
    """Parse a reference file.

    Raises:
        MalformedError: The bytes are not a reference file of this schema.
    """
    if len(data) > MAX_FILE:
        raise MalformedError(f"a reference file of more than {MAX_FILE} bytes")
    file = strictjson.parse_object(data)
    _members(file, "the reference", _REQUIRED, _OPTIONAL)
    if type(file["schema"]) is not int or file["schema"] != 1:
        raise MalformedError("reference: schema must be 1")
    pcrs = file["pcrs"]
    if type(pcrs) is not dict or not pcrs:
        raise MalformedError("reference: pcrs must be an object with at least one PCR")
    try:
        return ReferenceSet(
            name=_text(file["name"], "name"),
            version=_text(file["version"], "version"),
            bank=HashAlg.from_label(_text(file["bank"], "bank")),
            pcrs={_pcr(key): _parse_pcr(key, value) for key, value in pcrs.items()},
            not_before=_time(file, "not_before"),
            not_after=_time(file, "not_after"),
            boot=parse_boot_rules(file["boot"], _boot_digest) if "boot" in file else None,
        )
    except ValueError as exc:
        raise MalformedError(f"reference: {exc}") from exc


def _members(
    value: dict[str, Any], what: str, required: frozenset[str], optional: frozenset[str]
) -> None:
    if missing := sorted(required - value.keys()):
        raise MalformedError(f"{what} lacks {missing[0]!r}")
    if unknown := sorted(value.keys() - required - optional):
        raise MalformedError(f"{what} has the unknown member {unknown[0]!r:.80}")


def _text(value: object, what: str) -> str:
    if type(value) is not str:
        raise MalformedError(f"reference: {what} must be text")
    return value


def _time(file: dict[str, Any], name: str) -> int | None:
    if name not in file:
        return None
    value = file[name]
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise MalformedError(f"reference: {name} must be seconds since the epoch")
    return value


def _pcr(key: str) -> int:
    if not _PCR.fullmatch(key) or int(key) >= PCR_COUNT:
        raise MalformedError(f"reference: {key!r:.40} is no PCR index")
    return int(key)


def _parse_pcr(pcr: str, value: object) -> PCRReference:
    what = f"PCR {pcr} of the reference"
    if type(value) is not dict:
        raise MalformedError(f"{what} must be an object")
    match = value.get("match")
    if match == "value":
        _members(value, what, frozenset({"match", "values"}), frozenset({"events"}))
        return ValueReference(
            tuple(_hex(item, what) for item in _array(value["values"], what)),
            tuple(_event(item, what) for item in _array(value.get("events", []), what)),
        )
    if match == "events":
        _members(value, what, frozenset({"match", "events"}), frozenset())
        return EventsReference(tuple(_event(item, what) for item in _array(value["events"], what)))
    raise MalformedError(f'{what}: match must be "value" or "events"')


def _boot_digest(value: object) -> bytes:
    return _hex(value, "boot of the reference")


def _array(value: object, what: str) -> list[Any]:
    if type(value) is not list:
        raise MalformedError(f"{what} needs an array")
    return value


def _hex(value: object, what: str) -> bytes:
    if type(value) is not str or not _HEX.fullmatch(value):
        raise MalformedError(f"{what} needs lower-case hex")
    return bytes.fromhex(value)


def _event(value: object, what: str) -> KnownEvent:
    if type(value) is not dict:
        raise MalformedError(f"an event of {what} must be an object")
    _members(value, f"an event of {what}", _EVENT, frozenset())
    if type(value["required"]) is not bool:
        raise MalformedError(f"an event of {what}: required must be true or false")
    return KnownEvent(
        type=_event_type(_text(value["type"], "an event's type")),
        digest=_hex(value["digest"], what),
        description=_text(value["description"], "an event's description"),
        required=value["required"],
    )


def _event_type(name: str) -> int:
    if name in EventType.__members__:
        return EventType[name].value
    if not _NUMBERED_TYPE.fullmatch(name):
        raise MalformedError(f"reference: {name!r:.60} is no event type")
    return int(name, 16)


def serialise_reference(reference: ReferenceSet) -> bytes:
    """Return the file form: indented JSON, UTF-8, one line feed at the end."""
    file: dict[str, Any] = {
        "schema": 1,
        "name": reference.name,
        "version": reference.version,
        "bank": reference.bank.label,
    }
    limits = {"not_before": reference.not_before, "not_after": reference.not_after}
    file |= {name: value for name, value in limits.items() if value is not None}
    file["pcrs"] = {str(pcr): _pcr_file(each) for pcr, each in reference.pcrs.items()}
    if reference.boot is not None:
        file["boot"] = boot_rules_file(reference.boot)
    return (json.dumps(file, indent=2, ensure_ascii=False) + "\n").encode()


def _pcr_file(reference: PCRReference) -> dict[str, Any]:
    events = [
        {
            "type": type_name(event.type),
            "digest": event.digest.hex(),
            "description": event.description,
            "required": event.required,
        }
        for event in reference.events
    ]
    if isinstance(reference, EventsReference):
        return {"match": "events", "events": events}
    values = [value.hex() for value in reference.values]
    return {"match": "value", "values": values, "events": events}
