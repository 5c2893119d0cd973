"""Tampering with one event of a boot: really, or only in the log that is shown.

Specification: TCG PFP 1.06 §10.4.1 (what an event's digest is taken over).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from bootlease.eventlog import EventRecord, EventType, encode_event_log
from bootlease.eventlog.bodies import split_grub_string
from bootlease.model import HashAlg
from bootlease.testing.boot import SimulatedBoot

if TYPE_CHECKING:
    from collections.abc import Callable

_VARIABLE_HEADER: Final = 32


class Where(enum.Enum):
    """What tampering reaches."""

    MACHINE = "machine"
    """The machine really boots so: the TPM is extended by it, and the log says so."""

    LOG = "log"
    """Only the log is forged, after the fact: the TPM was extended by the untampered boot."""


def tamper(
    boot: SimulatedBoot,
    number: int,
    where: Where,
    *,
    data: bytes | None = None,
    measured: bytes | None = None,
    digests: Mapping[HashAlg, bytes] | None = None,
    pcr: int | None = None,
    type: int | None = None,  # noqa: A002  named as in the log
) -> SimulatedBoot:
    """Change one event.

    Args:
        boot: Stays as it is.
        number: Event number as in the log, where the Spec ID event is 0.
        where: The machine, or only the log.
        data: New event data. On the machine the digests follow, by the rule that the old ones
            obey; in the log they stay, as a forger must leave them.
        measured: What is measured instead: its digests replace the event's.
        digests: New digests, as they are.
        pcr: New PCR index.
        type: New event type; a retyped event is the classic forged log (attack D2).

    Raises:
        ValueError: There is no such event, or the digests cannot follow ``data``.
    """
    event = _event(boot, number)
    changed = EventRecord(
        event.pcr if pcr is None else pcr,
        event.type if type is None else type,
        _new_digests(event, where, data, measured, digests),
        event.data if data is None else data,
    )
    return _with_events(boot, where, [(number, number, [changed])])


def drop(boot: SimulatedBoot, number: int, where: Where) -> SimulatedBoot:
    """Leave one event out."""
    _event(boot, number)
    return _with_events(boot, where, [(number, number, [])])


def insert(boot: SimulatedBoot, number: int, where: Where, event: EventRecord) -> SimulatedBoot:
    """Put ``event`` before event ``number``; one past the last appends it."""
    if not 1 <= number <= len(boot.events) + 1:
        raise ValueError(f"the boot has events 1 to {len(boot.events)}")
    return _with_events(boot, where, [(number, number - 1, [event])])


def swap(boot: SimulatedBoot, number: int, other: int, where: Where) -> SimulatedBoot:
    """Exchange two events."""
    first, second = _event(boot, number), _event(boot, other)
    return _with_events(boot, where, [(number, number, [second]), (other, other, [first])])


def find_event(boot: SimulatedBoot, *, pcr: int, containing: bytes = b"") -> int:
    """Return the number of the first event of ``pcr`` whose data holds ``containing``.

    Raises:
        ValueError: There is none.
    """
    for number, event in enumerate(boot.events, start=1):
        if event.pcr == pcr and containing in event.data and event.type != EventType.EV_NO_ACTION:
            return number
    raise ValueError(f"no event of PCR {pcr} holds {containing!r}")


def _event(boot: SimulatedBoot, number: int) -> EventRecord:
    if not 1 <= number <= len(boot.events):
        raise ValueError(f"the boot has events 1 to {len(boot.events)}, not {number}")
    return boot.events[number - 1]


def _with_events(
    boot: SimulatedBoot, where: Where, edits: list[tuple[int, int, list[EventRecord]]]
) -> SimulatedBoot:
    events = list(boot.events)
    for first, last, replacement in sorted(edits, key=lambda edit: edit[0], reverse=True):
        events[first - 1 : last] = replacement
    log = encode_event_log(events, boot.banks)
    if where is Where.LOG:
        return dataclasses.replace(boot, event_log=log)
    return dataclasses.replace(boot, events=tuple(events), event_log=log)


def _new_digests(
    event: EventRecord,
    where: Where,
    data: bytes | None,
    measured: bytes | None,
    digests: Mapping[HashAlg, bytes] | None,
) -> Mapping[HashAlg, bytes]:
    if digests is not None:
        return digests
    if measured is None and data is not None and where is Where.MACHINE:
        measured = _measured_part(event)(data)
    if measured is None:
        return event.digests
    return {bank: bank.digest(measured) for bank in event.digests}


def _measured_part(event: EventRecord) -> Callable[[bytes], bytes]:
    bank, digest = next(iter(event.digests.items()))
    for part in (_whole, _variable_content, _grub_text):
        if bank.digest(part(event.data)) == digest:
            return part
    raise ValueError("the event's digest is not taken over its data: say what is measured instead")


def _whole(data: bytes) -> bytes:
    return data


def _variable_content(data: bytes) -> bytes:
    name = int.from_bytes(data[16:24], "little")
    return data[_VARIABLE_HEADER + 2 * name :]


def _grub_text(data: bytes) -> bytes:
    split = split_grub_string(data)
    return data if split is None else split[1].removesuffix(b"\0")
