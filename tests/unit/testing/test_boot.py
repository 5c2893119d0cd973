"""A simulated boot writes a log that replays to the PCRs it leads to."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event_log,
    parse_event_log,
    replay,
    verified_data,
)
from bootlease.model import HashAlg
from bootlease.testing.boot import recorded_boot, simulate_boot
from bootlease.testing.boot_description import BootDescription
from bootlease.testing.examples import grub_description, uki_description

BANKS = (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384)
DESCRIPTIONS = [grub_description(), uki_description()]
by_name = pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda item: item.name)


def changed_pcrs(before: BootDescription, after: BootDescription) -> set[int]:
    """Return the PCRs in which two boots differ."""
    old = simulate_boot(before).pcrs()[HashAlg.SHA256]
    new = simulate_boot(after).pcrs()[HashAlg.SHA256]
    return {pcr for pcr in old.keys() | new.keys() if old.get(pcr) != new.get(pcr)}


@by_name
def test_log_replays_to_the_pcrs_in_every_bank(description: BootDescription) -> None:
    """The parser and replayer of the product arrive at the simulator's PCRs."""
    boot = simulate_boot(description, BANKS)
    assert replay(parse_event_log(boot.event_log)).pcrs == boot.pcrs()


@by_name
def test_same_description_measures_the_same(description: BootDescription) -> None:
    """A reference learned from one boot fits the next."""
    assert simulate_boot(description).event_log == simulate_boot(description).event_log


def test_startup_locality_is_in_the_log_and_in_pcr_0() -> None:
    """A machine that starts its TPM from locality 3 says so, and replays."""
    description = grub_description()
    firmware = dataclasses.replace(description.firmware, startup_locality=3)
    boot = simulate_boot(dataclasses.replace(description, firmware=firmware), BANKS)
    log = parse_event_log(boot.event_log)
    assert log.startup_locality == 3
    assert replay(log).pcrs == boot.pcrs()


def test_grub_command_line_changes_pcrs_8_and_9() -> None:
    """A changed grub.cfg shows in the commands and in the file that GRUB read."""
    description = grub_description()
    changed = description.with_command_line("root=/dev/vda1 init=/bin/sh")
    assert changed_pcrs(description, changed) == {8, 9}


def test_uki_command_line_changes_pcrs_4_9_and_11() -> None:
    """A unified kernel image with another command line is another image."""
    description = uki_description()
    changed = description.with_command_line("root=/dev/vda1 init=/bin/sh")
    assert changed_pcrs(description, changed) == {4, 9, 11}


def test_secure_boot_off_changes_pcr_7() -> None:
    """Without Secure Boot the variable says 0 and no authority is measured."""
    description = grub_description()
    off = description.with_secure_boot(enabled=False)
    assert changed_pcrs(description, off) == {7}
    authorities = [
        event
        for event in simulate_boot(off).events
        if event.type == EventType.EV_EFI_VARIABLE_AUTHORITY
    ]
    assert [b"S\0b\0a\0t\0" in event.data for event in authorities] == [True]


def test_kernel_command_line_is_covered_by_its_digest() -> None:
    """The event that names the command line is one whose digest proves its text."""
    log = parse_event_log(simulate_boot(grub_description()).event_log)
    event = next(e for e in log.events if e.unverified_data.startswith(b"kernel_cmdline: "))
    assert verified_data(event, HashAlg.SHA256) is not None


def test_recorded_log_boots_as_it_was_recorded() -> None:
    """A recorded log is presented byte for byte, and its digests extend the PCRs."""
    original = simulate_boot(uki_description(), BANKS)
    again = recorded_boot(original.event_log)
    assert again.event_log == original.event_log
    assert again.pcrs() == original.pcrs()
    assert again.events == original.events


def test_recorded_log_with_h_crtm_is_refused() -> None:
    """A boot measured before TPM2_Startup cannot be simulated, and says so."""
    digest = {HashAlg.SHA256: HashAlg.SHA256.digest(b"crtm")}
    event = EventRecord(0, EventType.EV_EFI_HCRTM_EVENT, digest, b"HCRTM")
    with pytest.raises(ValueError, match="H-CRTM"):
        recorded_boot(encode_event_log([event], [HashAlg.SHA256]))
