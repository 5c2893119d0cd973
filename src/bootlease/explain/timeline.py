"""The nearest reference, and what became of every event by it.

Which reference is nearest is decided as the appraisal does: by the number of its findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.eventlog import Event, type_name
from bootlease.explain.boot import Boot
from bootlease.explain.values import Nearest, PCRTimeline, Status, TimelineEvent
from bootlease.explain.words import cut, holds, words_of
from bootlease.model import Finding, HashAlg, refusals
from bootlease.reference import (
    EventsReference,
    Measured,
    ReferenceSet,
    appraise_reference,
    measured_events,
)
from bootlease.reference.bootmatch import judged_events

MAX_EVENTS: Final = 2_000
"""Events of one PCR in a timeline; a log decides how many there are."""

MAX_MISSING: Final = 64
_UNKNOWN: Final = ".unknown-"
_NONE: Final = frozenset[int]()


@dataclass(frozen=True, slots=True)
class Compared:
    """A boot beside the reference that it is nearest to.

    Attributes:
        bank: The bank that is compared.
        reference: The nearest reference; None where none is accepted.
        misses: Findings that keep the boot from matching it.
        others: The other accepted sets, with their misses.
    """

    bank: HashAlg
    reference: ReferenceSet | None
    misses: int
    others: tuple[tuple[str, int], ...]


def compare(boot: Boot, references: Sequence[ReferenceSet], now: int) -> Compared | None:
    """Find the nearest reference; None where nothing is attested at all."""
    if not boot.banks:
        return None
    judged = [
        (len(outcome.findings), reference)
        for reference in references
        for outcome in [
            appraise_reference(
                boot.replayed, boot.quoted, [reference], boot.required, now=now, facts=boot.facts
            )
        ]
    ]
    if not judged:
        return Compared(boot.banks[0], None, 0, ())
    # The first of equals, as the appraisal has it.
    misses, nearest = min(judged, key=lambda each: each[0])
    others = tuple((each.label, count) for count, each in judged if each is not nearest)
    bank = nearest.bank if nearest.bank in boot.banks else boot.banks[0]
    return Compared(bank, nearest, misses, others)


def timeline(
    boot: Boot, compared: Compared, findings: Sequence[Finding]
) -> tuple[PCRTimeline, ...]:
    """Return what was measured, PCR by PCR.

    Args:
        boot: The boot.
        compared: The nearest reference.
        findings: What the appraisal found.
    """
    bank, reference = compared.bank, compared.reference
    if reference is not None and reference.bank is not bank:
        reference = None
    demanded = frozenset(boot.required.get(bank, ()))
    pcrs = sorted({*boot.replayed.log.registers, *demanded})
    measured = measured_events(boot.replayed.log, bank, pcrs)
    against = _by_event(findings)
    judged: Collection[int] = _NONE
    if reference is not None and reference.boot is not None:
        facts = boot.facts.of(bank)
        judged = _NONE if facts is None else judged_events(reference.boot, facts)
    return tuple(
        _pcr(boot, bank, measured[pcr], _Known.of(reference, boot, pcr, judged), against)
        for pcr in pcrs
        if measured[pcr] or pcr in demanded
    )


def nearest(compared: Compared, timelines: Sequence[PCRTimeline]) -> Nearest | None:
    """Say by how little the nearest reference missed."""
    reference = compared.reference
    if reference is None:
        return None
    counts: Counter[Status] = Counter()
    for each in timelines:
        if each.attested:
            counts.update(each.counts)
    return Nearest(
        reference.name,
        reference.version,
        reference.digest,
        matches=compared.misses == 0,
        known=counts[Status.APPROVED],
        measured=sum(counts.values()),
        missing=sum(len(each.missing) for each in timelines),
        misses=compared.misses,
        others=compared.others,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What a reference says of one PCR.

    Attributes:
        pcr: The PCR.
        keys: Events that it has, by type and digest.
        everything: The PCR has a value that it has.
        judged: Events of which its rules say all there is to say.
        expected: Events that it expects, as text by type and digest.
    """

    pcr: int
    keys: Collection[tuple[int, bytes]]
    everything: bool
    judged: Collection[int]
    expected: Mapping[tuple[int, bytes], str]

    @classmethod
    def of(
        cls, reference: ReferenceSet | None, boot: Boot, pcr: int, judged: Collection[int]
    ) -> _Known:
        constraint = None if reference is None else reference.pcrs.get(pcr)
        if reference is None or constraint is None:
            return cls(pcr, (), everything=False, judged=_NONE, expected={})
        keys = frozenset(event.key for event in constraint.events)
        required = {
            event.key: f"{event.description}, digest {event.digest.hex()[:16]}…"
            for event in constraint.events
            if event.required
        }
        if isinstance(constraint, EventsReference):
            return cls(pcr, keys, everything=False, judged=judged, expected=required)
        good = boot.quoted.get(reference.bank, {}).get(pcr) in constraint.values
        # One of several good values: which of their events were due, nobody can say.
        told = {} if good or len(constraint.values) != 1 else required
        return cls(pcr, keys, everything=good, judged=_NONE, expected=told)

    def covers(self, key: tuple[int, bytes], number: int) -> bool:
        return self.everything or key in self.keys or number in self.judged


def _by_event(findings: Sequence[Finding]) -> Mapping[tuple[int, int | None], tuple[Finding, ...]]:
    found: dict[tuple[int, int | None], tuple[Finding, ...]] = {}
    for finding in refusals(tuple(findings)):
        if finding.event is not None and not finding.id.startswith("ima."):
            key = finding.event, finding.pcr
            found[key] = (*found.get(key, ()), finding)
    return found


def _pcr(
    boot: Boot,
    bank: HashAlg,
    measured: Sequence[Measured],
    known: _Known,
    against: Mapping[tuple[int, int | None], tuple[Finding, ...]],
) -> PCRTimeline:
    pcr = known.pcr
    attested = pcr in boot.attested[bank]
    shown: list[TimelineEvent] = []
    counts: Counter[Status] = Counter()
    for key, event in measured:
        named = (*against.get((event.number, pcr), ()), *against.get((event.number, None), ()))
        status = _status(event, key, known, named) if attested else Status.UNATTESTED
        counts[status] += 1
        if len(shown) < MAX_EVENTS:
            ids = tuple(finding.id for finding in named)
            text = words_of(event, bank)
            shown.append(
                TimelineEvent(event.number, type_name(event.type), key[1], text, status, ids)
            )
    seen = {key for key, _ in measured}
    missing = [text for key, text in known.expected.items() if key not in seen]
    return PCRTimeline(
        pcr,
        holds(pcr),
        attested,
        None if attested else _why(boot, bank, pcr),
        tuple(shown),
        len(measured) - len(shown),
        tuple(map(cut, missing[:MAX_MISSING])) if attested else (),
        counts,
    )


def _status(
    event: Event, key: tuple[int, bytes], known: _Known, named: Sequence[Finding]
) -> Status:
    if any(_UNKNOWN not in finding.id for finding in named):
        return Status.REFUSED
    if named or not known.covers(key, event.number):
        return Status.UNKNOWN
    return Status.APPROVED


def _why(boot: Boot, bank: HashAlg, pcr: int) -> str:
    if pcr not in boot.required.get(bank, ()):
        return "the policy does not demand this PCR"
    if pcr not in boot.quoted.get(bank, {}):
        return "the quote does not cover this PCR"
    return "the log does not lead to the quoted value"
