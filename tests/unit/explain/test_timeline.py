"""The timeline: what became of every event, and which reference is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootlease.eventlog import EventRecord, EventType, parse_event_log, replay
from bootlease.explain import Status
from bootlease.explain.boot import Boot
from bootlease.explain.timeline import MAX_EVENTS, compare, nearest, timeline
from bootlease.explain.values import PCRTimeline
from bootlease.model import Finding, HashAlg
from bootlease.policy import parse_policy
from bootlease.reference import ReferenceSet, ValueReference, appraise_reference, learn
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.scene import POLICY
from bootlease.testing.tampering import Where, drop, find_event, insert, swap

BANK = HashAlg.SHA256
RULES = parse_policy(POLICY)


def good() -> SimulatedBoot:
    """Return the boot that references are learned from."""
    return simulate_boot(grub_description())


def learned(
    boot: SimulatedBoot, match_events: Sequence[int] = (), *, command_line: bool = False
) -> ReferenceSet:
    """Learn a boot."""
    pcrs = (*range(10), 11, 12, 14) if command_line else (*range(10), 14)
    return learn(
        *(replay(parse_event_log(boot.event_log)), None),
        name="golden",
        version="1",
        bank=BANK,
        pcrs=pcrs,
        match_events=match_events,
        command_line=command_line,
    )


def booted(boot: SimulatedBoot, **changed: bytes) -> Boot:
    """Return a boot as a quote shows it, some PCRs extended once more."""
    values = {pcr: bytes(32) for pcr in range(16)} | dict(boot.pcrs()[BANK])
    for name, data in changed.items():
        pcr = int(name.removeprefix("pcr"))
        values[pcr] = BANK.digest(values[pcr] + BANK.digest(data))
    return Boot.of(replay(parse_event_log(boot.event_log)), {BANK: values}, RULES)


def lines(boot: Boot, references: Sequence[ReferenceSet]) -> dict[int, PCRTimeline]:
    """Return the timeline by PCR."""
    compared = compare(boot, references, 0)
    assert compared is not None
    outcome = appraise_reference(
        boot.replayed, boot.quoted, references, boot.required, now=0, facts=boot.facts
    )
    return {each.pcr: each for each in timeline(boot, compared, outcome.findings)}


def status(line: PCRTimeline, number: int) -> Status:
    """Return what became of an event."""
    return next(event.status for event in line.events if event.number == number)


def driver() -> EventRecord:
    """Return an event that no reference has."""
    digest = {BANK: BANK.digest(b"a driver")}
    return EventRecord(2, EventType.EV_EFI_BOOT_SERVICES_DRIVER, digest, b"")


@pytest.mark.parametrize("match_events", [(), (2,)])
def test_an_event_that_no_reference_has_is_unknown(match_events: Sequence[int]) -> None:
    """One event more is unknown; those beside it stay approved."""
    boot = insert(good(), find_event(good(), pcr=2), Where.MACHINE, driver())
    number = find_event(good(), pcr=2)
    line = lines(booted(boot), [learned(good(), match_events)])[2]
    assert line.counts == {Status.UNKNOWN: 1, Status.APPROVED: 1}
    assert status(line, number) is Status.UNKNOWN


def test_an_event_that_did_not_happen_is_missing() -> None:
    """What the reference expects and nobody measured is named."""
    number = find_event(good(), pcr=1, containing="Boot0001".encode("utf-16-le"))
    line = lines(booted(drop(good(), number, Where.MACHINE)), [learned(good())])[1]
    assert len(line.missing) == 1
    assert "Boot0001" in line.missing[0]
    assert line.counts.keys() == {Status.APPROVED}


def test_events_in_another_order_are_told_by_the_finding() -> None:
    """Of the same events in another order, the one that comes too early is refused."""
    first = find_event(good(), pcr=1)
    line = lines(booted(swap(good(), first, first + 1, Where.MACHINE)), [learned(good())])[1]
    assert line.counts == {Status.REFUSED: 1, Status.APPROVED: 2}


def test_an_event_that_breaks_a_rule_is_refused() -> None:
    """A kernel parameter that a rule does not allow refuses its event, known or not."""
    description = grub_description()
    other = simulate_boot(description.with_command_line(f"{description.command_line} init=/bin/sh"))
    reference = learned(good(), (8,), command_line=True)
    rules = parse_policy(POLICY.replace("9, 14]", "9, 11, 12, 14]"))
    values = {pcr: bytes(32) for pcr in range(16)} | dict(other.pcrs()[BANK])
    boot = Boot.of(replay(parse_event_log(other.event_log)), {BANK: values}, rules)
    line = lines(boot, [reference])[8]
    (refused,) = [event for event in line.events if event.status is Status.REFUSED]
    assert "init=/bin/sh" in refused.text
    assert "reference.boot.command-line-not-allowed" in refused.findings


def test_events_that_rules_judge_are_approved() -> None:
    """A dbx that grew is nobody's surprise where the reference has a rule on it."""
    description = grub_description()
    dbx = (*description.secure_boot.dbx, "one more")
    grown = replace(description, secure_boot=replace(description.secure_boot, dbx=dbx))
    found = lines(booted(simulate_boot(grown)), [learned(good(), (7,))])[7]
    assert found.counts.keys() == {Status.APPROVED}


def test_a_pcr_that_the_log_does_not_lead_to_is_unattested() -> None:
    """Its events are nobody's word, and nothing is missing from them."""
    line = lines(booted(good(), pcr14=b"later"), [learned(good())])[14]
    assert (line.attested, line.missing) == (False, ())
    assert line.counts == {Status.UNATTESTED: 3}


def test_a_pcr_that_was_not_quoted_is_unattested() -> None:
    """What the quote leaves out proves nothing of the log."""
    made = booted(good())
    values = {pcr: value for pcr, value in made.quoted[BANK].items() if pcr != 4}
    boot = Boot(made.replayed, {BANK: values}, made.required)
    line = lines(boot, [learned(good())])[4]
    assert line.why == "the quote does not cover this PCR"


def test_a_pcr_that_policy_does_not_demand_is_unattested() -> None:
    """Policy's demand decides what an explanation rests on, as it decides for the appraisal."""
    made = booted(good())
    required = {BANK: tuple(pcr for pcr in made.required[BANK] if pcr != 5)}
    line = lines(Boot(made.replayed, made.quoted, required), [learned(good())])[5]
    assert line.why == "the policy does not demand this PCR"


def test_the_nearest_reference_is_the_appraisal_s() -> None:
    """Of several sets the one with the fewest misses is compared, and how far the others are."""
    description = grub_description()
    line = f"{description.command_line} init=/bin/sh"
    far = learned(simulate_boot(description.with_secure_boot(enabled=False)))
    near = learned(good())
    boot = booted(simulate_boot(description.with_command_line(line)))
    compared = compare(boot, [far, near], 0)
    assert compared is not None
    found = nearest(compared, list(lines(boot, [far, near]).values()))
    assert found is not None
    assert found.digest == near.digest
    assert (found.misses, found.missing) == (3, 3)
    assert (found.known, found.measured) == (38, 41)
    assert [label for label, _ in found.others] == ["golden 1"]
    assert found.others[0][1] > 3


def test_without_a_reference_everything_is_unknown() -> None:
    """Where none is registered, nothing is near and nothing approved."""
    boot = booted(good())
    compared = compare(boot, [], 0)
    assert compared is not None
    shown = timeline(boot, compared, ())
    assert nearest(compared, shown) is None
    assert {status for each in shown for status in each.counts} == {Status.UNKNOWN}


def test_a_log_without_the_demanded_bank_attests_nothing() -> None:
    """There is nothing to compare in another bank."""
    boot = simulate_boot(grub_description(), (HashAlg.SHA384,))
    values = {BANK: {pcr: bytes(32) for pcr in range(16)}}
    assert compare(Boot.of(replay(parse_event_log(boot.event_log)), values, RULES), [], 0) is None


def test_a_value_that_is_listed_approves_all_that_led_there() -> None:
    """A set that lists values without events still approves a PCR that has one of them."""
    whole = learned(good())
    bare = {
        pcr: ValueReference(each.values)
        for pcr, each in whole.pcrs.items()
        if isinstance(each, ValueReference)
    }
    shown = lines(booted(good()), [replace(whole, pcrs=bare)])
    assert {status for each in shown.values() for status in each.counts} == {Status.APPROVED}


def test_a_long_log_is_cut_and_counted() -> None:
    """A log decides how many events there are, not how many are shown."""
    number = find_event(good(), pcr=2)
    boot = good()
    more = [driver()] * (MAX_EVENTS + 7)
    events = (*boot.events[: number - 1], *more, *boot.events[number - 1 :])
    from bootlease.testing.boot import boot_of_events  # noqa: PLC0415 - for this test alone

    line = lines(booted(boot_of_events(events, (BANK,))), [learned(good())])[2]
    assert (len(line.events), line.left_out) == (MAX_EVENTS, 8)
    assert line.counts[Status.UNKNOWN] == MAX_EVENTS + 7


def test_a_finding_about_ima_names_no_event_of_the_log() -> None:
    """Entries of an IMA list have numbers of their own."""
    boot = booted(good())
    compared = compare(boot, [learned(good())], 0)
    assert compared is not None
    finding = Finding("ima.file.unlisted", "A file.", pcr=10, event=1)
    shown = timeline(boot, compared, (finding,))
    assert {status for each in shown for status in each.counts} == {Status.APPROVED}
