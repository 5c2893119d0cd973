"""What firmware measured of itself."""

from __future__ import annotations

import pytest

from bootlease.bootstate import AttestedLog, firmware
from bootlease.bootstate.tri import Tri
from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event,
    encode_spec_id_event,
    encode_startup_locality,
    parse_event_log,
    replay,
)
from bootlease.model import HashAlg
from bootlease.testing import efi
from bootlease.testing.measurements import Measurement, attested_log

VERSION = EventType.EV_S_CRTM_VERSION


@pytest.mark.parametrize("data", [efi.utf16("F.1"), b"F.1\0"], ids=["utf-16", "ascii"])
def test_version(data: bytes) -> None:
    """A version counts as text where its digest is over it."""
    assert firmware(attested_log(Measurement(0, VERSION, data))).version == "F.1"


@pytest.mark.parametrize(
    "measurement",
    [
        Measurement(0, VERSION, efi.utf16("F.1"), b"another"),
        Measurement(0, VERSION, b"\0\0"),
        Measurement(0, VERSION, b"\xff\xfe\xfd"),
        Measurement(0, EventType.EV_POST_CODE, b"F.1"),
    ],
    ids=["altered", "empty", "binary", "another-type"],
)
def test_no_version(measurement: Measurement) -> None:
    """A version that was not measured as text is none."""
    assert firmware(attested_log(measurement)).version is None


def test_components() -> None:
    """Code and tables are digests, with a description that proves nothing."""
    seen = firmware(
        attested_log(
            Measurement(0, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\x03Fv1" + bytes(16), b"x"),
            Measurement(1, EventType.EV_EFI_HANDOFF_TABLES, bytes(7) + b" ", b"tables"),
            Measurement(1, EventType.EV_EFI_VARIABLE_BOOT, b"no component"),
            Measurement(0, EventType.EV_SEPARATOR, bytes(4)),
        )
    )
    assert [(each.pcr, each.digest) for each in seen.components] == [
        (0, HashAlg.SHA256.digest(b"x")),
        (1, HashAlg.SHA256.digest(b"tables")),
    ]
    assert seen.components[0].unverified_text == "firmware volume: Fv1"
    assert {each.text for each in seen.components} == {None}


def test_hcrtm() -> None:
    """A sequence of the hardware's starts PCR 0 at 4, if it comes first (C11)."""
    hardware = Measurement(0, EventType.EV_EFI_HCRTM_EVENT, b"HCRTM")
    version = Measurement(0, VERSION, b"F.1")
    seen = firmware(attested_log(hardware, version))
    assert (seen.hcrtm, seen.startup_locality) == (Tri.ON, 4)
    seen = firmware(attested_log(version, hardware))
    assert (seen.hcrtm, seen.startup_locality) == (Tri.OFF, 0)


def test_startup_locality() -> None:
    """The locality that replay started from is a fact of an attested PCR 0."""
    bank = [HashAlg.SHA256]
    digest = {HashAlg.SHA256: HashAlg.SHA256.digest(b"F.1")}
    record = EventRecord(0, VERSION, digest, b"F.1")
    data = (
        encode_spec_id_event(bank)
        + encode_startup_locality(3, bank)
        + encode_event(record.pcr, record.type, record.digests, record.data)
    )
    replayed = replay(parse_event_log(data))
    assert firmware(AttestedLog.of(replayed, HashAlg.SHA256)).startup_locality == 3
    assert firmware(AttestedLog.of(replayed, HashAlg.SHA256, (7,))).startup_locality is None


def test_unmeasured_attempts() -> None:
    """Firmware may say that it does not measure which boot options it tried."""
    omits = Measurement(4, EventType.EV_OMIT_BOOT_DEVICE_EVENTS, b"BOOT ATTEMPTS OMITTED")
    assert firmware(attested_log(omits)).omits_boot_attempts is Tri.ON
    assert firmware(attested_log(omits, attested=(0,))).omits_boot_attempts is Tri.UNKNOWN
