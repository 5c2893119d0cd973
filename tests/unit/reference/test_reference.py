"""Reference sets: learning, comparing, and naming the event that differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from bootlease.errors import VerificationError
from bootlease.eventlog import EventRecord, EventType, ReplayedLog, parse_event_log, replay
from bootlease.model import Effect, Finding, HashAlg
from bootlease.reference import (
    EventsReference,
    KnownEvent,
    ReferenceSet,
    ValueReference,
    appraise_reference,
    diff,
    expected_value,
    learn,
    note_unknown_names,
)
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.tampering import Where, drop, find_event, insert, swap, tamper

BANK = HashAlg.SHA256
PCRS = (0, 2, 4, 7, 8)
NOW = 1_800_000_000


@pytest.fixture(scope="module")
def boot() -> SimulatedBoot:
    """The golden boot."""
    return simulate_boot(grub_description())


def replayed(boot: SimulatedBoot) -> ReplayedLog:
    """Return the log of a boot."""
    return replay(parse_event_log(boot.event_log))


def learned(boot: SimulatedBoot, match_events: Sequence[int] = (), **changes: str) -> ReferenceSet:
    """Learn a set."""
    names: dict[str, Any] = {"name": "debian-12", "version": "1", **changes}
    return learn(replayed(boot), None, bank=BANK, pcrs=PCRS, match_events=match_events, **names)


def findings(
    boot: SimulatedBoot, *references: ReferenceSet, pcrs: Sequence[int] = PCRS, now: int = NOW
) -> list[Finding]:
    """Compare a boot whose PCRs are what its own events lead to."""
    log = replayed(boot)
    quoted = {BANK: {pcr: expected_value(log, BANK, pcr) for pcr in range(24)}}
    outcome = appraise_reference(log, quoted, references, {BANK: tuple(pcrs)}, now=now)
    assert (outcome.reference is None) == bool(outcome.findings)
    assert outcome.considered == tuple(reference.digest for reference in references)
    return list(outcome.findings)


def ids(found: Sequence[Finding]) -> list[str]:
    """Return the ids."""
    return [finding.id for finding in found]


MODES = pytest.mark.parametrize("match_events", [(), PCRS], ids=["by value", "by events"])


@MODES
def test_the_golden_boot_matches(boot: SimulatedBoot, match_events: Sequence[int]) -> None:
    """What was learned is accepted."""
    assert findings(boot, learned(boot, match_events)) == []


@MODES
def test_another_boot_application_is_named(
    boot: SimulatedBoot, match_events: Sequence[int]
) -> None:
    """A refusal says which event it is, by number, PCR, path and digest."""
    number = find_event(boot, pcr=4, containing="grubx64".encode("utf-16-le"))
    event = boot.events[number - 1]
    other = dataclasses.replace(event, digests={BANK: BANK.digest(b"evil")})
    changed = boot_of_events([*boot.events[: number - 1], other, *boot.events[number:]], (BANK,))
    (finding,) = findings(changed, learned(boot, match_events))
    assert finding.id == "eventlog.pcr4.unknown-boot-application"
    assert finding.message == (
        f"event {number}, PCR 4: boot application \\EFI\\debian\\grubx64.efi, digest "
        f"{BANK.digest(b'evil').hex()[:16]}… is not in reference debian-12 1"
    )
    assert (finding.pcr, finding.event) == (4, number)
    assert event.digests[BANK].hex() in (finding.expected or "")
    assert BANK.digest(b"evil").hex() in (finding.seen or "")


@MODES
def test_a_missing_event_is_named(boot: SimulatedBoot, match_events: Sequence[int]) -> None:
    """What did not happen is a difference too."""
    number = find_event(boot, pcr=4, containing="shimx64".encode("utf-16-le"))
    (finding,) = findings(drop(boot, number, Where.MACHINE), learned(boot, match_events))
    assert finding.id == "eventlog.pcr4.missing-boot-application"
    assert "shimx64.efi" in finding.message


@MODES
def test_another_order_is_named(boot: SimulatedBoot, match_events: Sequence[int]) -> None:
    """The same events in another order are another boot."""
    first = find_event(boot, pcr=4, containing="shimx64".encode("utf-16-le"))
    second = find_event(boot, pcr=4, containing="grubx64".encode("utf-16-le"))
    (finding,) = findings(swap(boot, first, second, Where.MACHINE), learned(boot, match_events))
    assert finding.id == "eventlog.pcr4.order-changed"
    assert "grubx64.efi" in finding.message


@MODES
def test_an_added_event_is_named(boot: SimulatedBoot, match_events: Sequence[int]) -> None:
    """An event of a type of its own is unknown as well."""
    extra = EventRecord(2, 0x1234, {BANK: BANK.digest(b"rom")}, b"rom")
    changed = insert(boot, len(boot.events), Where.MACHINE, extra)
    (finding,) = findings(changed, learned(boot, match_events))
    assert finding.id == "eventlog.pcr2.unknown-event"


def test_a_retyped_event_loses_its_match(boot: SimulatedBoot) -> None:
    """The type is not attested, so it is compared and never trusted (attack D2)."""
    number = find_event(boot, pcr=7)
    event = dataclasses.replace(boot.events[number - 1], type=int(EventType.EV_EFI_ACTION))
    changed = boot_of_events([*boot.events[: number - 1], event, *boot.events[number:]], (BANK,))
    assert "eventlog.pcr7.unknown-action" in ids(findings(changed, learned(boot, PCRS)))


def test_untrue_text_is_said_to_be_untrue(boot: SimulatedBoot) -> None:
    """A command line edited in the log alone does not become the reason (attack D1)."""
    reference = learned(simulate_boot(grub_description().with_command_line("quiet")), (8,))
    number = find_event(boot, pcr=8, containing=b"kernel_cmdline")
    edited = tamper(boot, number, Where.LOG, data=b"kernel_cmdline: /vmlinuz quiet")
    event = next(each for each in replayed(edited).log.events if each.number == number)
    if event.digest(BANK) != boot.events[number - 1].digests[BANK]:
        pytest.fail("the log was to lie about its data only")
    found = [each for each in findings(edited, reference, pcrs=(8,)) if each.event == number]
    assert "not what was measured" in found[0].message


def test_log_text_cannot_drive_a_terminal(boot: SimulatedBoot) -> None:
    """Control characters of an untrusted log are escaped in every message and description."""
    data = b"\x1b[2J\nbootlease: accepted"
    extra = EventRecord(8, int(EventType.EV_IPL), {BANK: BANK.digest(data)}, data)
    changed = insert(boot, len(boot.events), Where.MACHINE, extra)
    (finding,) = findings(changed, learned(boot, (8,)))
    assert finding.message.isprintable()
    assert learned(changed).pcrs[8].events[-1].description.isprintable()


def test_events_that_need_not_happen_may_be_absent(boot: SimulatedBoot) -> None:
    """An event known but not required is optional."""
    reference = learned(boot, PCRS)
    number = find_event(boot, pcr=4, containing="shimx64".encode("utf-16-le"))
    digest = boot.events[number - 1].digests[BANK]
    optional = EventsReference(
        tuple(
            dataclasses.replace(event, required=event.digest != digest)
            for event in reference.pcrs[4].events
        )
    )
    relaxed = dataclasses.replace(reference, pcrs={**reference.pcrs, 4: optional})
    assert findings(drop(boot, number, Where.MACHINE), relaxed) == []


def test_a_pcr_the_reference_does_not_constrain_is_refused(boot: SimulatedBoot) -> None:
    """Silence is not acceptance."""
    found = findings(boot, learned(boot), pcrs=(0, 7, 9))
    assert ids(found) == ["reference.pcr.unconstrained"]
    assert found[0].pcr == 9


def test_no_reference_at_all_is_refused(boot: SimulatedBoot) -> None:
    """Nothing to compare with is not "anything goes" (attack D21)."""
    assert ids(findings(boot)) == ["reference.none"]


def test_a_reference_of_another_bank_is_refused(boot: SimulatedBoot) -> None:
    """A set of a bank that is not quoted proves nothing."""
    value = ValueReference((bytes(48),))
    other = ReferenceSet("other", "1", HashAlg.SHA384, {0: value})
    assert ids(findings(boot, other)) == ["reference.bank.mismatch"]


@pytest.mark.parametrize(
    ("not_before", "not_after", "good"),
    [(NOW, NOW, True), (NOW + 1, None, False), (None, NOW - 1, False), (None, None, True)],
)
def test_a_set_counts_in_its_time(
    boot: SimulatedBoot, not_before: int | None, not_after: int | None, *, good: bool
) -> None:
    """Old references leave by themselves."""
    limited = dataclasses.replace(learned(boot), not_before=not_before, not_after=not_after)
    assert ids(findings(boot, limited)) == ([] if good else ["reference.not-valid"])


def test_old_and_new_sets_overlap(boot: SimulatedBoot) -> None:
    """Any accepted set is enough: a kernel update does not stop the fleet."""
    new = simulate_boot(grub_description().with_command_line("root=/dev/vda1 quiet"))
    sets = learned(boot), learned(new, version="2")
    assert findings(boot, *sets) == []
    assert findings(new, *sets) == []


def test_the_nearest_set_explains(boot: SimulatedBoot) -> None:
    """With several sets, the refusal speaks of the one that nearly matched."""
    far = learned(simulate_boot(grub_description().with_secure_boot(enabled=False)), name="far")
    number = find_event(boot, pcr=4, containing="grubx64".encode("utf-16-le"))
    changed = tamper(boot, number, Where.MACHINE, digests={BANK: BANK.digest(b"evil")})
    (finding,) = findings(changed, far, learned(boot))
    assert "debian-12" in finding.message


def test_findings_of_one_pcr_are_bounded(boot: SimulatedBoot) -> None:
    """A log of thousands of strangers makes a readable refusal."""
    extra = [
        EventRecord(8, int(EventType.EV_IPL), {BANK: BANK.digest(b"%d" % number)}, b"x")
        for number in range(1000)
    ]
    changed = boot_of_events([*boot.events, *extra], (BANK,))
    found = findings(changed, learned(boot, (8,)))
    assert len(found) < 40
    assert found[-1].id == "eventlog.pcr8.unknown-more"
    assert "967" in found[-1].message


def test_several_good_values_need_no_events(boot: SimulatedBoot) -> None:
    """A value learned elsewhere, without events, is compared as a value."""
    reference = ReferenceSet("values", "1", BANK, {0: ValueReference((bytes(32), b"\1" * 32))})
    (finding,) = findings(boot, reference, pcrs=(0,))
    assert finding.id == "reference.pcr0.value-mismatch"


def test_learning_demands_agreement_with_the_quote(boot: SimulatedBoot) -> None:
    """A log that does not explain the PCRs teaches nothing."""
    log = replayed(boot)
    quoted = {BANK: {**boot.pcrs()[BANK], 4: bytes(32)}}
    with pytest.raises(VerificationError) as refused:
        learn(log, quoted, name="x", version="1", bank=BANK, pcrs=PCRS)
    assert [each.id for each in refused.value.findings] == ["eventlog.pcr4.replay-mismatch"]
    good = learn(log, boot.pcrs(), name="x", version="1", bank=BANK, pcrs=PCRS)
    assert good.pcrs[4] == learned(boot).pcrs[4]


def test_learning_demands_the_bank(boot: SimulatedBoot) -> None:
    """A bank that the log lacks cannot be learned."""
    with pytest.raises(VerificationError) as refused:
        learn(replayed(boot), None, name="x", version="1", bank=HashAlg.SHA384)
    assert refused.value.findings[0].id == "eventlog.bank.missing"


def test_an_unextended_pcr_is_learned_at_its_reset_value(boot: SimulatedBoot) -> None:
    """Nothing measured is itself a fact: zeros, ones for PCR 17 to 22, locality in PCR 0."""
    log = replayed(boot)
    assert expected_value(log, BANK, 12) == bytes(32)
    assert expected_value(log, BANK, 17) == b"\xff" * 32


def test_learning_by_events_needs_events(boot: SimulatedBoot) -> None:
    """An empty set of known events would be a set that knows nothing."""
    with pytest.raises(ValueError, match="measures nothing into PCR 12"):
        learn(
            replayed(boot), None, name="x", version="1", bank=BANK, pcrs=(12,), match_events=(12,)
        )
    with pytest.raises(ValueError, match="not to be learned"):
        learn(replayed(boot), None, name="x", version="1", bank=BANK, pcrs=(0,), match_events=(12,))


def test_the_digest_is_of_the_content(boot: SimulatedBoot) -> None:
    """Equal content, equal identity; anything else differs."""
    one = learned(boot)
    backwards = dataclasses.replace(
        one, pcrs={pcr: one.pcrs[pcr] for pcr in sorted(one.pcrs, reverse=True)}
    )
    assert backwards.digest == one.digest
    others = [
        dataclasses.replace(one, name="other"),
        dataclasses.replace(one, version="2"),
        dataclasses.replace(one, not_after=1),
        dataclasses.replace(one, pcrs={0: one.pcrs[0]}),
        learned(boot, (4,)),
    ]
    assert len({each.digest for each in (one, *others)}) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Upper"},
        {"name": ""},
        {"version": "a b"},
        {"pcrs": {}},
        {"pcrs": {24: ValueReference((bytes(32),))}},
        {"pcrs": {0: ValueReference((bytes(31),))}},
        {"pcrs": {0: EventsReference((KnownEvent(1, bytes(20), "", required=True),))}},
        {"pcrs": {0: EventsReference((KnownEvent(1 << 32, bytes(32), "", required=True),))}},
        {"pcrs": {0: EventsReference((KnownEvent(1, bytes(32), "\x1b", required=True),))}},
        {"bank": HashAlg.SHA1, "pcrs": {0: ValueReference((bytes(20),))}},
        {"not_before": 2, "not_after": 1},
    ],
)
def test_a_set_is_valid_by_construction(boot: SimulatedBoot, changes: dict[str, object]) -> None:
    """What must not be compared with cannot be made."""
    with pytest.raises(ValueError):  # noqa: PT011 - each case has its own words
        dataclasses.replace(learned(boot), **changes)  # type: ignore[arg-type]  # any field


def test_empty_and_repeated_members_are_errors() -> None:
    """An empty set never means "anything"."""
    event = KnownEvent(1, bytes(32), "", required=True)
    for make in (
        lambda: ValueReference(()),
        lambda: ValueReference((b"", b"")),
        lambda: EventsReference(()),
        lambda: EventsReference((event, event)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - likewise
            make()


def test_diff_says_what_changed(boot: SimulatedBoot) -> None:
    """A person reads what a kernel update changed."""
    new = simulate_boot(grub_description().with_command_line("root=/dev/vda1 debug"))
    lines = [str(each) for each in diff(learned(boot, (8,)), learned(new, version="2"))]
    assert lines[0] == "~ version (1 -> 2)"
    assert "~ PCR 8: match (events -> value)" in lines
    assert any(line.startswith("- PCR 8: kernel command line: ") for line in lines)
    assert any(line.startswith("+ PCR 8: ") and "debug" in line for line in lines)
    assert diff(learned(boot), learned(boot)) == ()


def test_diff_names_pcrs_that_come_and_go(boot: SimulatedBoot) -> None:
    """What is no longer constrained is the first thing to see."""
    one = learned(boot)
    fewer = dataclasses.replace(one, pcrs={0: one.pcrs[0]})
    assert {each.what for each in diff(one, fewer)} == {"is no longer constrained"}
    assert {each.what for each in diff(fewer, one)} == {"is now constrained"}
    assert diff(one, fewer)[0].as_dict() == {
        "change": "removed",
        "what": "is no longer constrained",
        "pcr": 2,
    }


def test_diff_sees_order_and_obligation(boot: SimulatedBoot) -> None:
    """Order and "required" are content."""
    one = learned(boot, (4,))
    events = one.pcrs[4].events
    turned = dataclasses.replace(one, pcrs={**one.pcrs, 4: EventsReference(events[::-1])})
    assert [each.what for each in diff(one, turned)] == ["the order of its events"]
    free = EventsReference((dataclasses.replace(events[0], required=False), *events[1:]))
    relaxed = dataclasses.replace(one, pcrs={**one.pcrs, 4: free})
    assert [each.what for each in diff(one, relaxed)] == [
        f"{events[0].description} is no longer required"
    ]


def test_an_accepted_name_that_nothing_has_is_found(boot: SimulatedBoot) -> None:
    """A typo in a policy shows."""
    (finding,) = note_unknown_names(
        ("debian-12", "debian-21"), [learned(boot)], effect=Effect.NOTES
    )
    assert (finding.id, finding.expected) == ("reference.name.unknown", "debian-21")


def test_missing_events_of_one_pcr_are_bounded(boot: SimulatedBoot) -> None:
    """A long reference beside a short log makes a readable refusal too."""
    known = tuple(
        KnownEvent(int(EventType.EV_IPL), BANK.digest(b"%d" % number), "x", required=True)
        for number in range(1000)
    )
    reference = ReferenceSet("long", "1", BANK, {12: EventsReference(known)})
    found = findings(boot, reference, pcrs=(12,))
    assert len(found) == 33
    assert found[-1].id == "eventlog.pcr12.missing-more"
    assert "968" in found[-1].message


def test_one_message_is_bounded(boot: SimulatedBoot) -> None:
    """Escaped text of an untrusted log does not swell the record of a refusal."""
    data = ("\U000e0001" * 1000).encode()
    extra = EventRecord(8, int(EventType.EV_IPL), {BANK: BANK.digest(data)}, data)
    changed = insert(boot, len(boot.events), Where.MACHINE, extra)
    (finding,) = findings(changed, learned(boot, (8,)))
    assert len(finding.message) < 1200
