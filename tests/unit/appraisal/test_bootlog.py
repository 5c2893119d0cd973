"""Replay against the quote, and the separators that end firmware's measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootlease.appraisal import read_boot_log
from bootlease.appraisal.bootlog import check_replay, check_separators
from bootlease.errors import MalformedError
from bootlease.eventlog import EventRecord, EventType, ReplayedLog, parse_event_log, replay
from bootlease.model import Finding, HashAlg
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.tampering import Where, drop

BANK = HashAlg.SHA256
ALL = {BANK: tuple(range(16))}


@pytest.fixture(scope="module")
def boot() -> SimulatedBoot:
    """A sound boot."""
    return simulate_boot(grub_description())


def replayed(boot: SimulatedBoot) -> ReplayedLog:
    """Return the log of a boot."""
    return replay(parse_event_log(boot.event_log))


def ids(findings: Sequence[Finding]) -> list[str]:
    """Return the ids."""
    return [finding.id for finding in findings]


def separator(boot: SimulatedBoot, pcr: int) -> int:
    """Return the index of a PCR's separator among the events."""
    return next(
        number
        for number, event in enumerate(boot.events)
        if event.pcr == pcr and event.type == EventType.EV_SEPARATOR
    )


def with_event(boot: SimulatedBoot, number: int, **changes: object) -> SimulatedBoot:
    """Return the boot with one event changed on the machine."""
    event = dataclasses.replace(boot.events[number], **changes)  # type: ignore[arg-type]  # any
    return boot_of_events([*boot.events[:number], event, *boot.events[number + 1 :]], (BANK,))


def test_a_sound_boot_has_no_findings(boot: SimulatedBoot) -> None:
    """Log, PCRs and separators agree."""
    log = replayed(boot)
    quoted = {BANK: {pcr: boot.pcrs()[BANK].get(pcr, bytes(32)) for pcr in range(16)}}
    assert check_replay(log, quoted, ALL) == ()
    assert check_separators(log, ALL) == ()


def test_a_pcr_without_events_must_be_unextended(boot: SimulatedBoot) -> None:
    """What the log does not mention must not have happened."""
    quoted = {BANK: {**boot.pcrs()[BANK], 12: b"\1" * 32}}
    (finding,) = check_replay(replayed(boot), quoted, ALL)
    assert finding.id == "eventlog.pcr12.replay-mismatch"
    assert finding.message == (
        "PCR 12 was extended by something that the event log does not contain."
    )
    assert (finding.expected, finding.seen) == ("00" * 32, "01" * 32)


def test_a_log_ahead_of_the_pcr_is_told_apart(boot: SimulatedBoot) -> None:
    """Events that were never measured are another story than measurements never logged."""
    number = separator(boot, 4)
    shorter = boot_of_events(
        [event for at, event in enumerate(boot.events) if event.pcr != 4 or at <= number], (BANK,)
    )
    (finding,) = check_replay(replayed(boot), shorter.pcrs(), {BANK: (4,)})
    assert "events for PCR 4 that were never measured" in finding.message


def test_a_dropped_event_is_found(boot: SimulatedBoot) -> None:
    """A log shortened after the fact does not lead to the PCR (attack C1)."""
    log = replayed(drop(boot, separator(boot, 2) + 1, Where.LOG))
    assert ids(check_replay(log, boot.pcrs(), {BANK: (2,)})) == ["eventlog.pcr2.replay-mismatch"]


def test_only_demanded_banks_count(boot: SimulatedBoot) -> None:
    """A PCR does not pass on another bank's word (attack A7)."""
    log = replayed(boot)
    found = check_replay(log, boot.pcrs(), {HashAlg.SHA384: (0,)})
    assert ids(found) == ["eventlog.bank.missing"]


def test_a_missing_separator_is_found(boot: SimulatedBoot) -> None:
    """Without it, firmware's measurements never end (D4)."""
    log = replayed(drop(boot, separator(boot, 4) + 1, Where.MACHINE))
    assert ids(check_separators(log, ALL)) == ["eventlog.pcr4.separator-missing"]


def test_a_repeated_separator_is_found(boot: SimulatedBoot) -> None:
    """A second one would let the OS begin again (D3)."""
    log = replayed(boot_of_events([*boot.events, boot.events[separator(boot, 7)]], (BANK,)))
    assert ids(check_separators(log, ALL)) == ["eventlog.pcr7.separator-repeated"]


@pytest.mark.parametrize("data", [b"\xff" * 4, b"\1\0\0\0", bytes(5), b""])
def test_an_error_separator_is_found(boot: SimulatedBoot, data: bytes) -> None:
    """Firmware that reports an error has not measured what it should (D4)."""
    changed = with_event(boot, separator(boot, 5), data=data, digests={BANK: BANK.digest(data)})
    assert ids(check_separators(replayed(changed), ALL)) == ["eventlog.pcr5.separator-invalid"]


def test_a_retyped_separator_is_found(boot: SimulatedBoot) -> None:
    """The digest says separator whatever the type says (D3)."""
    changed = with_event(boot, separator(boot, 7), type=int(EventType.EV_EFI_ACTION))
    assert ids(check_separators(replayed(changed), ALL)) == ["eventlog.pcr7.separator-retyped"]


def test_a_pcr_the_log_does_not_extend_needs_no_separator(boot: SimulatedBoot) -> None:
    """A platform that measures nothing into a PCR is not refused for it here."""
    without = [event for event in boot.events if event.pcr != 6]
    assert check_separators(replayed(boot_of_events(without, (BANK,))), ALL) == ()


def test_pcrs_above_7_have_no_separators(boot: SimulatedBoot) -> None:
    """They belong to boot loader and operating system."""
    extra = EventRecord(9, int(EventType.EV_IPL), {BANK: BANK.digest(b"x")}, b"x")
    assert check_separators(replayed(boot_of_events([*boot.events, extra], (BANK,))), ALL) == ()


def test_a_log_that_does_not_parse_is_kept_as_the_reason() -> None:
    """Reading a log never raises: the decision needs the reason."""
    assert isinstance(read_boot_log(b"").content, MalformedError)


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("separator_missing_pcr4.bin", "eventlog.pcr4.separator-missing"),
        ("sb_separator_retyped.bin", "eventlog.pcr7.separator-retyped"),
        ("separator_dup_pcr7.bin", "eventlog.pcr7.separator-repeated"),
        ("separator_error.bin", "separator-invalid"),
    ],
)
def test_the_recorded_attacks_on_separators(corpus: Path, name: str, finding: str) -> None:
    """Logs that replay, forged by the book (D3, D4)."""
    content = read_boot_log((corpus / "attack-logs" / name).read_bytes()).content
    assert isinstance(content, ReplayedLog)
    bank = max(content.pcrs)
    found = ids(check_separators(content, {bank: tuple(range(8))}))
    assert any(each.endswith(finding) for each in found)
