"""What differs between two boots."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootlease.eventlog import EventRecord, EventType, parse_event_log, replay
from bootlease.explain.boot import Boot
from bootlease.explain.changes import MAX_CHANGES, compare_boots
from bootlease.explain.facts import MAX_ITEMS
from bootlease.model import HashAlg
from bootlease.policy import parse_policy
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.boot_description import BootDescription
from bootlease.testing.examples import grub_description, uki_description
from bootlease.testing.scene import POLICY
from bootlease.testing.tampering import Where, drop, find_event, insert, swap, tamper

BANK = HashAlg.SHA256


def booted(boot: SimulatedBoot) -> Boot:
    """Return a boot as a quote shows it."""
    values = {pcr: bytes(32) for pcr in range(16)} | dict(boot.pcrs()[BANK])
    replayed = replay(parse_event_log(boot.event_log))
    return Boot.of(replayed, {BANK: values}, parse_policy(POLICY))


def good() -> SimulatedBoot:
    """Return the earlier boot."""
    return simulate_boot(grub_description())


def other(description: BootDescription) -> dict[str, tuple[str | None, str | None]]:
    """Return how the meaning of a boot differs from the good one's."""
    changes = compare_boots(booted(good()), booted(simulate_boot(description)))
    return {each.what: (each.before, each.after) for each in changes.meaning}


def test_equal_boots_do_not_differ() -> None:
    """Of the same boot twice nothing is told."""
    changes = compare_boots(booted(good()), booted(good()))
    assert changes.as_dict() == {"meaning": [], "events": [], "pcrs": []}


def test_an_event_put_for_another_is_one_change() -> None:
    """What was there before is told beside what came."""
    number = find_event(good(), pcr=4, containing="grubx64".encode("utf-16-le"))
    after = tamper(good(), number, Where.MACHINE, measured=b"another GRUB")
    (change,) = compare_boots(booted(good()), booted(after)).events
    assert (change.pcr, change.event) == (4, number)
    assert change.before is not None
    assert change.after is not None
    assert "grubx64.efi" in change.before
    assert BANK.digest(b"another GRUB").hex()[:16] in change.after


def test_events_come_and_go() -> None:
    """An event more is new, an event less is gone."""
    number = find_event(good(), pcr=2)
    event = EventRecord(
        2, EventType.EV_EFI_BOOT_SERVICES_DRIVER, {BANK: BANK.digest(b"driver")}, b""
    )
    more = insert(good(), number, Where.MACHINE, event)
    (new,) = compare_boots(booted(good()), booted(more)).events
    assert (new.before, new.event) == (None, number)
    (gone,) = compare_boots(booted(more), booted(good())).events
    assert (gone.after, gone.event) == (None, None)


def test_an_event_measured_twice_is_new_once() -> None:
    """How often an event was measured counts."""
    number = find_event(good(), pcr=5)
    twice = insert(good(), number, Where.MACHINE, good().events[number - 1])
    (change,) = compare_boots(booted(good()), booted(twice)).events
    assert change.before is None


def test_another_order_is_told() -> None:
    """The same events in another order are said to be that."""
    first = find_event(good(), pcr=1)
    (change,) = compare_boots(
        booted(good()), booted(swap(good(), first, first + 1, Where.MACHINE))
    ).events
    assert (change.what, change.pcr) == ("order", 1)


def test_a_forged_log_is_compared_with_nothing() -> None:
    """Events of a PCR that the log does not lead to are not told: nobody knows them."""
    number = find_event(good(), pcr=1)
    forged = drop(good(), number, Where.LOG)
    after = booted(forged)
    assert 1 not in after.attested[BANK]
    assert compare_boots(booted(good()), after).events == ()


@pytest.mark.parametrize(
    ("pcr", "what"),
    [
        (7, "allowed key or image (db)"),
        (8, "kernel parameter"),
        (14, "machine owner's keys"),
    ],
)
def test_what_is_not_attested_any_more_is_not_gone(pcr: int, what: str) -> None:
    """A PCR that was extended beside the log hides what its events say; nothing was taken away."""
    replayed = replay(parse_event_log(good().event_log))
    values = {pcr: bytes(32) for pcr in range(16)} | dict(good().pcrs()[BANK])
    after = Boot.of(replayed, {BANK: {**values, pcr: b"\xff" * 32}}, parse_policy(POLICY))
    told = [(each.before, each.after) for each in compare_boots(booted(good()), after).meaning]
    assert ("known", "not known") in told
    assert not [each for each in told if each[1] is None]
    named = {each.what for each in compare_boots(booted(good()), after).meaning}
    assert what in named


def test_command_lines_are_compared_by_parameter() -> None:
    """Parameters that came and went are told, not the whole line."""
    description = grub_description()
    line = description.command_line.replace("quiet", "debug")
    changes = compare_boots(
        booted(good()), booted(simulate_boot(description.with_command_line(line)))
    )
    assert [(each.before, each.after) for each in changes.meaning] == [
        ("quiet", None),
        (None, "debug"),
    ]


def test_states_and_keys_are_compared() -> None:
    """Secure Boot, keys, firmware version, SBAT generations and owner's keys are compared."""
    description = grub_description()
    assert description.shim is not None
    keys = replace(description.secure_boot, db=description.secure_boot.db[1:])
    assert other(replace(description, secure_boot=keys)).keys() == {"allowed key or image (db)"}
    newer = replace(description.firmware, version="2023.02")
    assert other(replace(description, firmware=newer)) == {
        "firmware version": ("2022.11-6", "2023.02")
    }
    shim = replace(description.shim, sbat_level="sbat,1,2026010100\nshim,4\ngrub,6\n")
    assert other(replace(description, shim=shim)) == {"shim's least generation": (None, "grub 6")}
    owned = replace(description.shim, mok=("Somebody's key",))
    assert other(replace(description, shim=owned)).keys() == {"machine owner's keys"}


def test_another_system_altogether_is_compared() -> None:
    """A machine that boots by other means does not end the comparison."""
    changes = compare_boots(booted(good()), booted(simulate_boot(uki_description())))
    assert {0, 7}.isdisjoint({*changes.pcrs} - {0, *range(1, 15)})
    assert changes.events


def test_many_changes_are_cut_and_counted() -> None:
    """A log decides how much changed, not how much is told."""
    description = grub_description()
    words = " ".join(f"w{number}" for number in range(200))
    line = f"{description.command_line} {words}"
    changes = compare_boots(
        booted(good()), booted(simulate_boot(description.with_command_line(line)))
    )
    assert len(changes.meaning) == MAX_ITEMS + 1
    assert changes.meaning[-1].after == f"and {200 - MAX_ITEMS} more"
    number = find_event(good(), pcr=2)
    events = [
        EventRecord(2, EventType.EV_IPL, {BANK: BANK.digest(b"%d" % each)}, b"")
        for each in range(MAX_CHANGES + 3)
    ]
    flood = (*good().events[: number - 1], *events, *good().events[number - 1 :])
    told = compare_boots(booted(good()), booted(boot_of_events(flood, (BANK,)))).events
    assert len(told) == MAX_CHANGES + 1
    assert told[-1].after == "and 3 more"


def test_log_text_is_escaped() -> None:
    """What an attacker wrote into a log cannot drive a terminal."""
    description = grub_description()
    line = f"{description.command_line} x=\x1b[2Jy\u202e"
    changes = compare_boots(
        booted(good()), booted(simulate_boot(description.with_command_line(line)))
    )
    texts = [each.after or "" for each in (*changes.meaning, *changes.events)]
    assert any("\\x1b[2J" in text for text in texts)
    assert all(text.isprintable() for text in texts)


def test_boots_of_different_banks_cannot_be_compared() -> None:
    """Where no bank is attested in both, nothing is told."""
    sha384 = simulate_boot(grub_description(), (HashAlg.SHA384,))
    replayed = replay(parse_event_log(sha384.event_log))
    rules = parse_policy(POLICY.replace('banks = ["sha256"]', 'banks = ["sha384"]'))
    after = Boot.of(replayed, sha384.pcrs(), rules)
    assert compare_boots(booted(good()), after).pcrs == ()
