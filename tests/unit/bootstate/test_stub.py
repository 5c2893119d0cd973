"""Unified kernel images: sections, profile, and what is handed over beside them."""

from __future__ import annotations

import struct

import pytest

from bootlease.bootstate.stub import SECTIONS, ExtraKind, unified_kernel
from bootlease.bootstate.tri import Tri
from bootlease.eventlog import EventType
from bootlease.model import HashAlg
from bootlease.testing.measurements import Measurement, attested_log

IPL = EventType.EV_IPL
SHA256 = HashAlg.SHA256


def section(name: str, content: bytes) -> tuple[Measurement, Measurement]:
    """The two measurements of a section: its name in ASCII, its content."""
    logged = f"{name}\0".encode("utf-16-le")
    return (
        Measurement(11, IPL, logged, name.encode() + b"\0"),
        Measurement(11, IPL, logged, content),
    )


def tag(number: int, name: str) -> bytes:
    """TCG_PCClientTaggedEvent with a name in UTF-16."""
    data = f"{name}\0".encode("utf-16-le")
    return struct.pack("<II", number, len(data)) + data


IMAGE = (*section(".linux", b"kernel"), *section(".osrel", b"os"), *section(".cmdline", b"quiet"))


def test_sections() -> None:
    """Sections are told by the digests of their names, contents by theirs."""
    seen = unified_kernel(attested_log(*IMAGE))
    assert seen.present is Tri.ON
    assert [each.name for each in seen.sections] == [".linux", ".osrel", ".cmdline"]
    assert seen.section(".linux") is seen.sections[0]
    assert seen.sections[0].digest == SHA256.digest(b"kernel")
    assert seen.section(".initrd") is None
    assert seen.unexpected == ()
    assert seen.profile == 0


def test_every_section_of_the_specification() -> None:
    """All measured sections are known in the order of their measurement."""
    pairs = [each for name in SECTIONS for each in section(name, name.encode())]
    seen = unified_kernel(attested_log(*pairs))
    assert tuple(each.name for each in seen.sections) == SECTIONS
    assert seen.unexpected == ()


def test_names_in_the_log_prove_nothing() -> None:
    """A section that the log calls by another name keeps the name that was measured."""
    lying = tuple(Measurement(11, IPL, b".\0x\0", each.measured) for each in IMAGE)
    seen = unified_kernel(attested_log(*lying))
    assert [each.name for each in seen.sections] == [".linux", ".osrel", ".cmdline"]


@pytest.mark.parametrize(
    ("events", "unexpected"),
    [
        ((*IMAGE, Measurement(11, IPL, b"x")), (7,)),
        ((*IMAGE, *section(".linux", b"other")), (7,)),
        ((*section(".osrel", b"os"), *section(".linux", b"kernel")), (3,)),
        ((Measurement(11, IPL, b"x"), *IMAGE), (1,)),
        ((*IMAGE, Measurement(11, EventType.EV_SEPARATOR, bytes(4))), ()),
        ((*IMAGE, Measurement(11, EventType.EV_SEPARATOR, bytes(4), b"x")), (7,)),
    ],
)
def test_what_no_image_measures(
    events: tuple[Measurement, ...], unexpected: tuple[int, ...]
) -> None:
    """A second image, a wrong order and foreign events of PCR 11 are named."""
    assert unified_kernel(attested_log(*events)).unexpected == unexpected


def test_no_image() -> None:
    """A machine without such an image has none, a machine that did not quote PCR 11 is unknown."""
    compact = Measurement(11, EventType.EV_COMPACT_HASH, b"\x10\0\0\0")
    assert unified_kernel(attested_log(compact)).present is Tri.OFF
    assert unified_kernel(attested_log(compact)).unexpected == ()
    unquoted = unified_kernel(attested_log(*IMAGE, attested=[4]))
    assert (unquoted.present, unquoted.sections) == (Tri.UNKNOWN, ())
    assert unquoted.profile is None


@pytest.mark.parametrize(
    ("measured", "profile"),
    [("1", 1), ("17", 17), ("65", None), ("x", None)],
)
def test_profile(measured: str, profile: int | None) -> None:
    """The chosen profile is told by its digest, not by what the log writes beside it."""
    chosen = Measurement(
        12, EventType.EV_EVENT_TAG, tag(0x13AED6DB, "3"), f"{measured}\0".encode("utf-16-le")
    )
    assert unified_kernel(attested_log(*IMAGE, chosen)).profile == profile


def test_two_profiles_are_none() -> None:
    """A boot that chose two profiles has no one profile."""
    chosen = [
        Measurement(12, EventType.EV_EVENT_TAG, tag(0x13AED6DB, n), f"{n}\0".encode("utf-16-le"))
        for n in "12"
    ]
    assert unified_kernel(attested_log(*IMAGE, *chosen)).profile is None


@pytest.mark.parametrize(
    ("pcr", "kind", "data", "expected", "name"),
    [
        (12, IPL, "Credentials initrd", ExtraKind.CREDENTIALS, "Credentials initrd"),
        (12, IPL, "Global credentials initrd", ExtraKind.CREDENTIALS, "Global credentials initrd"),
        (
            12,
            IPL,
            "Configuration extension initrd",
            ExtraKind.CONFIGURATION_EXTENSION,
            "Configuration extension initrd",
        ),
        (13, IPL, "System extension initrd", ExtraKind.SYSTEM_EXTENSION, "System extension initrd"),
        (12, 0x6C46F751, "a.addon.efi", ExtraKind.DEVICE_TREE, "a.addon.efi"),
        (12, 0x49DFFE0F, "b.addon.efi", ExtraKind.INITRD, "b.addon.efi"),
        (12, 0xDAC08E1A, "c.addon.efi", ExtraKind.MICROCODE, "c.addon.efi"),
        (5, 0xF5BC582A, "loader.conf", ExtraKind.LOADER_CONFIGURATION, "loader.conf"),
        (1, 0xC0B3BD23, "smbios:type11", ExtraKind.SMBIOS, "smbios:type11"),
    ],
)
def test_extras(pcr: int, kind: int, data: str, expected: ExtraKind, name: str) -> None:
    """Credentials, extensions and add-ons are digests with the name that the log gives them."""
    if kind == IPL:
        event = Measurement(pcr, IPL, f"{data}\0".encode("utf-16-le"), b"the thing")
    else:
        event = Measurement(pcr, EventType.EV_EVENT_TAG, tag(kind, data), b"the thing")
    (extra,) = unified_kernel(attested_log(event)).extras
    assert (extra.unverified_kind, extra.unverified_name) == (expected, name)
    assert (extra.pcr, extra.digest) == (pcr, SHA256.digest(b"the thing"))
