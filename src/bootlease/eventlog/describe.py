"""One phrase for each event, for people who read logs.

Specification: TCG PFP 1.06 §10.4.1 (what each event type records).

A phrase repeats what the *unverified* data says and decides nothing: no appraisal may depend
on it. Whether the digest is over that data is the matter of ``coverage``. Text from a log is
an attacker's text: everything but printable characters is escaped, so that it can neither
drive a terminal nor begin a line of its own, and it is cut at a fixed length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bootlease.errors import MalformedError
from bootlease.eventlog.bodies import (
    GRUB_PREFIXES,
    parse_image_load_event,
    parse_variable_data,
    split_grub_string,
    text_of,
)
from bootlease.eventlog.eventtypes import EventType, type_name
from bootlease.eventlog.specid import (
    SPEC_ID_EVENT00,
    SPEC_ID_EVENT02,
    SPEC_ID_EVENT03,
    STARTUP_LOCALITY_SIGNATURE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootlease.eventlog.log import Event

MAX_TEXT: Final = 1024
"""Characters of log text in a phrase; a Linux command line may have 2,048 on x86."""


def describe(event: Event) -> str:
    """Return a phrase that names what an event says was measured; never raises.

    Args:
        event: An unverified event, of any shape.
    """
    known = _BY_TYPE.get(event.type)
    if known is None:
        return f"event of type {type_name(event.type)}"
    noun, from_body = known
    try:
        return from_body(noun, event.unverified_data)
    except MalformedError:
        return f"{noun} (body malformed)"


def printable(text: str) -> str:
    """Return text with everything escaped that is not printable, and cut at ``MAX_TEXT``."""
    cut = text[:MAX_TEXT]
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut
    )
    return shown if len(text) <= MAX_TEXT else f"{shown}…"


def _plain(noun: str, _: bytes) -> str:
    return noun


def _with_text(noun: str, body: bytes) -> str:
    text = text_of(body)
    return f"{noun}: {printable(text)}" if text and text.isprintable() else noun


def _separator(noun: str, body: bytes) -> str:
    if body in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        return noun if body == b"\0\0\0\0" else f"{noun} (firmware reported an error)"
    return f"{noun} (unusual, {len(body)} bytes)"


def _no_action(noun: str, body: bytes) -> str:
    if body.startswith((SPEC_ID_EVENT00, SPEC_ID_EVENT02, SPEC_ID_EVENT03)):
        return "log header: " + body[: len(SPEC_ID_EVENT03) - 1].decode()
    if body.startswith(STARTUP_LOCALITY_SIGNATURE):
        return f"startup locality {body[-1]}"
    signature = body[:16].rstrip(b"\0")
    if signature.isascii() and (text := signature.decode()).isprintable() and text:
        return f"{noun}: {text}"
    return noun


def _variable(noun: str, body: bytes) -> str:
    variable = parse_variable_data(body)
    return f"{noun} {printable(variable.name)}"


def _authority(noun: str, body: bytes) -> str:
    variable = parse_variable_data(body)
    return f"{noun} from {printable(variable.name)}"


def _image(noun: str, body: bytes) -> str:
    image = parse_image_load_event(body)
    if image.file_path:
        return f"{noun} {printable(image.file_path)}"
    if image.firmware_file is not None:
        return f"{noun} (firmware file {image.firmware_file})"
    return f"{noun} (no file name)"


def _firmware_blob2(noun: str, body: bytes) -> str:
    """Name UEFI_PLATFORM_FIRMWARE_BLOB2 and its like: BYTE size, BYTE description[size], …."""
    if not body or 1 + body[0] > len(body):
        raise MalformedError("a description ends beyond its event")
    text = body[1 : 1 + body[0]].rstrip(b"\0").decode("latin-1")
    return f"{noun}: {printable(text)}" if text else noun


def _ipl(noun: str, body: bytes) -> str:
    if (grub := split_grub_string(body)) is not None:
        prefix, text = grub
        shown = printable(text.rstrip(b"\0").decode(errors="backslashreplace"))
        return f"{_GRUB_NOUNS[prefix]}: {shown}"
    text_only = text_of(body)
    if not text_only:
        return noun
    # A file name means the digest is over the file; other text is itself what was measured.
    is_file = text_only.startswith(("(", "/"))
    return f"{'file read by the boot loader' if is_file else noun}: {printable(text_only)}"


def _tagged(noun: str, body: bytes) -> str:
    """Name what a TCG_PCClientTaggedEvent says: UINT32 id, UINT32 size, BYTE data[size]."""
    if int.from_bytes(body[4:_TAG_HEADER], "little") != len(body) - _TAG_HEADER:
        return noun
    return _with_text(noun, body[_TAG_HEADER:])


_TAG_HEADER: Final = 8
_GRUB_NOUNS: Final = dict(
    zip(
        GRUB_PREFIXES,
        (
            "GRUB command",
            "kernel command line",
            "GRUB module command line",
            "GRUB command",
            "kernel command line",
            "GRUB module command line",
        ),
        strict=True,
    )
)

_BY_TYPE: Final[dict[int, tuple[str, Callable[[str, bytes], str]]]] = {
    EventType.EV_PREBOOT_CERT: ("pre-boot certificate", _plain),
    EventType.EV_POST_CODE: ("firmware code", _with_text),
    EventType.EV_POST_CODE2: ("firmware code", _firmware_blob2),
    EventType.EV_UNUSED: ("unused event", _plain),
    EventType.EV_NO_ACTION: ("note", _no_action),
    EventType.EV_SEPARATOR: ("separator", _separator),
    EventType.EV_ACTION: ("action", _with_text),
    EventType.EV_EVENT_TAG: ("tagged event", _tagged),
    EventType.EV_S_CRTM_CONTENTS: ("firmware root of trust", _with_text),
    EventType.EV_S_CRTM_VERSION: ("firmware version", _with_text),
    EventType.EV_CPU_MICROCODE: ("CPU microcode", _with_text),
    EventType.EV_PLATFORM_CONFIG_FLAGS: ("platform configuration", _with_text),
    EventType.EV_TABLE_OF_DEVICES: ("table of devices", _plain),
    EventType.EV_COMPACT_HASH: ("compact hash", _with_text),
    EventType.EV_IPL: ("boot loader measurement", _ipl),
    EventType.EV_IPL_PARTITION_DATA: ("boot partition data", _plain),
    EventType.EV_NONHOST_CODE: ("non-host firmware", _plain),
    EventType.EV_NONHOST_CONFIG: ("non-host configuration", _plain),
    EventType.EV_NONHOST_INFO: ("non-host platform information", _plain),
    EventType.EV_OMIT_BOOT_DEVICE_EVENTS: ("boot attempts are not measured", _plain),
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: ("Secure Boot variable", _variable),
    EventType.EV_EFI_VARIABLE_BOOT: ("boot variable", _variable),
    EventType.EV_EFI_VARIABLE_BOOT2: ("boot variable", _variable),
    EventType.EV_EFI_VARIABLE_AUTHORITY: ("Secure Boot authority", _authority),
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: ("boot application", _image),
    EventType.EV_EFI_BOOT_SERVICES_DRIVER: ("boot services driver", _image),
    EventType.EV_EFI_RUNTIME_SERVICES_DRIVER: ("runtime services driver", _image),
    EventType.EV_EFI_GPT_EVENT: ("partition table", _plain),
    EventType.EV_EFI_GPT_EVENT2: ("partition table", _plain),
    EventType.EV_EFI_ACTION: ("action", _with_text),
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: ("firmware volume", _plain),
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: ("firmware volume", _firmware_blob2),
    EventType.EV_EFI_HANDOFF_TABLES: ("firmware tables", _plain),
    EventType.EV_EFI_HANDOFF_TABLES2: ("firmware tables", _firmware_blob2),
    EventType.EV_EFI_HCRTM_EVENT: ("hardware root of trust", _with_text),
    EventType.EV_EFI_SPDM_FIRMWARE_BLOB: ("device firmware", _plain),
    EventType.EV_EFI_SPDM_FIRMWARE_CONFIG: ("device configuration", _plain),
    EventType.EV_EFI_SPDM_DEVICE_POLICY: ("device authentication policy", _plain),
    EventType.EV_EFI_SPDM_DEVICE_AUTHORITY: ("device authority", _plain),
}
