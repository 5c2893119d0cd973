"""Phrases for events: readable, bounded, and harmless to a terminal."""

from __future__ import annotations

import struct

import pytest

from bootlease.eventlog import Event, EventType, describe
from bootlease.eventlog.describe import MAX_TEXT

GUID = bytes(range(16))


def utf16(text: str) -> bytes:
    """Text as firmware writes it."""
    return text.encode("utf-16-le")


def variable(name: bytes, value: bytes, name_length: int | None = None) -> bytes:
    """UEFI_VARIABLE_DATA with any length of the name."""
    length = len(name) // 2 if name_length is None else name_length
    return GUID + struct.pack("<QQ", length, len(value)) + name + value


def node(kind: int, subtype: int, value: bytes, length: int | None = None) -> bytes:
    """A device path node with any length."""
    size = 4 + len(value) if length is None else length
    return struct.pack("<BBH", kind, subtype, size) + value


END = node(0x7F, 0xFF, b"")


def image(path: bytes, path_length: int | None = None) -> bytes:
    """UEFI_IMAGE_LOAD_EVENT with any length of the device path."""
    return struct.pack("<QQQQ", 1, 2, 0, len(path) if path_length is None else path_length) + path


APPLICATION = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
DRIVER_CONFIG = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
BLOB2 = EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2


def phrase(kind: int, data: bytes) -> str:
    """The phrase for an event of a type with some data."""
    return describe(Event(1, 4, kind, (), (), data))


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (
            EventType.EV_EVENT_TAG,
            struct.pack("<II", 0x8F3B22EC, 13) + b"Linux initrd\0",
            "tagged event: Linux initrd",
        ),
        (EventType.EV_EVENT_TAG, struct.pack("<II", 0x8F3B22EC, 4) + b"Linux", "tagged event"),
        (EventType.EV_EVENT_TAG, struct.pack("<II", 1, 2) + b"\xff\xfe", "tagged event"),
        (EventType.EV_EVENT_TAG, b"Linux", "tagged event"),
        (
            APPLICATION,
            image(node(4, 4, utf16("\\EFI\\BOOT\\GRUBX64.EFI\0")) + END),
            "boot application \\EFI\\BOOT\\GRUBX64.EFI",
        ),
        (
            APPLICATION,
            image(node(2, 1, bytes(8)) + node(4, 4, utf16("\\EFI")) + node(4, 4, utf16("a.efi"))),
            "boot application \\EFI\\a.efi",
        ),
        (
            EventType.EV_EFI_BOOT_SERVICES_DRIVER,
            image(node(4, 7, GUID) + node(4, 6, GUID) + END),
            "boot services driver (firmware file 03020100-0504-0706-0809-0a0b0c0d0e0f)",
        ),
        (APPLICATION, image(END), "boot application (no file name)"),
        (DRIVER_CONFIG, variable(utf16("db"), b"x"), "Secure Boot variable db"),
        (
            EventType.EV_EFI_VARIABLE_BOOT,
            variable(utf16("BootOrder"), b""),
            "boot variable BootOrder",
        ),
        (
            EventType.EV_EFI_VARIABLE_AUTHORITY,
            variable(utf16("db"), b"") + b"\0",
            "Secure Boot authority from db",
        ),
        (EventType.EV_IPL, b"grub_cmd: ls -l\0", "GRUB command: ls -l"),
        (EventType.EV_IPL, b"kernel_cmdline: /vmlinuz ro\0", "kernel command line: /vmlinuz ro"),
        (EventType.EV_IPL, b"grub_kernel_cmdline a\0", "kernel command line: a"),
        (EventType.EV_IPL, b"(hd0)/grub.cfg\0", "file read by the boot loader: (hd0)/grub.cfg"),
        (EventType.EV_IPL, utf16("quiet ro\0"), "boot loader measurement: quiet ro"),
        (EventType.EV_IPL, b"\x80\x81", "boot loader measurement"),
        (EventType.EV_SEPARATOR, bytes(4), "separator"),
        (EventType.EV_SEPARATOR, b"\xff" * 4, "separator (firmware reported an error)"),
        (EventType.EV_SEPARATOR, bytes(5), "separator (unusual, 5 bytes)"),
        (
            EventType.EV_EFI_ACTION,
            b"Exit Boot Services Invocation",
            "action: Exit Boot Services Invocation",
        ),
        (EventType.EV_S_CRTM_VERSION, utf16("N1F\0"), "firmware version: N1F"),
        (EventType.EV_S_CRTM_VERSION, GUID, "firmware version"),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB, bytes(16), "firmware volume"),
        (BLOB2, b"\x04Fv(x" + bytes(16), "firmware volume: Fv(x"),
        (EventType.EV_NO_ACTION, b"StartupLocality\0\x03", "startup locality 3"),
        (EventType.EV_NO_ACTION, b"Spec ID Event03\0rest", "log header: Spec ID Event03"),
        (EventType.EV_NO_ACTION, b"SP800-155 Event3etc", "note: SP800-155 Event3"),
        (EventType.EV_NO_ACTION, b"\x01\x02", "note"),
        (0x8401, b"\x01", "event of type 0x00008401"),
        (EventType.TXT_MLE_HASH, b"", "event of type TXT_MLE_HASH"),
    ],
)
def test_phrases(kind: int, data: bytes, expected: str) -> None:
    """Each event is named by what an operator knows it as."""
    assert phrase(kind, data) == expected


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (APPLICATION, b""),
        (APPLICATION, image(END, 1 << 63)),
        (APPLICATION, image(node(4, 4, b"", length=0))),
        (APPLICATION, image(node(4, 4, b"", length=3))),
        (APPLICATION, image(node(4, 4, b"ab", length=7))),
        (APPLICATION, image(node(4, 6, b"short"))),
        (DRIVER_CONFIG, b""),
        (DRIVER_CONFIG, variable(utf16("db"), b"", name_length=1 << 62)),
        (DRIVER_CONFIG, variable(utf16("db"), b"", name_length=3)),
        (DRIVER_CONFIG, GUID + struct.pack("<QQ", 0, (1 << 64) - 1)),
        (BLOB2, b""),
        (BLOB2, b"\x05abcd"),
    ],
    ids=[
        "image-empty",
        "path-huge",
        "node-0",
        "node-3",
        "node-beyond",
        "guid-short",
        "variable-empty",
        "name-huge",
        "name-beyond",
        "value-huge",
        "blob-empty",
        "blob-beyond",
    ],
)
def test_malformed_bodies(kind: int, data: bytes) -> None:
    """A body whose lengths are lies is said to be malformed, and nothing is raised."""
    assert phrase(kind, data).endswith(" (body malformed)")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EventType.EV_IPL, b"grub_cmd: \x1b[2J\r\nboot\0"),
        (EventType.EV_IPL, b"\x1b]0;title\x07 text\0"),
        (EventType.EV_IPL, utf16("a\x1b[31m\0")),
        (EventType.EV_IPL, b"kernel_cmdline: \xff\xfe\xe2\x80\xae\0"),
        (EventType.EV_EFI_ACTION, b"Exit\x1b[1A"),
        (DRIVER_CONFIG, variable(utf16("d\nb\u202e\x9b"), b"")),
        (DRIVER_CONFIG, variable(b"\x00\xd8", b"")),
        (APPLICATION, image(node(4, 4, utf16("\\a\x1b[0m")))),
        (BLOB2, b"\x03\x1b[m"),
    ],
)
def test_control_characters_are_escaped(kind: int, data: bytes) -> None:
    """Nothing in a log can drive a terminal, start a line or reverse its text."""
    shown = phrase(kind, data)
    assert shown.isprintable()


def test_long_text_is_cut() -> None:
    """A phrase has a bounded length."""
    shown = phrase(EventType.EV_IPL, b"grub_cmd: " + b"a" * 100_000)
    assert len(shown) < MAX_TEXT + 32
    assert shown.endswith("…")
