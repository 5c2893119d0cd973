"""Records of Windows' boot log: SIPA events, in containers within an EV_EVENT_TAG.

Sources: Windows SDK wbcl.h (types, as in win32metadata); google/go-attestation
attest/win_events.go.

    SIPA event   UINT32 type, UINT32 size, BYTE data[size]; containers hold such events

Depth and number are bounded, whatever the bytes (attack C15: 16 MiB of 8-byte headers).
Not handled: events that are flagged as not measured, which are skipped.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH: Final = 8
"""Containers within containers; Windows nests twice."""

MAX_EVENTS: Final = 20_000
"""Events of a log that are read; a boot with every driver reported has about 3,000."""

LOADED_MODULE: Final = 0x4001_0003
"""The container of what is said of one program or driver."""

_HEADER: Final = struct.Struct("<II")
_TYPE_MASK: Final = 0x000F_0000
_CONTAINER: Final = 0x0001_0000
_NONMEASURED: Final = 0x8000_0000
_TRUST_BOUNDARY: Final = 0x4001_0001
_MAX_TEXT_CONTAINER: Final = 0xFFFF


class SIPA(enum.IntEnum):
    """A SIPA event that is given a meaning here."""

    BOOT_COUNTER = 0x0002_0002
    TRANSFER_CONTROL = 0x0002_0003
    BITLOCKER_UNLOCK = 0x0002_0005
    BOOT_DEBUGGING = 0x0004_0001
    BOOT_REVOCATION_LIST = 0x0004_0002
    KERNEL_DEBUG = 0x0005_0001
    CODE_INTEGRITY = 0x0005_0002
    TEST_SIGNING = 0x0005_0003
    DATA_EXECUTION_PREVENTION = 0x0005_0004
    SAFE_MODE = 0x0005_0005
    WINPE = 0x0005_0006
    HYPERVISOR_LAUNCH_TYPE = 0x0005_000A
    HYPERVISOR_DEBUG = 0x0005_000D
    VSM_LAUNCH_TYPE = 0x0005_0012
    OS_REVOCATION_LIST = 0x0005_0013
    FLIGHT_SIGNING = 0x0005_0021
    HIBERNATION_DISABLED = 0x0005_0024
    FILE_PATH = 0x0007_0001
    HASH_ALGORITHM = 0x0007_0003
    AUTHENTICODE_HASH = 0x0007_0004
    AUTHORITY_ISSUER = 0x0007_0005
    AUTHORITY_PUBLISHER = 0x0007_0008
    AUTHORITY_SHA1 = 0x0007_0009
    IMAGE_VALIDATED = 0x0007_000A
    VBS_VSM_REQUIRED = 0x000A_0001
    VBS_SECURE_BOOT_REQUIRED = 0x000A_0002
    VBS_IOMMU_REQUIRED = 0x000A_0003
    VBS_MANDATORY_ENFORCEMENT = 0x000A_0006
    VBS_HVCI_POLICY = 0x000A_0007


def is_sipa_container(data: bytes) -> bool:
    """Tell whether data is one SIPA container, which no string of a boot loader can be.

    The upper half of a size below 64 KiB is a NUL in UTF-16, which would end a string.
    """
    return (
        is_container_start(data)
        and _HEADER.unpack_from(data)[1] == (len(data) - _HEADER.size) <= _MAX_TEXT_CONTAINER
    )


def is_container_start(data: bytes) -> bool:
    """Tell whether data begins like a container of Windows' loaders."""
    return len(data) >= _HEADER.size and _HEADER.unpack_from(data)[0] == _TRUST_BOUNDARY


class SIPAReader:
    """Reads the containers of one log, within one budget of events."""

    __slots__ = ("_left",)

    def __init__(self, budget: int = MAX_EVENTS) -> None:
        self._left = budget

    def events(self, data: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Yield type and value of each measured event, outermost containers opened.

        A module's container is yielded whole. What cannot be read to its end is yielded as
        ``(0, None)``, and nothing after it.

        Args:
            data: The body of an event, verified.
        """
        open_ends = [(0, len(data))]
        while open_ends:
            position, end = open_ends.pop()
            while position < end:
                header_end = position + _HEADER.size
                kind, size = _HEADER.unpack_from(data, position) if header_end <= end else (0, end)
                start, position = header_end, header_end + size
                self._left -= 1
                if position > end or self._left < 0:
                    yield 0, None
                    return
                if kind & _NONMEASURED:
                    continue
                if kind & _TYPE_MASK == _CONTAINER and kind != LOADED_MODULE:
                    if len(open_ends) >= MAX_DEPTH:
                        yield 0, None
                        return
                    open_ends.append((position, end))
                    position, end = start, position
                else:
                    yield kind, data[start:position]


def fields_of(data: bytes) -> dict[int, bytes]:
    """Return the events of a module by type; of one that is given twice the first counts."""
    fields: dict[int, bytes] = {}
    position = 0
    while position + _HEADER.size <= len(data):
        kind, size = _HEADER.unpack_from(data, position)
        start, position = position + _HEADER.size, position + _HEADER.size + size
        if position > len(data):
            break
        fields.setdefault(kind, data[start:position])
    return fields
