"""Bodies of EV_EVENT_TAG: what the Linux EFI stub and systemd record beside a digest.

Specifications: TCG PFP 1.06 §10.4.2.1 (TCG_PCClientTaggedEvent); Linux
drivers/firmware/efi/libstub (efistub.h, efi-stub-helper.c); systemd "TPM2 PCR Measurements Made
by systemd" and src/fundamental/tpm2-pcr.h.

    TCG_PCClientTaggedEvent   UINT32 taggedEventID, UINT32 taggedEventDataSize, BYTE data[size]

The digest is over what the tag *names*, never over the tag: id and text are unverified, and the
measured thing itself is not in the log. Windows' tags are the exception (see ``windows``).
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from bootlease.eventlog.bodies import text_of
from bootlease.eventlog.eventtypes import EventType

_HEADER: Final = struct.Struct("<II")
_EV_EVENT_TAG: Final = int(EventType.EV_EVENT_TAG)


class Tag(enum.IntEnum):
    """A tag that a boot loader or the kernel writes."""

    LINUX_INITRD = 0x8F3B22EC
    LINUX_LOAD_OPTIONS = 0x8F3B22ED
    LOADER_CONF = 0xF5BC582A
    DEVICE_TREE_ADDON = 0x6C46F751
    INITRD_ADDON = 0x49DFFE0F
    MICROCODE_ADDON = 0xDAC08E1A
    UKI_PROFILE = 0x13AED6DB
    SMBIOS_TYPE_1 = 0xD5CB7CBC
    SMBIOS_TYPE_2 = 0xE0D47BC8
    SMBIOS_TYPE_11 = 0xC0B3BD23


_TAGS: Final = {int(tag): tag for tag in Tag}
_UNTAGGED: Final = {
    b"LOADED_IMAGE::LoadOptions\0": Tag.LINUX_LOAD_OPTIONS,
    b"Linux initrd\0": Tag.LINUX_INITRD,
}
"""Bodies of kernels that leave the header out where they measure into a CC register."""


def read_tag(event_type: int, body: bytes) -> tuple[Tag, str] | None:
    """Return the known tag of an event and the text with it, both unverified.

    Returns:
        ``None`` for another event type, an unknown tag or a body that its size does not fill.
    """
    if event_type != _EV_EVENT_TAG:
        return None
    if (tag := _UNTAGGED.get(body)) is not None:
        return tag, text_of(body) or ""
    if len(body) < _HEADER.size:
        return None
    number, size = _HEADER.unpack_from(body)
    if (tag := _TAGS.get(number)) is None or size != len(body) - _HEADER.size:
        return None
    return tag, text_of(body[_HEADER.size :]) or ""
