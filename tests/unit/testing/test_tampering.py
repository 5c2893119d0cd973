"""One event of a boot can be tampered with, for real or in the log only."""

from __future__ import annotations

import pytest

from bootlease.eventlog import EventRecord, EventType, parse_event_log, replay
from bootlease.model import HashAlg
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.tampering import Where, drop, find_event, insert, swap, tamper


@pytest.fixture
def boot() -> SimulatedBoot:
    """Return a good boot."""
    return simulate_boot(grub_description(), (HashAlg.SHA1, HashAlg.SHA256))


def replays(boot: SimulatedBoot) -> bool:
    """Tell whether the log that is presented leads to the PCRs that were extended."""
    return replay(parse_event_log(boot.event_log)).pcrs == boot.pcrs()


@pytest.mark.parametrize(
    ("pcr", "containing", "replacement"),
    [
        (8, b"kernel_cmdline", b"kernel_cmdline: /vmlinuz init=/bin/sh\0"),
        (0, b"", b"9\0\0\0"),
        (4, b"Calling", b"Calling EFI Application from Boot Option "),
    ],
)
def test_machine_tampering_follows_the_rule_of_the_digest(
    boot: SimulatedBoot, pcr: int, containing: bytes, replacement: bytes
) -> None:
    """On the machine new data brings new digests: log and PCRs agree, and differ from before."""
    number = find_event(boot, pcr=pcr, containing=containing)
    changed = tamper(boot, number, Where.MACHINE, data=replacement)
    assert replays(changed)
    assert changed.pcrs() != boot.pcrs()


def test_machine_tampering_with_a_boot_variable_hashes_its_value(boot: SimulatedBoot) -> None:
    """Firmware measures the value of a boot variable, not the whole structure."""
    number = find_event(boot, pcr=1)
    data = boot.events[number - 1].data + b"\x07\0"
    changed = tamper(boot, number, Where.MACHINE, data=data)
    assert changed.events[number - 1].digests[HashAlg.SHA256] == HashAlg.SHA256.digest(
        b"\x01\0\x07\0"
    )


def test_data_not_under_its_digest_needs_to_be_told_what_is_measured(boot: SimulatedBoot) -> None:
    """The digest of a boot application is over its image, which the log does not hold."""
    number = find_event(boot, pcr=4, containing=b"g\0r\0u\0b\0")
    with pytest.raises(ValueError, match="what is measured"):
        tamper(boot, number, Where.MACHINE, data=b"other")
    changed = tamper(boot, number, Where.MACHINE, measured=b"evil grub")
    assert replays(changed)


def test_forged_data_keeps_the_digest(boot: SimulatedBoot) -> None:
    """A log edited afterwards still replays: only the data lies (attack D1)."""
    number = find_event(boot, pcr=8, containing=b"kernel_cmdline")
    forged = tamper(boot, number, Where.LOG, data=b"kernel_cmdline: /vmlinuz harmless\0")
    assert forged.event_log != boot.event_log
    assert replays(forged)


def test_forged_digest_does_not_replay(boot: SimulatedBoot) -> None:
    """A log with another digest no longer leads to the PCRs."""
    assert not replays(tamper(boot, 1, Where.LOG, measured=b"other"))


def test_retyped_event_replays(boot: SimulatedBoot) -> None:
    """Nothing attests an event's type (attack D2)."""
    forged = tamper(boot, find_event(boot, pcr=7), Where.LOG, type=EventType.EV_EFI_ACTION)
    assert replays(forged)


@pytest.mark.parametrize("where", list(Where))
def test_dropped_event(boot: SimulatedBoot, where: Where) -> None:
    """A dropped event is missing from the log; the machine follows only if it is told to."""
    changed = drop(boot, 5, where)
    assert len(parse_event_log(changed.event_log).events) == len(boot.events)
    assert replays(changed) is (where is Where.MACHINE)


def test_inserted_event(boot: SimulatedBoot) -> None:
    """An event can be put behind the last one."""
    digests = {bank: bank.digest(b"x") for bank in boot.banks}
    event = EventRecord(4, EventType.EV_IPL, digests, b"x")
    changed = insert(boot, len(boot.events) + 1, Where.MACHINE, event)
    assert changed.events[-1] == event
    assert replays(changed)


def test_swapped_events_of_one_pcr_do_not_replay(boot: SimulatedBoot) -> None:
    """The order within a PCR is attested."""
    assert not replays(swap(boot, 4, 5, Where.LOG))


def test_swapped_events_of_two_pcrs_replay(boot: SimulatedBoot) -> None:
    """The order across PCRs is not attested (attack D14)."""
    assert replays(swap(boot, 3, 4, Where.LOG))


def test_unknown_event_is_refused(boot: SimulatedBoot) -> None:
    """Event 0 is the Spec ID event, which extends nothing."""
    with pytest.raises(ValueError, match="events 1 to"):
        drop(boot, 0, Where.LOG)
