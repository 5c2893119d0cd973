"""Initial RAM disks, wherever they were measured."""

from __future__ import annotations

import struct

from bootlease.bootstate.initrd import initrds
from bootlease.eventlog import EventType
from bootlease.testing.measurements import Measurement, attested_log

TAG = EventType.EV_EVENT_TAG


def tag(number: int, name: bytes) -> bytes:
    """TCG_PCClientTaggedEvent."""
    return struct.pack("<II", number, len(name)) + name


EVENTS = (
    Measurement(9, TAG, tag(0x8F3B22EC, b"Linux initrd\0"), b"all of it"),
    Measurement(11, EventType.EV_IPL, b".initrd", b".initrd\0"),
    Measurement(11, EventType.EV_IPL, b".initrd", b"the section"),
    Measurement(12, TAG, tag(0x49DFFE0F, b"a.addon.efi\0"), b"an add-on"),
    Measurement(9, TAG, tag(0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0"), b"quiet"),
)


def test_initrds() -> None:
    """The kernel's, a unified kernel image's and an add-on's are found; load options are none."""
    view = attested_log(*EVENTS)
    assert [(each.event, each.pcr, each.unverified_name) for each in initrds(view)] == [
        (1, 9, "Linux initrd"),
        (3, 11, ".initrd"),
        (4, 12, "a.addon.efi"),
    ]
    assert [each.digest for each in initrds(view)] == [
        view.bank.digest(content) for content in (b"all of it", b"the section", b"an add-on")
    ]


def test_only_attested_pcrs_count() -> None:
    """What was not quoted is not there."""
    assert initrds(attested_log(*EVENTS, attested=[8])) == ()
