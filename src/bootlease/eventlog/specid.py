"""The EV_NO_ACTION events that say how a log is to be read.

Specification: TCG PFP 1.06 §10.4.5.1 (TCG_EfiSpecIdEvent), §10.4.5.3 (StartupLocality); TCG
EFI Protocol specification 1.22 (Spec ID Event02), PC Client BIOS 1.21 (Spec ID Event00).

    TCG_EfiSpecIdEvent    BYTE signature[16], UINT32 platformClass, BYTE minor, major, errata,
                          uintnSize, UINT32 numberOfAlgorithms,
                          { UINT16 algorithm, UINT16 size }[numberOfAlgorithms],
                          BYTE vendorInfoSize, BYTE vendorInfo[vendorInfoSize]

Event00 and Event02 have no list of algorithms. Platform class and specification version are
not interpreted: nothing in the layout of a log depends on them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from bootlease.errors import MalformedError
from bootlease.eventlog.log import KNOWN_ALGORITHMS, bank_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bootlease.eventlog.log import Event, EventLogLimits

SPEC_ID_EVENT03: Final = b"Spec ID Event03\0"
SPEC_ID_EVENT02: Final = b"Spec ID Event02\0"
SPEC_ID_EVENT00: Final = b"Spec ID Event00\0"
STARTUP_LOCALITY_SIGNATURE: Final = b"StartupLocality\0"

_FIXED_SIZE: Final = 24
_U32: Final = struct.Struct("<I")
_ALGORITHM: Final = struct.Struct("<HH")
_STARTUP_LOCALITY_SIZE: Final = len(STARTUP_LOCALITY_SIGNATURE) + 1
_LEGAL_LOCALITIES: Final = frozenset({0, 3, 4})
"""TPM2_Startup from locality 0 or 3, or an H-CRTM sequence, which counts as 4 (§10.4.5.3)."""


def parse_spec_id(body: bytes, limits: EventLogLimits) -> dict[int, int]:
    """Parse a Spec ID Event03.

    Args:
        body: Unverified event data, its signature already recognised.
        limits: What the log may cost.

    Returns:
        Digest length by TPM_ALG_ID, in the event's order.

    Raises:
        MalformedError: Truncated, an impossible list of algorithms, or vendor information
            that does not fill the event.
    """
    if len(body) < _FIXED_SIZE + _U32.size:
        raise MalformedError("the Spec ID event is truncated")
    (count,) = _U32.unpack_from(body, _FIXED_SIZE)
    if not 0 < count <= limits.max_algorithms:
        raise MalformedError(f"the Spec ID event lists {count} digest algorithms")
    start = _FIXED_SIZE + _U32.size
    end = start + count * _ALGORITHM.size
    _check_vendor_info(body, end)
    sizes: dict[int, int] = {}
    for algorithm, size in _ALGORITHM.iter_unpack(body[start:end]):
        if algorithm in sizes:
            raise MalformedError(f"the Spec ID event lists {bank_label(algorithm)} twice")
        known = KNOWN_ALGORITHMS.get(algorithm)
        # §10.4.5.1: a lie about a known digest's length would shift every later field.
        if size == 0 or (known is not None and size != known.size):
            raise MalformedError(
                f"the Spec ID event gives {bank_label(algorithm)} digests {size} bytes"
            )
        sizes[algorithm] = size
    return sizes


def check_legacy_spec_id(body: bytes) -> None:
    """Check the form of a Spec ID Event00 or Event02, which announces a SHA-1-only log.

    Raises:
        MalformedError: Vendor information does not fill the event, as when a crypto-agile
            header was renamed to have its digests read at other offsets.
    """
    if body.startswith((SPEC_ID_EVENT00, SPEC_ID_EVENT02)):
        _check_vendor_info(body, _FIXED_SIZE)


def _check_vendor_info(body: bytes, offset: int) -> None:
    if offset >= len(body) or offset + 1 + body[offset] != len(body):
        raise MalformedError("the vendor information of the Spec ID event does not fill it")


def parse_startup_locality(silent: Iterable[Event], first: Event | None) -> int:
    """Return the locality that TPM2_Startup came from, 0 when the log does not state it.

    A statement after PCR 0 has been extended is too late to be the firmware's and counts for
    nothing (§10.4.5.3): anybody may append an EV_NO_ACTION record, which no PCR attests.

    Args:
        silent: The unverified EV_NO_ACTION records in log order.
        first: The first record that extends PCR 0, if there is one.

    Raises:
        MalformedError: A statement has the wrong length, an impossible locality, or
            contradicts another.
    """
    stated: int | None = None
    for event in silent:
        data = event.unverified_data
        if event.pcr != 0 or not data.startswith(STARTUP_LOCALITY_SIGNATURE[:-1]):
            continue
        locality = _locality(data)
        if first is not None and first.number < event.number:
            continue
        if stated not in (None, locality):
            raise MalformedError("two startup localities in one event log")
        stated = locality
    return stated or 0


def _locality(data: bytes) -> int:
    if len(data) != _STARTUP_LOCALITY_SIZE or not data.startswith(STARTUP_LOCALITY_SIGNATURE):
        raise MalformedError(f"a StartupLocality event of {len(data)} bytes")
    locality = data[-1]
    if locality not in _LEGAL_LOCALITIES:
        raise MalformedError(f"startup locality {locality} is none of 0, 3 and 4")
    return locality
