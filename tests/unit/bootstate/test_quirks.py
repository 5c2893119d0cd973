"""Oddities of real firmware and boot loaders, each told by its identifier."""

from __future__ import annotations

from typing import Final

import pytest

from bootlease.bootstate import quirks
from bootlease.bootstate.quirks import QUIRKS
from bootlease.eventlog import EventType
from bootlease.testing import efi
from bootlease.testing.boot_certificates import boot_certificate
from bootlease.testing.measurements import Measurement, attested_log

CONFIG = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
AUTHORITY = EventType.EV_EFI_VARIABLE_AUTHORITY
ACTION = EventType.EV_EFI_ACTION
VENDOR = boot_certificate("Vendor CA")


def flag(name: str, value: bytes, pcr: int = 7) -> Measurement:
    """One of Secure Boot's switches."""
    return Measurement(pcr, CONFIG, efi.variable_data(efi.GLOBAL_VARIABLE, name, value))


def authority(content: bytes, *, fill: bytes = b"", unmeasured: bytes = b"") -> Measurement:
    """A key that vouched for an image."""
    data = efi.variable_data(efi.IMAGE_SECURITY_DATABASE, "db", content) + fill
    return Measurement(7, AUTHORITY, data + unmeasured, data)


OWNED = authority(efi.signature_data(VENDOR))
BARE_SWITCH = efi.variable_data(efi.GLOBAL_VARIABLE, "SecureBoot", b"\x01")
ORDER = efi.variable_data(efi.GLOBAL_VARIABLE, "BootOrder", b"\1\0")

CASES: Final[dict[str, tuple[Measurement, ...]]] = {
    "empty-secure-boot-variable": (flag("SecureBoot", b""),),
    "shim-authority-with-extra-bytes": (
        authority(efi.signature_data(VENDOR), fill=bytes(5), unmeasured=b"\x7f"),
    ),
    "shim-authority-without-owner": (authority(VENDOR),),
    "authority-measured-again": (OWNED, OWNED),
    "unknown-action-in-pcr7": (Measurement(7, ACTION, b"Vendor says hello"),),
    "secure-boot-value-without-name": (Measurement(7, CONFIG, BARE_SWITCH, b"\x01"),),
    "secure-boot-mode-in-pcr1": (flag("DeployedMode", b"\x01", 1),),
    "zero-s-crtm-contents": (
        Measurement(0, EventType.EV_S_CRTM_CONTENTS, b"FIT Type 0x2D", bytes(4)),
    ),
    "boot-options-in-pcr5": (Measurement(5, EventType.EV_EFI_VARIABLE_BOOT, ORDER),),
}
SOUND: Final = (
    flag("SecureBoot", b"\x01"),
    flag("DeployedMode", b"\x01"),
    Measurement(7, ACTION, b"DMA Protection Disabled"),
    Measurement(7, EventType.EV_SEPARATOR, bytes(4)),
    authority(efi.signature_data(boot_certificate("Other CA"))),
    Measurement(1, EventType.EV_EFI_VARIABLE_BOOT, ORDER),
    Measurement(0, EventType.EV_S_CRTM_CONTENTS, b"FIT Type 0x07", b"microcode"),
    Measurement(0, EventType.EV_SEPARATOR, bytes(4)),
)


def test_a_sound_log_has_none() -> None:
    """What the specifications say is no quirk."""
    assert quirks(attested_log(*SOUND)) == ()


@pytest.mark.parametrize("identifier", CASES)
def test_each_alone(identifier: str) -> None:
    """Each oddity in an otherwise sound log is told, with its PCR and event, and no other is."""
    measurements = CASES[identifier]
    (quirk,) = quirks(attested_log(*SOUND, *measurements))
    assert quirk.id == identifier
    assert quirk.pcr == measurements[-1].pcr
    assert (quirk.event, quirk.count) == (len(SOUND) + len(measurements), 1)
    assert quirk.sentence.endswith(".")


def test_each_has_a_case() -> None:
    """No quirk is without a test."""
    assert set(CASES) == {identifier for identifier, _, _ in QUIRKS}


def test_an_oddity_is_told_once_for_each_pcr() -> None:
    """Many events of one kind are one quirk with a count."""
    (quirk,) = quirks(attested_log(*CASES["boot-options-in-pcr5"] * 3))
    assert (quirk.event, quirk.count) == (1, 3)


@pytest.mark.parametrize("identifier", CASES)
def test_unattested_events_show_none(identifier: str) -> None:
    """An oddity in a PCR that nobody quoted is nobody's."""
    assert quirks(attested_log(*CASES[identifier], attested=(4,))) == ()
