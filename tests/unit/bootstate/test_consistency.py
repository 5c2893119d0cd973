"""Events whose data is not what was measured."""

from __future__ import annotations

import pytest

from bootlease.bootstate import altered_events
from bootlease.bootstate.findings import MAX_FINDINGS, keep
from bootlease.eventlog import EventType
from bootlease.model import Effect, Finding
from bootlease.testing import efi
from bootlease.testing.measurements import Measurement, attested_log

VARIABLE = efi.variable_data(efi.GLOBAL_VARIABLE, "BootOrder", b"\1\0")
IPL = EventType.EV_IPL


@pytest.mark.parametrize(
    "measurement",
    [
        Measurement(4, EventType.EV_SEPARATOR, bytes(4)),
        Measurement(4, EventType.EV_EFI_ACTION, b"text"),
        Measurement(1, EventType.EV_EFI_VARIABLE_BOOT, VARIABLE),
        Measurement(1, EventType.EV_EFI_VARIABLE_BOOT, VARIABLE, b"\1\0"),
        Measurement(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, VARIABLE),
        Measurement(7, EventType.EV_EFI_VARIABLE_AUTHORITY, VARIABLE + b"?", VARIABLE),
        Measurement(5, EventType.EV_EFI_GPT_EVENT, efi.gpt_data("x")),
        Measurement(8, IPL, b"grub_cmd: set x=1\0", b"set x=1"),
        Measurement(8, IPL, b"grub_cmd set x=1\0", b"set x=1\0"),
        Measurement(9, IPL, b"(hd0)/vmlinuz\0", b"kernel"),
        Measurement(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"path", b"image"),
        Measurement(4, 0x8000_BEEF, b"unknown", b"whatever"),
    ],
)
def test_what_is_measured_as_it_must_be(measurement: Measurement) -> None:
    """Data under its digest, and digests that are over something else by nature, are in order."""
    assert altered_events(attested_log(measurement)) == ()


@pytest.mark.parametrize(
    "measurement",
    [
        Measurement(4, EventType.EV_SEPARATOR, bytes(5), bytes(4)),
        Measurement(4, EventType.EV_EFI_ACTION, b"text", b"other"),
        Measurement(1, EventType.EV_EFI_VARIABLE_BOOT, VARIABLE, b"\2\0"),
        Measurement(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, VARIABLE, b"other"),
        Measurement(5, EventType.EV_EFI_GPT_EVENT, b"table", b"other"),
        Measurement(8, IPL, b"grub_cmd: set x=2\0", b"set x=1"),
        Measurement(8, IPL, b"kernel_cmdline: /k init=/bin/sh\0", b"/k"),
    ],
)
def test_what_was_altered(measurement: Measurement) -> None:
    """Data that its type's digest must be over, and is not, is refused (D1, D16)."""
    (finding,) = altered_events(attested_log(measurement))
    assert (finding.id, finding.effect) == ("boot.event.data-mismatch", Effect.REFUSES)
    assert (finding.pcr, finding.event) == (measurement.pcr, 1)


def test_unattested_events_are_nobodys() -> None:
    """A PCR that nobody quoted is not judged."""
    altered = Measurement(4, EventType.EV_EFI_ACTION, b"text", b"other")
    assert altered_events(attested_log(altered, attested=(7,))) == ()


def test_findings_are_bounded() -> None:
    """A log of very many altered events is refused with a list that can be read."""
    altered = Measurement(4, EventType.EV_EFI_ACTION, b"text", b"other")
    assert len(altered_events(attested_log(*[altered] * 200))) == MAX_FINDINGS


def test_notes_crowd_out_no_refusal() -> None:
    """However many notes there are, what refuses is kept."""
    findings: list[Finding] = []
    for _ in range(1000):
        keep(findings, Finding("a.note", "A note.", Effect.NOTES))
    keep(findings, Finding("a.refusal", "A refusal."))
    assert len(findings) == MAX_FINDINGS + 1
    assert findings[-1].effect is Effect.REFUSES
