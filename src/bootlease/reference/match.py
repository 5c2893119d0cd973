"""Appraising a boot against reference sets, so that a refusal names the event.

The comparison itself uses only what a quote attests: PCR values, and digests of events once the
log's replay equals the quoted PCRs. The type of an event is not attested; it is compared all the
same, for a retyped event only loses its match (attack D2).

Events of PCRs matched by events: every measured one must be known, every required one must have
been measured, and the required ones in the set's order. How often a known event is measured is
left free: firmware measures a boot attempt again when the one before failed. An event of which
the set's boot rules say all there is to say need not be known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.eventlog import EventType, ReplayedLog, type_name
from bootlease.model import Effect, Finding, HashAlg, PCRValues
from bootlease.reference.bootfacts import FactsByBank
from bootlease.reference.bootmatch import judged_events, rule_findings
from bootlease.reference.measured import Measured, describe_measured, measured_events
from bootlease.reference.values import EventsReference, KnownEvent, ReferenceSet, ValueReference

MAX_EXPLAINED: Final = 32
"""Unknown or missing events of one PCR that are named; an untrusted log decides how many there
are."""

MAX_PHRASE: Final = 1024
"""Characters of log text in one message: escaping makes ten of one."""

_SHOWN: Final = 16
_SLUGS: Final[Mapping[int, str]] = {
    EventType.EV_S_CRTM_VERSION: "firmware-version",
    EventType.EV_S_CRTM_CONTENTS: "firmware-root-of-trust",
    EventType.EV_POST_CODE: "firmware-code",
    EventType.EV_POST_CODE2: "firmware-code",
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: "firmware-volume",
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: "firmware-volume",
    EventType.EV_EFI_HANDOFF_TABLES: "firmware-tables",
    EventType.EV_EFI_HANDOFF_TABLES2: "firmware-tables",
    EventType.EV_CPU_MICROCODE: "microcode",
    EventType.EV_SEPARATOR: "separator",
    EventType.EV_ACTION: "action",
    EventType.EV_EFI_ACTION: "action",
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: "secure-boot-variable",
    EventType.EV_EFI_VARIABLE_AUTHORITY: "secure-boot-authority",
    EventType.EV_EFI_VARIABLE_BOOT: "boot-variable",
    EventType.EV_EFI_VARIABLE_BOOT2: "boot-variable",
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: "boot-application",
    EventType.EV_EFI_BOOT_SERVICES_DRIVER: "boot-driver",
    EventType.EV_EFI_RUNTIME_SERVICES_DRIVER: "runtime-driver",
    EventType.EV_EFI_GPT_EVENT: "partition-table",
    EventType.EV_EFI_GPT_EVENT2: "partition-table",
    EventType.EV_IPL: "boot-loader-measurement",
}
"""What stable finding ids call an event; by type alone, for its text is not attested."""


@dataclass(frozen=True, slots=True)
class ReferenceOutcome:
    """What comparing with every accepted set came to.

    Attributes:
        reference: The set that the boot matches, or ``None``.
        findings: Why the nearest set does not match; notes if one does.
        considered: Digests of all sets that were compared.
    """

    reference: ReferenceSet | None
    findings: tuple[Finding, ...]
    considered: tuple[bytes, ...]


def appraise_reference(
    replayed: ReplayedLog,
    quoted: PCRValues,
    references: Sequence[ReferenceSet],
    required: Mapping[HashAlg, Collection[int]],
    *,
    now: int,
    facts: FactsByBank | None = None,
) -> ReferenceOutcome:
    """Compare a boot with the reference sets that a policy accepts.

    Args:
        replayed: The log, its replay equal to the quoted PCRs; where it is not, the outcome
            explains and must not be relied on.
        quoted: Values of a verified quote.
        references: The accepted sets.
        required: PCRs that policy demands, by bank: each must be constrained by the set.
        now: Seconds since the epoch.
        facts: What the boot meant, for boot rules; by default of all that is required.

    Returns:
        The first set that matches, or why the nearest one does not.
    """
    considered = tuple(reference.digest for reference in references)
    if facts is None:
        facts = FactsByBank(replayed, required)
    nearest: list[Finding] | None = None
    for reference in references:
        findings = _compare(reference, replayed, quoted, required, facts=facts, now=now)
        if not findings:
            return ReferenceOutcome(reference, (), considered)
        if nearest is None or len(findings) < len(nearest):
            nearest = findings
    if nearest is None:
        nearest = [
            Finding(
                "reference.none",
                "No reference set that the policy accepts is registered and not revoked.",
            )
        ]
    return ReferenceOutcome(None, tuple(dict.fromkeys(nearest)), considered)


def _compare(
    reference: ReferenceSet,
    replayed: ReplayedLog,
    quoted: PCRValues,
    required: Mapping[HashAlg, Collection[int]],
    *,
    facts: FactsByBank,
    now: int,
) -> list[Finding]:
    bank = reference.bank
    pcrs = required.get(bank)
    if pcrs is None:
        return [
            Finding(
                "reference.bank.mismatch",
                f"Reference {reference.label} is of bank {bank.label}, which the policy does not "
                "demand.",
                expected=", ".join(each.label for each in required),
                seen=bank.label,
            )
        ]
    findings: list[Finding] = []
    if not reference.valid_at(now):
        findings.append(
            Finding(
                "reference.not-valid",
                f"Reference {reference.label} is outside its validity.",
                expected=f"{reference.not_before or 0} to {reference.not_after or 'any time'}",
            )
        )
    values = quoted.get(bank, {})
    constraints = reference.pcrs
    by_events = [pcr for pcr in pcrs if isinstance(constraints.get(pcr), EventsReference)]
    events = measured_events(replayed.log, bank, by_events) if by_events else {}
    judged: Collection[int] = ()
    if (rules := reference.boot) is not None:
        boot = facts.of(bank)
        if boot is None:
            findings.append(_no_facts(reference))
        else:
            findings += rule_findings(rules, boot, reference.label)
            judged = judged_events(rules, boot) if by_events else ()
    for pcr in pcrs:
        constraint = constraints.get(pcr)
        if constraint is None:
            findings.append(_unconstrained(reference, pcr))
        elif isinstance(constraint, EventsReference):
            findings += _event_findings(reference, pcr, constraint, events[pcr], judged)
        elif pcr in values and values[pcr] not in constraint.values:
            measured = measured_events(replayed.log, bank, (pcr,))[pcr]
            findings += _value_findings(reference, pcr, constraint, values[pcr], measured)
    return findings


def _unconstrained(reference: ReferenceSet, pcr: int) -> Finding:
    return Finding(
        "reference.pcr.unconstrained",
        f"Reference {reference.label} says nothing of PCR {pcr}, which the policy demands.",
        pcr=pcr,
    )


def _no_facts(reference: ReferenceSet) -> Finding:
    bank = reference.bank.label
    return Finding(
        "reference.boot.unknown",
        f"The log has no digests of bank {bank}, so the boot rules of reference {reference.label} "
        "have nothing to judge.",
        expected=bank,
    )


def _event_findings(
    reference: ReferenceSet,
    pcr: int,
    constraint: EventsReference,
    measured: Sequence[Measured],
    judged: Collection[int],
) -> list[Finding]:
    known = constraint.known
    unknown = [pair for pair in measured if pair[0] not in known and pair[1][0] not in judged]
    seen = {key for key, _ in measured}
    missing = [event for event in constraint.events if event.required and event.key not in seen]
    if unknown or missing:
        return _explain(reference, pcr, unknown, missing)
    expected = [event.key for event in constraint.events if event.required]
    in_order = _first_occurrences(measured, frozenset(expected))
    return [] if in_order == expected else [_order(reference, pcr, measured, expected)]


def _value_findings(
    reference: ReferenceSet,
    pcr: int,
    constraint: ValueReference,
    value: bytes,
    measured: Sequence[Measured],
) -> list[Finding]:
    known = {event.key for event in constraint.events}
    seen = {key for key, _ in measured}
    if known:
        unknown = [pair for pair in measured if pair[0] not in known]
        missing = [event for event in constraint.events if event.key not in seen]
        # One of several good boots is enough, so absent events explain only beside a stranger.
        if unknown or (missing and len(constraint.values) == 1):
            return _explain(reference, pcr, unknown, missing)
        expected = [event.key for event in constraint.events]
        if len(constraint.values) == 1 and _first_occurrences(measured, known) != expected:
            return [_order(reference, pcr, measured, expected)]
    return [
        Finding(
            f"reference.pcr{pcr}.value-mismatch",
            f"PCR {pcr} has a value that is not in reference {reference.label}.",
            pcr=pcr,
            expected=", ".join(each.hex() for each in constraint.values[:4]),
            seen=value.hex(),
        )
    ]


def _first_occurrences(
    measured: Iterable[Measured], wanted: Collection[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    return list(dict.fromkeys(key for key, _ in measured if key in wanted))


def _explain(
    reference: ReferenceSet, pcr: int, unknown: Sequence[Measured], missing: Sequence[KnownEvent]
) -> list[Finding]:
    """Name unknown and missing events, pairing those of one type: one was put for the other."""
    findings = []
    left = list(missing)
    for (event_type, digest), event in unknown:
        replaced = next((each for each in left if each.type == event_type), None)
        if replaced is not None:
            left.remove(replaced)
        text = describe_measured(event, reference.bank)[:MAX_PHRASE]
        findings.append(
            Finding(
                f"eventlog.pcr{pcr}.unknown-{_slug(event_type)}",
                f"event {event.number}, PCR {pcr}: {text}, digest {digest.hex()[:_SHOWN]}… "
                f"is not in reference {reference.label}",
                pcr=pcr,
                event=event.number,
                expected=None if replaced is None else _known(replaced),
                seen=f"{type_name(event_type)}, digest {digest.hex()}",
            )
        )
        if len(findings) > MAX_EXPLAINED and len(unknown) > len(findings):
            # Each further event still counts as one when the nearest set is looked for.
            rest = len(unknown) - len(findings)
            findings += [_more(pcr, rest, "unknown")] * rest
            break
    findings += [
        Finding(
            f"eventlog.pcr{pcr}.missing-{_slug(event.type)}",
            f"PCR {pcr}: {event.description}, digest {event.digest.hex()[:_SHOWN]}…, which "
            f"reference {reference.label} expects, was not measured",
            pcr=pcr,
            expected=_known(event),
        )
        for event in left[:MAX_EXPLAINED]
    ]
    rest = max(0, len(left) - MAX_EXPLAINED)
    return findings + [_more(pcr, rest, "missing")] * rest


def _order(
    reference: ReferenceSet,
    pcr: int,
    measured: Sequence[Measured],
    expected: Sequence[tuple[int, bytes]],
) -> Finding:
    wanted = frozenset(expected)
    firsts = _first_occurrences(measured, wanted)
    key = next((seen for seen, due in zip(firsts, expected, strict=False) if seen != due), None)
    event = next((event for each, event in measured if each == key), None)
    if event is None:
        return Finding(
            f"eventlog.pcr{pcr}.repeated-event",
            f"PCR {pcr}: its events are those of reference {reference.label}, but not as often",
            pcr=pcr,
        )
    text = describe_measured(event, reference.bank)[:MAX_PHRASE]
    return Finding(
        f"eventlog.pcr{pcr}.order-changed",
        f"event {event.number}, PCR {pcr}: {text} comes earlier than in reference "
        f"{reference.label}",
        pcr=pcr,
        event=event.number,
    )


def _more(pcr: int, count: int, what: str) -> Finding:
    return Finding(
        f"eventlog.pcr{pcr}.{what}-more",
        f"PCR {pcr}: {count} more events are {what}, by the same reference",
        pcr=pcr,
    )


def _known(event: KnownEvent) -> str:
    return f"{event.description}, digest {event.digest.hex()}"


def _slug(event_type: int) -> str:
    return _SLUGS.get(event_type, "event")


def note_unknown_names(
    accepted: Iterable[str], references: Iterable[ReferenceSet], *, effect: Effect
) -> tuple[Finding, ...]:
    """Return a finding for each accepted name that none of ``references`` has.

    These are the sets registered and not revoked: whoever calls knows no others.
    """
    names = {reference.name for reference in references}
    return tuple(
        Finding(
            "reference.name.unknown",
            f"The policy accepts reference {name}, of which no set is registered, or only revoked"
            " ones.",
            effect=effect,
            expected=name,
        )
        for name in accepted
        if name not in names
    )
