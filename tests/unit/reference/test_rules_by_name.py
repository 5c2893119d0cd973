"""Rules that several databases share are told by the name of the one that breaks them."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.eventlog import parse_event_log, replay
from bootlease.model import Finding, HashAlg
from bootlease.reference import ReferenceSet, ValueReference, appraise_reference, learn
from bootlease.reference.bootmatch import MAX_NAMED
from bootlease.reference.bootrules import BootRules, CommandLineRule, KeyRule
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.tampering import Where, insert

BANK = HashAlg.SHA256
PCRS = (0, 4, 7, 8, 9, 11, 12)
STRANGE = b"\x07" * 32


def machine(**secure_boot: object) -> SimulatedBoot:
    """Return the GRUB machine with its Secure Boot changed."""
    description = grub_description()
    changed = dataclasses.replace(description.secure_boot, **secure_boot)  # type: ignore[arg-type]
    return simulate_boot(dataclasses.replace(description, secure_boot=changed))


def learned(boot: SimulatedBoot, pcrs: tuple[int, ...]) -> ReferenceSet:
    """Learn values alone."""
    log = replay(parse_event_log(boot.event_log))
    return learn(log, None, name="golden", version="1", bank=BANK, pcrs=pcrs, boot_rules=False)


def compared(
    boot: SimulatedBoot, reference: ReferenceSet, pcrs: tuple[int, ...] = PCRS
) -> list[Finding]:
    """Compare a boot with a set."""
    log = replay(parse_event_log(boot.event_log))
    quoted = {BANK: {pcr: log.pcrs[BANK].get(pcr, bytes(32)) for pcr in pcrs}}
    return list(appraise_reference(log, quoted, [reference], {BANK: pcrs}, now=5).findings)


def broken(boot: SimulatedBoot, rules: BootRules, pcrs: tuple[int, ...] = PCRS) -> list[str]:
    """Return the rules that a boot breaks, its PCRs being what the set wants."""
    reference = dataclasses.replace(learned(boot, pcrs), boot=rules)
    return [finding.id for finding in compared(boot, reference, pcrs)]


@pytest.mark.parametrize("name", ["pk", "kek", "db"])
def test_a_required_key_that_is_not_there(name: str) -> None:
    """Each database has a rule of its own for what it must hold."""
    rule = BootRules(**{name: KeyRule(required=frozenset({STRANGE}))})  # type: ignore[arg-type]
    assert broken(machine(), rule) == [f"reference.boot.{name}-lacks"]


@pytest.mark.parametrize("name", ["pk", "kek", "db"])
def test_a_database_that_nobody_saw(name: str) -> None:
    """A rule on what was not attested is not kept."""
    rule = BootRules(**{name: KeyRule(allowed=frozenset())})  # type: ignore[arg-type]
    assert broken(machine(), rule, pcrs=(0, 4)) == [f"reference.boot.{name}-unknown"]
    assert broken(machine(), BootRules(dbx=frozenset({STRANGE})), pcrs=(0, 4)) == [
        "reference.boot.dbx-unknown"
    ]


@pytest.mark.parametrize("name", ["kek", "db"])
def test_strange_keys_are_named_and_counted(name: str) -> None:
    """The first few are named, of the rest there is a count."""
    many = tuple(f"Evil {number}" for number in range(MAX_NAMED + 3))
    rule = BootRules(**{name: KeyRule(allowed=frozenset())})  # type: ignore[arg-type]
    found = broken(machine(**{name: many}), rule)
    assert found.count(f"reference.boot.{name}-not-allowed") == MAX_NAMED
    assert found[-1] == f"reference.boot.{name}-not-allowed-more"


def test_a_command_line_that_the_kernel_cuts_off() -> None:
    """What stands behind the kernel's limit is measured and takes no effect."""
    line = "root=/dev/vda1 " + "x" * 2048
    boot = simulate_boot(dataclasses.replace(grub_description(), command_line=line))
    rules = BootRules(command_line=CommandLineRule(("root=*",)))
    assert "reference.boot.command-line-too-long" in broken(boot, rules)


def test_rules_about_a_bank_that_the_log_has_not() -> None:
    """Boot rules judge the log in the reference's own bank, or refuse."""
    bank = HashAlg.SHA384
    good = replay(parse_event_log(simulate_boot(grub_description(), (bank,)).event_log))
    rules = BootRules(secure_boot=True)
    reference = dataclasses.replace(
        learn(good, None, name="golden", version="1", bank=bank, pcrs=PCRS, boot_rules=False),
        boot=rules,
    )
    quoted, required = {bank: dict(good.pcrs[bank])}, {bank: PCRS}
    log = replay(parse_event_log(machine().event_log))
    assert appraise_reference(good, quoted, [reference], required, now=5).findings == ()
    outcome = appraise_reference(log, quoted, [reference], required, now=5)
    assert "reference.boot.unknown" in [finding.id for finding in outcome.findings]


def test_an_event_that_is_measured_less_often() -> None:
    """The same events, one of them once instead of twice, are another boot."""
    boot = machine()
    last = max(n for n, event in enumerate(boot.events, 1) if event.pcr == 8)
    twice = insert(boot, last + 1, Where.MACHINE, boot.events[last - 1])
    reference = learned(twice, PCRS)
    values = reference.pcrs[8]
    assert isinstance(values, ValueReference)
    assert compared(twice, reference) == []
    assert [finding.id for finding in compared(boot, reference)] == [
        "reference.pcr8.value-mismatch"
    ]
    # Where a set lists the event as often as it happened, the finding can say so.
    explained = dataclasses.replace(values, events=(*values.events, values.events[-1]))
    reference = dataclasses.replace(reference, pcrs={**reference.pcrs, 8: explained})
    assert compared(twice, reference) == []
    assert [finding.id for finding in compared(boot, reference)] == ["eventlog.pcr8.repeated-event"]
