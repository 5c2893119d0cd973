"""Partition tables of the disks that were booted from.

Specifications: TCG PFP 1.06 §10.2.8 (UEFI_GPT_DATA), §3.3.4.6 (PCR 5); UEFI 2.11 §5.3.2 (GPT
header), §5.3.3 (partition entry).

    UEFI_GPT_DATA  EFI_PARTITION_TABLE_HEADER (92 bytes), UINT64 numberOfPartitions,
                   EFI_PARTITION_ENTRY[numberOfPartitions]

The header's own checksum is not verified: the event's digest covers these bytes, and the checksum
is over entries that firmware leaves out.
"""

from __future__ import annotations

import struct
import uuid
from typing import Final

from bootlease.bootstate.findings import data_mismatch, keep, malformed_body
from bootlease.bootstate.pcrs import BOOT_CONFIGURATION_PCR
from bootlease.bootstate.values import Partition, Partitions, PartitionTable
from bootlease.bootstate.view import AttestedLog
from bootlease.errors import MalformedError
from bootlease.eventlog import EventType
from bootlease.eventlog.bodies import utf16_text
from bootlease.model import Finding

_SIGNATURE: Final = b"EFI PART"
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_COUNT: Final = struct.Struct("<Q")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_GPT_TYPES: Final = frozenset({int(EventType.EV_EFI_GPT_EVENT), int(EventType.EV_EFI_GPT_EVENT2)})


def partitions(view: AttestedLog) -> Partitions:
    """Return the partition tables that PCR 5 proves."""
    tables: list[PartitionTable] = []
    findings: list[Finding] = []
    for event in view.events(BOOT_CONFIGURATION_PCR):
        if event.type not in _GPT_TYPES:
            continue
        verified = view.verified(event)
        if verified is None:
            keep(findings, data_mismatch(event))
            continue
        try:
            disk, entries = parse_gpt_data(verified.data)
        except MalformedError as exc:
            keep(findings, malformed_body(event, str(exc)))
        else:
            tables.append(PartitionTable(event.number, disk, entries))
    return Partitions(tuple(tables), tuple(findings))


def parse_gpt_data(body: bytes) -> tuple[uuid.UUID, tuple[Partition, ...]]:
    """Parse UEFI_GPT_DATA.

    Returns:
        The disk's GUID and its partitions.

    Raises:
        MalformedError: Not a GPT, or more partitions than the event has bytes for.
    """
    start = _HEADER.size + _COUNT.size
    if len(body) < start:
        raise MalformedError("a partition table is truncated")
    header = _HEADER.unpack_from(body)
    signature, disk, size = header[0], header[9], header[12]
    if signature != _SIGNATURE:
        raise MalformedError("a partition table without its signature")
    (count,) = _COUNT.unpack_from(body, _HEADER.size)
    # The entry's size is the log's word: one below the structure's would overlap entries.
    if size < _ENTRY.size or count > (len(body) - start) // size:
        raise MalformedError("a partition table ends beyond its event")
    entries = (_ENTRY.unpack_from(body, start + index * size) for index in range(count))
    return uuid.UUID(bytes_le=disk), tuple(
        Partition(
            type=uuid.UUID(bytes_le=kind),
            guid=uuid.UUID(bytes_le=guid),
            first=first,
            last=last,
            attributes=attributes,
            name=utf16_text(name).split("\0", 1)[0],
        )
        for kind, guid, first, last, attributes, name in entries
    )
