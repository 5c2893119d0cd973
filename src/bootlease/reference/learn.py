"""Learning a reference set from a golden node."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from bootlease.bootstate import AttestedLog
from bootlease.errors import VerificationError
from bootlease.eventlog import ReplayedLog
from bootlease.model import Finding, HashAlg, PCRValues
from bootlease.reference.bootfacts import BootFacts
from bootlease.reference.bootlearn import learn_boot_rules
from bootlease.reference.bootmatch import judged_events
from bootlease.reference.measured import (
    Measured,
    describe_measured,
    expected_value,
    measured_events,
)
from bootlease.reference.values import (
    MAX_DESCRIPTION,
    EventsReference,
    KnownEvent,
    PCRReference,
    ReferenceSet,
    ValueReference,
)

DEFAULT_PCRS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)
"""Firmware, boot loader, kernel, command line and shim's MOK state: fixed once the OS runs."""


def learn(
    replayed: ReplayedLog,
    quoted: PCRValues | None,
    *,
    name: str,
    version: str,
    bank: HashAlg,
    pcrs: Collection[int] = DEFAULT_PCRS,
    match_events: Collection[int] = (),
    boot_rules: bool = True,
    command_line: bool = False,
    known_command_lines: Collection[str] = (),
) -> ReferenceSet:
    """Make a reference set of what one boot measured.

    The node is golden because somebody says so; nothing here can tell (attack D21).

    Args:
        replayed: The golden node's log.
        quoted: PCR values of the same boot, where there are any: the log must explain them.
        name: The set's name.
        version: The set's version.
        bank: Bank to learn.
        pcrs: PCRs to constrain.
        match_events: Those of them to match by events; the others match by value. Events of
            which the rules below say all there is to say are left to these.
        boot_rules: Learn the state of Secure Boot, its keys and revocations as rules, as far as
            PCR 7 is learned and they were measured.
        command_line: Learn the kernel's parameters as rules.
        known_command_lines: Command lines to recognise where the log holds a digest alone.

    Returns:
        The set.

    Raises:
        VerificationError: The log lacks the bank, does not explain ``quoted``, contradicts
            itself or does not prove a command line that is to be learned.
        ValueError: Name, version or PCRs are not what a set can have, or a PCR is to be matched
            by events although the log measures none into it.
    """
    if bank not in replayed.pcrs or bank not in replayed.log.banks:
        raise VerificationError(
            Finding(
                "eventlog.bank.missing",
                f"The event log has no digests of bank {bank.label}.",
                expected=bank.label,
                seen=", ".join(each.label for each in replayed.pcrs) or "none",
            )
        )
    if stray := sorted(set(match_events) - set(pcrs)):
        raise ValueError(f"PCR {stray[0]} is to be matched by events but is not to be learned")
    values = {pcr: expected_value(replayed, bank, pcr) for pcr in pcrs}
    if quoted is not None:
        _demand_agreement(values, quoted.get(bank, {}))
    facts = BootFacts(AttestedLog.of(replayed, bank, frozenset(pcrs)))
    rules = learn_boot_rules(
        facts, secure_boot=boot_rules, command_line=command_line, known=known_command_lines
    )
    judged = frozenset[int]() if rules is None else judged_events(rules, facts)
    events = measured_events(replayed.log, bank, pcrs)
    learned: dict[int, PCRReference] = {}
    for pcr, value in values.items():
        by_events = pcr in match_events
        left_to_rules = judged if by_events else ()
        known = _known([each for each in events[pcr] if each[1][0] not in left_to_rules], bank)
        if by_events and not known:
            raise ValueError(f"the log measures nothing into PCR {pcr}: match it by value")
        learned[pcr] = EventsReference(known) if by_events else ValueReference((value,), known)
    return ReferenceSet(name=name, version=version, bank=bank, pcrs=learned, boot=rules)


def _demand_agreement(values: Mapping[int, bytes], quoted: Mapping[int, bytes]) -> None:
    findings = [
        Finding(
            f"eventlog.pcr{pcr}.replay-mismatch",
            f"PCR {pcr} does not follow from the event log: a reference of it would be untrue.",
            pcr=pcr,
            expected=value.hex(),
            seen=quoted[pcr].hex() if pcr in quoted else "not given",
        )
        for pcr, value in values.items()
        if quoted.get(pcr) != value
    ]
    if findings:
        raise VerificationError(*findings)


def _known(events: Collection[Measured], bank: HashAlg) -> tuple[KnownEvent, ...]:
    known: dict[tuple[int, bytes], KnownEvent] = {}
    for key, event in events:
        if key not in known:
            text = describe_measured(event, bank)[:MAX_DESCRIPTION]
            known[key] = KnownEvent(*key, description=text, required=True)
    return tuple(known.values())
