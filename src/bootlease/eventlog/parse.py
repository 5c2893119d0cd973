"""Bytes of a measured-boot log to records.

Specifications: TCG PFP 1.06 §10.2.1 (TCG_PCClientPCREvent, also the whole TCG 1.2 format),
§10.2.2 (TCG_PCR_EVENT2); the CCEL of confidential virtual machines uses the same records.

    TCG_PCClientPCREvent  UINT32 pcrIndex, UINT32 eventType, BYTE digest[20],
                          UINT32 eventDataSize, BYTE event[eventDataSize]
    TCG_PCR_EVENT2        UINT32 pcrIndex, UINT32 eventType, UINT32 digestCount,
                          { UINT16 algorithm, BYTE digest[size] }[digestCount],
                          UINT32 eventSize, BYTE event[eventSize]

Not handled: the canonical event log (CEL) encodings, and event bodies, which stay opaque here.
A log that was cut exactly between two records is a shorter, well-formed log: only the
comparison with quoted PCRs tells.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Final

from bootlease.errors import MalformedError
from bootlease.eventlog.eventtypes import EventType
from bootlease.eventlog.log import (
    DEFAULT_LIMITS,
    Event,
    EventLog,
    EventLogLimits,
    LogFormat,
    bank_label,
)
from bootlease.eventlog.specid import (
    SPEC_ID_EVENT03,
    check_legacy_spec_id,
    parse_spec_id,
    parse_startup_locality,
)
from bootlease.model import PCR_COUNT, HashAlg

if TYPE_CHECKING:
    from collections.abc import Mapping

_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_SHA1_EVENT: Final = struct.Struct("<II20sI")
_AGILE_HEADER: Final = struct.Struct("<III")

_EV_NO_ACTION: Final = int(EventType.EV_NO_ACTION)
_SHA1: Final = int(HashAlg.SHA1)
_SHA1_BANKS: Final = (_SHA1,)

_CCEL_HEADER_REGISTER: Final = 1
"""CCEL writers put the Spec ID event into register 1 (RTMR 0); a PC client's is in PCR 0."""

_NO_PCR: Final = 0xFFFF_FFFF
"""Windows names no PCR in the EV_NO_ACTION record that carries its AIK's quote (TrustPoint)."""

_PCR_INDEX_SIZE: Final = 4


def parse_event_log(
    data: bytes, *, ccel: bool | None = None, limits: EventLogLimits = DEFAULT_LIMITS
) -> EventLog:
    """Parse a crypto-agile, TCG 1.2 or CCEL log; its layout shows in its first record.

    Args:
        data: Unverified bytes of the whole log.
        ccel: Whether the log is a CCEL; ``None`` decides by the Spec ID event's register.
        limits: What the log may cost.

    Returns:
        The unverified log.

    Raises:
        MalformedError: The bytes are no such log, or exceed the limits.
    """
    if not data:
        raise MalformedError("the event log is empty")
    if len(data) > limits.max_bytes:
        raise MalformedError(f"an event log of more than {limits.max_bytes} bytes")
    if len(data) < _SHA1_EVENT.size:
        raise MalformedError("the first event is truncated", offset=len(data))
    index, event_type, _, size = _SHA1_EVENT.unpack_from(data)
    end = _end_of_data(data, _SHA1_EVENT.size, size)
    body = data[_SHA1_EVENT.size : end]
    if event_type != _EV_NO_ACTION or not body.startswith(SPEC_ID_EVENT03):
        if ccel:
            raise MalformedError("a CCEL starts with a Spec ID Event03; this log does not")
        return _parse_sha1_log(data, limits)
    if index not in (0, _CCEL_HEADER_REGISTER):
        raise MalformedError(f"the Spec ID event names PCR {index}", offset=0)
    is_ccel = index == _CCEL_HEADER_REGISTER if ccel is None else ccel
    sizes = parse_spec_id(body, limits)
    header = Event(0, index, event_type, (), (), body)
    extent = (end, _fill_start(data, ff_fills=is_ccel))
    layout = _RecordLayout(sizes)
    events, stop = _agile_records(data, header, extent, layout, limits.max_events)
    return EventLog(
        format=LogFormat.CCEL if is_ccel else LogFormat.CRYPTO_AGILE,
        digest_sizes=sizes,
        banks=layout.banks,
        events=events,
        registers=layout.registers.extended(),
        startup_locality=0 if is_ccel else layout.registers.startup_locality(),
        padding=_padding(data, stop),
    )


def _parse_sha1_log(data: bytes, limits: EventLogLimits) -> EventLog:
    fill_start = _fill_start(data, ff_fills=False)
    if fill_start == 0:
        raise MalformedError("the event log is empty, all of it is padding")
    events: list[Event] = []
    registers = _Registers()
    position = 0
    while position < fill_start:
        if len(events) >= limits.max_events:
            raise MalformedError(f"an event log of more than {limits.max_events} events")
        start = position + _SHA1_EVENT.size
        if start > len(data):
            raise MalformedError(f"event {len(events)} is truncated", offset=position)
        pcr, event_type, digest, size = _SHA1_EVENT.unpack_from(data, position)
        if pcr >= PCR_COUNT:
            _check_pcr(pcr, event_type, position)
        position = _end_of_data(data, start, size)
        body = data[start:position]
        event = Event(len(events), pcr, event_type, _SHA1_BANKS, (digest,), body)
        events.append(event)
        registers.add(event)
    if events[0].type == _EV_NO_ACTION:
        check_legacy_spec_id(events[0].unverified_data)
    return EventLog(
        format=LogFormat.SHA1,
        digest_sizes={_SHA1: HashAlg.SHA1.size},
        banks=_SHA1_BANKS,
        events=tuple(events),
        registers=registers.extended(),
        startup_locality=registers.startup_locality(),
        padding=_padding(data, position),
    )


class _Registers:
    """Collects the records that extend something, by PCR, and those that extend nothing."""

    __slots__ = ("by_pcr", "silent")

    def __init__(self) -> None:
        self.by_pcr: list[list[Event]] = [[] for _ in range(PCR_COUNT)]
        self.silent: list[Event] = []

    def add(self, event: Event) -> None:
        if event[2] != _EV_NO_ACTION:
            self.by_pcr[event[1]].append(event)
        else:
            self.silent.append(event)

    def startup_locality(self) -> int:
        first = self.by_pcr[0]
        return parse_startup_locality(self.silent, first[0] if first else None)

    def extended(self) -> dict[int, tuple[Event, ...]]:
        return {pcr: tuple(events) for pcr, events in enumerate(self.by_pcr) if events}


class _RecordLayout:
    """How the records of one log lie in its bytes.

    Nearly every record carries the log's banks in the header's order: one unpacking then reads
    all of it up to its data. Others are read digest by digest.

    Attributes:
        registers: The records so far that extend something.
        banks: The banks that extending records carry, in the header's order. Firmware that
            lists banks it never extends is known; the first extending record decides.
        settled: An extending record has been seen.
        struct: A whole record up to its data.
    """

    __slots__ = ("banks", "registers", "settled", "sizes", "struct")

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self.sizes = sizes
        self.settled = False
        self.registers = _Registers()
        self._use(tuple(sizes))

    def _use(self, banks: tuple[int, ...]) -> None:
        self.banks = banks
        self.struct = _record_struct(tuple([self.sizes[bank] for bank in banks]))

    def order(
        self, event_type: int, digests: Mapping[int, bytes], position: int
    ) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
        """Return the bank ids of a record and its digests in that order.

        Raises:
            MalformedError: The record extends other banks than those before it: a digest
                missing from one bank would let it pass on another bank's word.
        """
        if event_type == _EV_NO_ACTION:
            return tuple(digests), tuple(digests.values())
        if not self.settled:
            self._use(tuple(bank for bank in self.sizes if bank in digests))
            self.settled = True
        if odd := digests.keys() ^ set(self.banks):
            names = ", ".join(bank_label(bank) for bank in sorted(odd))
            raise MalformedError(
                f"an event does not have the same digests as those before it ({names})",
                offset=position,
            )
        return self.banks, tuple(map(digests.__getitem__, self.banks))


@functools.lru_cache(maxsize=64)
def _record_struct(sizes: tuple[int, ...]) -> struct.Struct:
    digests = "".join(f"H{size}s" for size in sizes)
    return struct.Struct(f"<III{digests}I")


def _agile_records(
    data: bytes,
    header: Event,
    extent: tuple[int, int],
    layout: _RecordLayout,
    max_events: int,
) -> tuple[tuple[Event, ...], int]:
    """Return the records from ``extent[0]`` to ``extent[1]`` after ``header``, and their end."""
    events = [header]
    position = _plain_records(data, events, extent, layout, max_events)
    fill_start, total = extent[1], len(data)
    new, append, add = tuple.__new__, events.append, layout.registers.add
    banks, record = layout.banks, layout.struct
    while position < fill_start:
        if len(events) >= max_events:
            raise MalformedError(f"an event log of more than {max_events} events")
        start = position + record.size
        fields = record.unpack_from(data, position) if start <= total else ()
        if fields and fields[2] == len(banks) and fields[3:-1:2] == banks:
            pcr, event_type, size = fields[0], fields[1], fields[-1]
            ids, values = banks, fields[4:-1:2]
            if event_type != _EV_NO_ACTION:
                layout.settled = True
        else:
            pcr, event_type, digests, size, start = _agile_record(data, position, layout.sizes)
            ids, values = layout.order(event_type, digests, position)
            banks, record = layout.banks, layout.struct
        if pcr >= PCR_COUNT:
            _check_pcr(pcr, event_type, position)
        position = start + size
        if position > total:
            raise MalformedError("an event ends beyond the log", offset=start)
        event = new(Event, (len(events), pcr, event_type, ids, values, data[start:position]))
        append(event)
        add(event)
    return tuple(events), position


def _plain_records(
    data: bytes,
    events: list[Event],
    extent: tuple[int, int],
    layout: _RecordLayout,
    max_events: int,
) -> int:
    """Append the records of a log with one bank up to the first that is unusual in any way.

    It does for them what the loop for all records does, at half the cost; that one judges the
    record at the position which is returned.
    """
    position, fill_start = extent
    banks, record = layout.banks, layout.struct
    if len(banks) != 1:
        return position
    (bank,) = banks
    new, append, unpack, size_before = tuple.__new__, events.append, record.unpack_from, record.size
    by_pcr, silent, total = layout.registers.by_pcr, layout.registers.silent.append, len(data)
    last = min(fill_start - 1, total - size_before)
    for number in range(1, max_events):
        if position > last:
            break
        pcr, event_type, count, algorithm, digest, size = unpack(data, position)
        start = position + size_before
        end = start + size
        if count != 1 or algorithm != bank or pcr >= PCR_COUNT or end > total:
            break
        event = new(Event, (number, pcr, event_type, banks, (digest,), data[start:end]))
        append(event)
        if event_type != _EV_NO_ACTION:
            by_pcr[pcr].append(event)
        else:
            silent(event)
        position = end
    layout.settled = any(by_pcr)
    return position


def _agile_record(
    data: bytes, position: int, sizes: Mapping[int, int]
) -> tuple[int, int, dict[int, bytes], int, int]:
    """Read a TCG_PCR_EVENT2 up to its data, its digests in any order (§10.2.2).

    Returns:
        PCR, type, digests by algorithm, size of the data and where the data starts.
    """
    total = len(data)
    if position + _AGILE_HEADER.size > total:
        raise MalformedError("an event is truncated", offset=position)
    pcr, event_type, count = _AGILE_HEADER.unpack_from(data, position)
    if not 0 < count <= len(sizes):
        raise MalformedError(f"an event with {count} digests", offset=position)
    position += _AGILE_HEADER.size
    digests: dict[int, bytes] = {}
    for _ in range(count):
        if position + _U16.size > total:
            raise MalformedError("an event is truncated in its digests", offset=position)
        (algorithm,) = _U16.unpack_from(data, position)
        size = sizes.get(algorithm)
        if size is None or algorithm in digests:
            trouble = "twice" if size else "that the Spec ID event does not list"
            label = bank_label(algorithm)
            raise MalformedError(f"an event with a {label} digest {trouble}", offset=position)
        start = position + _U16.size
        position = start + size
        digests[algorithm] = data[start:position]
    if position + _U32.size > total:
        raise MalformedError("an event is truncated before its data", offset=position)
    (size,) = _U32.unpack_from(data, position)
    return pcr, event_type, digests, size, position + _U32.size


def _check_pcr(pcr: int, event_type: int, position: int) -> None:
    if pcr != _NO_PCR or event_type != _EV_NO_ACTION:
        raise MalformedError(f"an event for PCR {pcr}; there are {PCR_COUNT}", offset=position)


def _end_of_data(data: bytes, start: int, size: int) -> int:
    end = start + size
    if end > len(data):
        raise MalformedError("an event ends beyond the log", offset=start)
    return end


def _fill_start(data: bytes, *, ff_fills: bool) -> int:
    """Return where the last run of fill bytes begins; records may overlap it, none start in it."""
    if data[-1] == 0:
        return len(data.rstrip(b"\0"))
    if ff_fills and data[-1] == 0xFF:  # noqa: PLR2004 - erased flash and CCEL areas hold FF
        return len(data.rstrip(b"\xff"))
    return len(data)


def _padding(data: bytes, stop: int) -> int:
    """Return the number of fill bytes after the last record.

    Up to four bytes of zeros may just as well be the PCR index of a record that was cut off.
    """
    padding = len(data) - stop
    if 0 < padding <= _PCR_INDEX_SIZE:
        raise MalformedError("the last event is truncated", offset=stop)
    return padding
