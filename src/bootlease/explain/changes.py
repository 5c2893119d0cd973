"""What was measured in one boot and not in another.

Events are compared within one PCR, by type and digest. One that is gone and one of its type that
came are told as one change.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Final

from bootlease.eventlog import Event
from bootlease.explain.boot import Boot
from bootlease.explain.facts import compare_meaning
from bootlease.explain.values import Change, Changes
from bootlease.explain.words import words_of
from bootlease.model import HashAlg
from bootlease.reference import Measured, measured_events

MAX_CHANGES: Final = 256
"""Changed events of one PCR that are told."""

_SHOWN: Final = 16


def compare_boots(before: Boot, after: Boot) -> Changes:
    """Say what differs between two boots, of which quotes attest both.

    Args:
        before: The earlier one.
        after: The later one.
    """
    bank = next((each for each in after.banks if each in before.banks), None)
    if bank is None:
        return Changes((), (), ())
    old, new = before.facts.of(bank), after.facts.of(bank)
    lost = before.attested[bank] - after.attested[bank]
    meaning = () if old is None or new is None else tuple(compare_meaning(old, new, lost))
    first, second = before.quoted.get(bank, {}), after.quoted.get(bank, {})
    # PCR 10 is not among these where IMA is appraised: it moves with every file.
    demanded = sorted(after.required.get(bank, ()))
    differing = tuple(pcr for pcr in demanded if first.get(pcr) != second.get(pcr))
    attested = before.attested[bank] & after.attested[bank]
    pcrs = [pcr for pcr in sorted(attested) if pcr in differing]
    return Changes(meaning, tuple(_events(before, after, bank, pcrs)), differing)


def _events(before: Boot, after: Boot, bank: HashAlg, pcrs: Sequence[int]) -> Iterator[Change]:
    first = measured_events(before.replayed.log, bank, pcrs)
    second = measured_events(after.replayed.log, bank, pcrs)
    for pcr in pcrs:
        told = list(_of_pcr(pcr, bank, first[pcr], second[pcr]))
        yield from told[:MAX_CHANGES]
        if len(told) > MAX_CHANGES:
            yield Change("event", None, f"and {len(told) - MAX_CHANGES} more", pcr)


def _of_pcr(
    pcr: int, bank: HashAlg, before: Sequence[Measured], after: Sequence[Measured]
) -> Iterator[Change]:
    gone, come = _without(before, after), _without(after, before)
    if not gone and not come:
        yield Change("order", "the same events", "in another order", pcr)
        return
    waiting: dict[int, deque[Event]] = defaultdict(deque)
    for (kind, _), event in gone:
        waiting[kind].append(event)
    for (kind, _), event in come:
        old = waiting[kind].popleft() if waiting[kind] else None
        was = None if old is None else _words(old, bank)
        yield Change("event", was, _words(event, bank), pcr, event.number)
    for left in waiting.values():
        for event in left:
            yield Change("event", _words(event, bank), None, pcr)


def _without(events: Sequence[Measured], others: Sequence[Measured]) -> list[Measured]:
    """Return the events that are not among the others, as often as they are not."""
    left = Counter(key for key, _ in others)
    found: list[Measured] = []
    for key, event in events:
        if left[key]:
            left[key] -= 1
        else:
            found.append((key, event))
    return found


def _words(event: Event, bank: HashAlg) -> str:
    digest = event.digest(bank) or b""
    return f"{words_of(event, bank)}, digest {digest.hex()[:_SHOWN]}…"
