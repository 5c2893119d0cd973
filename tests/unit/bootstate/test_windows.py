"""What Windows measured of its start, and what cannot be said of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate.sipa import SIPA
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.windows import MAX_FINDINGS, BitLockerUnlock, WindowsBoot, windows
from bootlease.eventlog import EventType
from bootlease.model import Effect
from bootlease.testing.measurements import Measurement, attested_log

TAG = EventType.EV_EVENT_TAG
BOUNDARY = 0x40010001
MODULE = 0x40010003

SEPARATORS = tuple(Measurement(pcr, EventType.EV_SEPARATOR, b"WBCL") for pcr in (12, 13, 14))


def sipa(kind: int, data: bytes) -> bytes:
    """A SIPA event."""
    return struct.pack("<II", kind, len(data)) + data


def flag(kind: SIPA, value: int) -> bytes:
    """A SIPA event of one byte."""
    return sipa(kind, bytes([value]))


def container(*events: bytes, pcr: int = 12) -> Measurement:
    """An EV_EVENT_TAG of Windows' loaders."""
    return Measurement(pcr, TAG, sipa(BOUNDARY, b"".join(events)))


def boot(*events: Measurement) -> WindowsBoot:
    """The facts of some measurements, separators after them."""
    return windows(attested_log(*events, *SEPARATORS))


FLAGS = [
    ("boot_debugging", SIPA.BOOT_DEBUGGING),
    ("kernel_debugging", SIPA.KERNEL_DEBUG),
    ("test_signing", SIPA.TEST_SIGNING),
    ("flight_signing", SIPA.FLIGHT_SIGNING),
    ("safe_mode", SIPA.SAFE_MODE),
    ("winpe", SIPA.WINPE),
    ("hypervisor_debugging", SIPA.HYPERVISOR_DEBUG),
]
PROTECTIONS = [
    ("code_integrity", SIPA.CODE_INTEGRITY),
    ("vbs_required", SIPA.VBS_VSM_REQUIRED),
    ("hibernation_disabled", SIPA.HIBERNATION_DISABLED),
]


@pytest.mark.parametrize(("name", "kind"), FLAGS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [((), Tri.UNKNOWN), ((0,), Tri.OFF), ((1,), Tri.ON), ((0, 1), Tri.ON), ((1, 0), Tri.ON)],
)
def test_what_weakens_a_machine(
    name: str, kind: SIPA, values: tuple[int, ...], expected: Tri
) -> None:
    """Debugging and its like are on if they were ever reported on, and unknown unreported."""
    assert getattr(boot(container(*(flag(kind, value) for value in values))), name) is expected


@pytest.mark.parametrize(("name", "kind"), PROTECTIONS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [((), Tri.UNKNOWN), ((0,), Tri.OFF), ((1,), Tri.ON), ((0, 1), Tri.OFF), ((1, 0), Tri.OFF)],
)
def test_what_protects_a_machine(
    name: str, kind: SIPA, values: tuple[int, ...], expected: Tri
) -> None:
    """Code integrity and its like are on only if they were never reported off."""
    assert getattr(boot(container(*(flag(kind, value) for value in values))), name) is expected


GOOD = container(flag(SIPA.TEST_SIGNING, 0), flag(SIPA.CODE_INTEGRITY, 1))
BAD = sipa(BOUNDARY, flag(SIPA.TEST_SIGNING, 1))


@pytest.mark.parametrize(
    "hidden",
    [
        Measurement(12, TAG, sipa(BOUNDARY, flag(SIPA.TEST_SIGNING, 0)), BAD),
        Measurement(12, TAG, b"", BAD),
        Measurement(12, EventType.EV_IPL, b"quiet", BAD),
        Measurement(12, EventType.EV_SEPARATOR, b"WBCL", BAD),
        Measurement(13, TAG, b"something else", BAD),
        Measurement(13, TAG, BAD[:-1]),
    ],
)
def test_what_is_not_proven_leaves_a_machine_uncertain(hidden: Measurement) -> None:
    """As long as one event cannot be read, nobody says that all is as it should be."""
    seen = boot(GOOD, hidden)
    assert seen.present is Tri.ON
    assert seen.test_signing is Tri.UNKNOWN
    assert seen.code_integrity is Tri.UNKNOWN
    assert seen.unread == (2,)


def test_another_type_hides_nothing() -> None:
    """What Windows measured counts under any event type, since no digest is over that."""
    assert boot(GOOD, Measurement(13, EventType.EV_IPL, BAD)).test_signing is Tri.ON


def test_both_pcrs_have_to_be_quoted() -> None:
    """With one of the PCRs unquoted, what is bad is known and what is good is not."""
    view = attested_log(GOOD, *SEPARATORS, attested=[12])
    assert windows(view).test_signing is Tri.UNKNOWN
    view = attested_log(Measurement(12, TAG, BAD), *SEPARATORS, attested=[12])
    assert windows(view).test_signing is Tri.ON


@pytest.mark.parametrize("kind", [EventType.EV_SEPARATOR, EventType.EV_IPL, 0xBEEF])
def test_what_follows_the_separator_does_not_count(kind: int) -> None:
    """After its separator a PCR is anybody's, whatever type the separator is given."""
    late = container(flag(SIPA.CODE_INTEGRITY, 1), pcr=13)
    seen = windows(
        attested_log(
            container(),
            Measurement(12, kind, b"WBCL"),
            Measurement(13, kind, b"WBCL"),
            late,
        )
    )
    assert seen.code_integrity is Tri.UNKNOWN
    assert seen.separated == (12, 13)


def test_numbers() -> None:
    """Counters and policies are as measured, or unknown where reports differ."""
    seen = boot(
        container(
            sipa(SIPA.BOOT_COUNTER, struct.pack("<Q", 7)),
            sipa(SIPA.DATA_EXECUTION_PREVENTION, struct.pack("<Q", 1)),
            sipa(SIPA.VSM_LAUNCH_TYPE, struct.pack("<Q", 1)),
            sipa(SIPA.HYPERVISOR_LAUNCH_TYPE, struct.pack("<Q", 1)),
            sipa(SIPA.HYPERVISOR_LAUNCH_TYPE, struct.pack("<Q", 0)),
            sipa(SIPA.VBS_HVCI_POLICY, struct.pack("<I", 3)),
        )
    )
    assert (seen.boot_counter, seen.nx_policy, seen.vsm_launch_type) == (7, 1, 1)
    assert seen.hypervisor_launch_type is None
    assert seen.hvci_policy == 3


@pytest.mark.parametrize(
    ("values", "expected"), [((), Tri.UNKNOWN), ((1,), Tri.ON), ((1, 5), Tri.ON), ((3,), Tri.OFF)]
)
def test_cold_boot(values: tuple[int, ...], expected: Tri) -> None:
    """What the boot manager started first tells a boot from a resume."""
    events = (sipa(SIPA.TRANSFER_CONTROL, struct.pack("<I", value)) for value in values)
    assert boot(container(*events)).cold_boot is expected


def test_bitlocker() -> None:
    """How each volume was unlocked is told from PCR 12, which PCR 13 repeats."""
    unlock = sipa(SIPA.BITLOCKER_UNLOCK, struct.pack("<I", 0x44))
    seen = boot(container(unlock), container(unlock, pcr=13))
    assert seen.bitlocker_unlocks == (BitLockerUnlock.TPM | BitLockerUnlock.RECOVERY,)


def test_modules() -> None:
    """A loaded module has a path, a digest and a signer."""
    module = sipa(
        MODULE,
        sipa(SIPA.FILE_PATH, "\\Windows\\x.sys\0".encode("utf-16-le"))
        + sipa(SIPA.AUTHENTICODE_HASH, b"d" * 32)
        + flag(SIPA.IMAGE_VALIDATED, 1)
        + sipa(SIPA.AUTHORITY_ISSUER, "I\0".encode("utf-16-le"))
        + sipa(SIPA.AUTHORITY_PUBLISHER, "P\0".encode("utf-16-le"))
        + sipa(SIPA.AUTHORITY_SHA1, b"s" * 20),
    )
    (seen,) = boot(container(module, pcr=13)).modules
    assert (seen.path, seen.digest) == ("\\Windows\\x.sys", b"d" * 32)
    assert (seen.issuer, seen.publisher, seen.signer_sha1) == ("I", "P", b"s" * 20)
    assert seen.validated is Tri.ON


def test_values_of_another_length_say_nothing() -> None:
    """A flag of two bytes is counted and leaves the fact unknown."""
    seen = boot(container(sipa(SIPA.CODE_INTEGRITY, b"\1\0"), sipa(0x50099, b"")))
    assert seen.code_integrity is Tri.UNKNOWN
    assert seen.others == ((SIPA.CODE_INTEGRITY, 1), (0x50099, 1))


def test_no_windows() -> None:
    """A machine without Windows has none, a machine that did not quote is unknown."""
    line = Measurement(12, EventType.EV_IPL, "quiet\0".encode("utf-16-le"))
    assert windows(attested_log(line)).present is Tri.OFF
    assert windows(attested_log(line)).unread == ()
    assert windows(attested_log(line, attested=[4])).present is Tri.UNKNOWN
    assert windows(attested_log(line, ccel=True)).present is Tri.UNKNOWN


def test_notes_are_never_read() -> None:
    """TrustPoint's quote in EV_NO_ACTION says nothing (attack D25)."""
    note = Measurement(12, EventType.EV_NO_ACTION, BAD)
    assert windows(attested_log(note, *SEPARATORS)).present is Tri.OFF


def test_findings_are_bounded() -> None:
    """A log full of broken containers is noted in a few words."""
    seen = boot(*[Measurement(12, TAG, BAD[:-1])] * 100)
    assert len(seen.findings) == MAX_FINDINGS
    assert len(seen.unread) == 100
    assert {finding.id for finding in seen.findings} == {"boot.event.malformed-body"}
    assert {finding.effect for finding in seen.findings} == {Effect.NOTES}


@given(st.binary(max_size=120))
def test_any_container_is_read(data: bytes) -> None:
    """No bytes within a container make the reader raise."""
    boot(container(data), container(sipa(MODULE, data)))
