"""Writing measured-boot logs, for simulated boots, tests and measurements made by software.

Specification: TCG PFP 1.06 §10.2.1 (TCG_PCClientPCREvent), §10.2.2 (TCG_PCR_EVENT2),
§10.4.5.1 (TCG_EfiSpecIdEvent), §10.4.5.3 (TCG_EfiStartupLocalityEvent).

The writer refuses what cannot be encoded, but lets a test write a log that is well formed and
untrue: what a digest says about its data is the caller's business.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootlease.eventlog.eventtypes import EventType
from bootlease.eventlog.specid import (
    SPEC_ID_EVENT02,
    SPEC_ID_EVENT03,
    STARTUP_LOCALITY_SIGNATURE,
)
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_AGILE_HEADER: Final = struct.Struct("<III")
_SHA1_HEADER: Final = struct.Struct("<II20sI")
_SPEC_ID: Final = struct.Struct("<16sIBBBB")

_UINTN_64_BIT: Final = 2


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event to be written.

    Attributes:
        pcr: PCR index (in a CCEL: measurement register index).
        type: Event type, an :class:`~bootlease.eventlog.eventtypes.EventType` or any number.
        digests: One digest for each bank of the log.
        data: The event's data field.
    """

    pcr: int
    type: int
    digests: Mapping[HashAlg, bytes]
    data: bytes


def encode_event_log(
    events: Iterable[EventRecord],
    banks: Sequence[HashAlg],
    *,
    vendor_info: bytes = b"",
) -> bytes:
    """Return a crypto-agile log: the Spec ID event, then ``events`` in order.

    Raises:
        ValueError: An event lacks a bank, has one too many, or a digest has a wrong length.
    """
    parts = [encode_spec_id_event(banks, vendor_info=vendor_info)]
    for event in events:
        if set(event.digests) != set(banks):
            raise ValueError("an event needs exactly one digest for each bank of its log")
        parts.append(encode_event(event.pcr, event.type, event.digests, event.data))
    return b"".join(parts)


def encode_sha1_event_log(events: Iterable[EventRecord]) -> bytes:
    """Return a SHA-1-only log in the TCG 1.2 format, Spec ID Event02 first."""
    parts = [encode_sha1_event(0, EventType.EV_NO_ACTION, bytes(20), _spec_id_02())]
    parts.extend(
        encode_sha1_event(event.pcr, event.type, event.digests[HashAlg.SHA1], event.data)
        for event in events
    )
    return b"".join(parts)


def encode_spec_id_event(
    banks: Sequence[HashAlg], *, vendor_info: bytes = b"", pcr: int = 0
) -> bytes:
    """Return the first event of a crypto-agile log, which names its banks and their sizes."""
    body = [
        _SPEC_ID.pack(SPEC_ID_EVENT03, 0, 0, 2, 0, _UINTN_64_BIT),
        _U32.pack(len(banks)),
        *(struct.pack("<HH", bank, bank.size) for bank in banks),
        bytes([len(vendor_info)]),
        vendor_info,
    ]
    return encode_sha1_event(pcr, EventType.EV_NO_ACTION, bytes(20), b"".join(body))


def encode_event(pcr: int, event_type: int, digests: Mapping[HashAlg, bytes], data: bytes) -> bytes:
    """Return one TCG_PCR_EVENT2, its digests in the mapping's order.

    Raises:
        ValueError: A digest does not have its algorithm's length.
    """
    parts = [_AGILE_HEADER.pack(pcr, event_type, len(digests))]
    for bank, digest in digests.items():
        if len(digest) != bank.size:
            raise ValueError(f"a {bank.label} digest has {bank.size} bytes, not {len(digest)}")
        parts += (_U16.pack(bank), digest)
    parts += (_U32.pack(len(data)), data)
    return b"".join(parts)


def encode_startup_locality(locality: int, banks: Sequence[HashAlg]) -> bytes:
    """Return the EV_NO_ACTION event that names the locality of TPM2_Startup.

    It belongs before the first event that extends PCR 0.
    """
    digests = {bank: bytes(bank.size) for bank in banks}
    return encode_event(0, EventType.EV_NO_ACTION, digests, startup_locality_data(locality))


def startup_locality_data(locality: int) -> bytes:
    """Return the body of a TCG_EfiStartupLocalityEvent."""
    return STARTUP_LOCALITY_SIGNATURE + bytes([locality])


def encode_sha1_event(pcr: int, event_type: int, digest: bytes, data: bytes) -> bytes:
    """Return one TCG_PCClientPCREvent, the record of TCG 1.2 logs and of every Spec ID event.

    Raises:
        ValueError: The digest is not one of SHA-1.
    """
    if len(digest) != HashAlg.SHA1.size:
        raise ValueError(f"a sha1 digest has {HashAlg.SHA1.size} bytes, not {len(digest)}")
    return _SHA1_HEADER.pack(pcr, event_type, digest, len(data)) + data


def _spec_id_02() -> bytes:
    return _SPEC_ID.pack(SPEC_ID_EVENT02, 0, 2, 1, 0, _UINTN_64_BIT) + b"\0"
