"""Digests that have one meaning in every log, by bank.

Specifications: TCG PFP 1.06 §10.4.1 (EV_SEPARATOR, EV_EFI_ACTION and its strings).

A digest cannot lie about its preimage, while a record's type can be anything (attack D2). So what
must not be overlooked is recognised by its digest, whatever the record calls itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from bootlease.eventlog import Event, EventType
from bootlease.model import HashAlg

NO_ERROR: Final = bytes(4)
FIRMWARE_ERROR: Final = b"\xff" * 4
DEBUG_MODE: Final = "UEFI Debug Mode"
DMA_PROTECTION_DISABLED: Final = "DMA Protection Disabled"
CALLING_APPLICATION: Final = "Calling EFI Application from Boot Option"
RETURNING_FROM_APPLICATION: Final = "Returning from EFI Application from Boot Option"
EXIT_INVOCATION: Final = "Exit Boot Services Invocation"
EXIT_SUCCESS: Final = "Exit Boot Services Returned with Success"
EXIT_FAILURE: Final = "Exit Boot Services Returned with Failure"

_ACTIONS: Final = (
    DEBUG_MODE,
    DMA_PROTECTION_DISABLED,
    CALLING_APPLICATION,
    RETURNING_FROM_APPLICATION,
    EXIT_INVOCATION,
    EXIT_SUCCESS,
    EXIT_FAILURE,
)


@dataclass(frozen=True, slots=True)
class KnownDigests:
    """Digests of one bank.

    Attributes:
        no_error: Of a sound separator.
        separators: Of a separator, sound or reporting an error.
        actions: Text by the digest of an action's text, with and without a NUL.
    """

    no_error: bytes
    separators: frozenset[bytes]
    actions: dict[bytes, str]


@cache
def known_digests(bank: HashAlg) -> KnownDigests:
    """Return the digests of a bank that this build can hash."""
    no_error = bank.digest(NO_ERROR)
    return KnownDigests(
        no_error=no_error,
        separators=frozenset({no_error, bank.digest(FIRMWARE_ERROR)}),
        actions={
            bank.digest(text.encode() + end): text for text in _ACTIONS for end in (b"", b"\0")
        },
    )


_SEPARATOR: Final = int(EventType.EV_SEPARATOR)
_S_CRTM_CONTENTS: Final = int(EventType.EV_S_CRTM_CONTENTS)


def is_separator(event: Event, column: int, known: KnownDigests) -> bool:
    """Tell whether an event is a separator, by its type or by its digest.

    One digest of zeros is none: Intel's FIT lets firmware measure an empty record of its root of
    trust into PCR 0, and machines do. Called so, a separator there would end nothing; but PCR 0
    then has one separator too many or too few, which another check refuses.

    Args:
        event: An extending event.
        column: Where the digest stands in it.
        known: The digests of that bank.
    """
    _, pcr, event_type, _, digests, _ = event
    if event_type == _SEPARATOR:
        return True
    return digests[column] in known.separators and (pcr != 0 or event_type != _S_CRTM_CONTENTS)
