"""Which part of an event's data its digest proves.

Specifications: TCG PFP 1.06 §10.4.1 (what the digest of each event type is over); EDK II
(MeasureVariable: EV_EFI_VARIABLE_BOOT is over the value alone); GRUB 2 (a string without its
prefix, with or without its NUL); shim 15 (one byte more logged than measured).

A digest never covers its event's *type*, PCR or number of appearance: an event of another type
may carry the same digest. What the covered bytes mean is for the caller to decide, with the
type and coverage at hand. Data whose digest is over something outside the log, such as a boot
application's image, is covered by nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootlease.errors import MalformedError
from bootlease.eventlog.bodies import parse_variable_data, split_grub_string
from bootlease.eventlog.eventtypes import EventType
from bootlease.eventlog.hashes import hash_constructor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootlease.eventlog.log import Event
    from bootlease.model import HashAlg


class Coverage(enum.Enum):
    """Which bytes of an event's data the digest is over."""

    WHOLE = "whole"
    ALL_BUT_LAST_BYTE = "all-but-last-byte"
    VARIABLE_VALUE = "variable-value"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class VerifiedData:
    """Bytes of an event that hash to its digest.

    They are as good as the digest: attested once the log's replay equals quoted PCRs.

    Attributes:
        data: The covered bytes and nothing else: the value of a variable without its name,
            the string of a boot loader without its prefix and NUL.
        coverage: Which part of the event they are.
    """

    data: bytes
    coverage: Coverage


DATA_IS_MEASURED: Final = frozenset(
    {
        EventType.EV_SEPARATOR,
        EventType.EV_ACTION,
        EventType.EV_EFI_ACTION,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EV_EFI_VARIABLE_BOOT,
        EventType.EV_EFI_VARIABLE_BOOT2,
        EventType.EV_EFI_VARIABLE_AUTHORITY,
        EventType.EV_EFI_GPT_EVENT,
        EventType.EV_EFI_GPT_EVENT2,
    }
)
"""Types whose digest must be over their data (§10.4.1): anything else means it was altered."""


def verified_data(event: Event, bank: HashAlg) -> VerifiedData | None:
    """Return the part of an event's data that its digest proves.

    Args:
        event: An event whose data is unverified.
        bank: The bank whose digest counts; only a quoted bank proves anything.

    Returns:
        The covered bytes, or ``None`` if the digest is over none of them, the event is never
        extended, or the bank is missing from it or from this build.
    """
    digest = event.digest(bank)
    new_hash = hash_constructor(bank)
    if digest is None or new_hash is None or event.type == EventType.EV_NO_ACTION:
        return None
    body = event.unverified_data
    if new_hash(body).digest() == digest:
        return VerifiedData(body, Coverage.WHOLE)
    for preimage, covered, coverage in _other_preimages(event.type, body):
        if new_hash(preimage).digest() == digest:
            return VerifiedData(covered, coverage)
    return None


def contradicts_digest(event: Event, bank: HashAlg) -> bool:
    """Tell whether an event's data is not what was measured although it should be.

    True only for types whose digest is over their data, and for strings of GRUB. It is a hint
    for people who read a log; an appraisal asks :func:`verified_data` for what it needs.
    """
    if event.type not in DATA_IS_MEASURED and not (
        event.type == EventType.EV_IPL and split_grub_string(event.unverified_data)
    ):
        return False
    if event.digest(bank) is None or hash_constructor(bank) is None:
        return False
    return verified_data(event, bank) is None


def _other_preimages(event_type: int, body: bytes) -> Iterator[tuple[bytes, bytes, Coverage]]:
    """Yield what else a digest may be over: the preimage, what it covers, and its kind."""
    if event_type in (EventType.EV_EFI_VARIABLE_BOOT, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG):
        try:
            value = parse_variable_data(body).data
        except MalformedError:
            return
        yield value, value, Coverage.VARIABLE_VALUE
    elif event_type == EventType.EV_EFI_VARIABLE_AUTHORITY:
        yield body[:-1], body[:-1], Coverage.ALL_BUT_LAST_BYTE
    elif event_type == EventType.EV_IPL:
        if (grub := split_grub_string(body)) is None:
            # systemd-boot before 251 measured one NUL that it did not log.
            yield body + b"\0", body, Coverage.TEXT
            return
        logged = grub[1]
        text = logged.rstrip(b"\0")
        yield text, text, Coverage.TEXT
        yield logged, text, Coverage.TEXT
