"""An explanation as text: one screen for somebody who was woken by it.

What came from a log was escaped when the explanation was made; findings are escaped here, for a
record keeps them as they were written.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from bootlease.cli.quantities import counted
from bootlease.cli.utc import utc
from bootlease.eventlog.describe import printable
from bootlease.explain.values import Status
from bootlease.explain.words import cut, ranges
from bootlease.model import Effect

if TYPE_CHECKING:
    from bootlease.explain import (
        Advice,
        Change,
        Changes,
        Explanation,
        History,
        Nearest,
        PCRTimeline,
        TimelineEvent,
    )
    from bootlease.model import Finding

_WIDTH: Final = 100
_MANY: Final = 10
"""Lines of one kind in the short form; ``--timeline`` and JSON have them all."""
_SHOWN: Final = 16
_LINES_OF_A_CHANGE: Final = 2
_UNKNOWN: Final = ".unknown-"
_MARKS: Final = {
    Status.APPROVED: "ok",
    Status.UNKNOWN: "UNKNOWN",
    Status.REFUSED: "REFUSED",
    Status.UNATTESTED: "unattested",
}


def explanation_lines(explanation: Explanation, *, whole: bool = False) -> Iterator[str]:
    """Return the text.

    Args:
        explanation: What to say.
        whole: Every event, and nothing cut short.
    """
    most = None if whole else _MANY
    yield from _head(explanation)
    for heading, lines in (
        (_since(explanation.history), _changed(explanation.history, most)),
        ("Why", _why(explanation, most)),
        ("Nearest reference", _nearest(explanation.nearest)),
        ("What to do", _to_do(explanation.advice)),
        ("To approve it instead", _approve(explanation.advice, most)),
        ("The boot, PCR by PCR", _timeline(explanation, whole=whole)),
        ("About this explanation", map(_finding, explanation.notes)),
    ):
        told = list(lines)
        if told and heading:
            yield ""
            yield heading
            yield from (f"  {line}" for line in told)


def _head(explanation: Explanation) -> Iterator[str]:
    verdict = "ACCEPTED" if explanation.accepted else "REFUSED"
    decision = explanation.decision
    if decision is None:
        yield verdict
        return
    yield f"{verdict}  {utc(decision.time)}, by policy {printable(decision.policy)}"
    yield f"node      {decision.node.hex()}"
    yield f"decision  {decision.digest.hex()}"
    history = explanation.history
    if history is None:
        return
    if history.refused_since is not None:
        times = counted(history.refusals, "refusal")
        # Of a grant, these are the refusals that it ended.
        word = "before   " if explanation.accepted else "refused  "
        yield f"{word} since {utc(history.refused_since)}, {times}"
    if history.good is None:
        yield "last good  never: nothing was ever granted to this node"
        return
    boot = "the same boot" if history.same_boot else "another boot"
    if history.good.reset_count is None:
        boot = "its evidence is not kept any more"
    yield f"last good {utc(history.good.time)}, {boot}, decision {history.good.digest.hex()}"


def _since(history: History | None) -> str:
    if history is None or history.changes is None or history.good is None:
        return ""
    return (
        "What changed since the last good boot"
        if not history.same_boot
        else ("What changed since the last good decision, in the same boot")
    )


def _changed(history: History | None, most: int | None) -> Iterator[str]:
    changes = None if history is None else history.changes
    if changes is None:
        return
    yield from _first(_meaning(changes), most)
    yield from _first(_events(changes.events), most)
    told = {change.pcr for change in changes.events}
    silent = [pcr for pcr in changes.pcrs if pcr not in told]
    for pcr in silent:
        yield f"PCR {pcr} has another value, and the log does not say why"
    if not changes.pcrs:
        yield "nothing of the boot"


def _meaning(changes: Changes) -> Iterator[str]:
    for change in changes.meaning:
        if change.before is not None and change.after is not None:
            yield f"{change.what}: {change.before} -> {change.after}"
        elif change.after is not None:
            yield f"{change.what}: + {change.after}"
        else:
            yield f"{change.what}: - {change.before}"


def _events(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        where = f"PCR {change.pcr}"
        if change.event is not None:
            where = f"{where}, event {change.event}"
        if change.before is not None and change.after is not None:
            yield f"{where}: {change.after}"
            yield f"{' ' * len(where)}  was {change.before}"
        elif change.after is not None:
            yield f"{where}: new: {change.after}"
        else:
            yield f"{where}: gone: {change.before}"


def _why(explanation: Explanation, most: int | None) -> Iterator[str]:
    told = {change.event for change in _told(explanation, most)}
    notes = [each for each in explanation.findings if each.effect is Effect.NOTES]
    refusing = (
        _finding(each) if each.event not in told else _shortened(each, explanation.nearest)
        for each in explanation.refusing
    )
    yield from _first(refusing, most)
    yield from _first(map(_finding, notes), most)
    if not explanation.findings:
        yield "the boot is what the reference describes, and nothing speaks against it"


def _told(explanation: Explanation, most: int | None) -> Sequence[Change]:
    """Return the changed events whose text stands above already."""
    history = explanation.history
    if history is None or history.changes is None:
        return ()
    events = history.changes.events
    return events if most is None else events[: most // _LINES_OF_A_CHANGE]


def _shortened(finding: Finding, nearest: Nearest | None) -> str:
    if _UNKNOWN not in finding.id or nearest is None:
        return _finding(finding)
    return (
        f"PCR {finding.pcr}, event {finding.event}: not in reference {nearest.label}"
        f" [{printable(finding.id)}]"
    )


def _finding(finding: Finding) -> str:
    note = "note: " if finding.effect is Effect.NOTES else ""
    return f"{note}{cut(printable(finding.message))} [{printable(finding.id)}]"


def _nearest(nearest: Nearest | None) -> Iterator[str]:
    if nearest is None:
        return
    missing = (
        f"; {counted(nearest.missing, 'event')} of it did not happen" if nearest.missing else ""
    )
    yield f"{nearest.label}, digest {nearest.digest.hex()[:_SHOWN]}…" + (
        ": it matches" if nearest.matches else f": {counted(nearest.misses, 'miss', 'misses')}"
    )
    yield f"{nearest.known} of {counted(nearest.measured, 'attested event')} are in it{missing}"
    for label, misses in nearest.others[:_MANY]:
        yield f"farther: {label}, {counted(misses, 'miss', 'misses')}"


def _to_do(advice: Advice) -> Iterator[str]:
    for remedy in advice.remedies:
        yield from textwrap.wrap(
            remedy, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )


def _approve(advice: Advice, most: int | None) -> Iterator[str]:
    if not advice.commands:
        return
    yield from _first(advice.approvals, most)
    for caveat in advice.caveats:
        yield from textwrap.wrap(f"Note: {caveat}", _WIDTH, subsequent_indent="  ")
    for command in advice.commands:
        yield f"$ {shlex.join(command)}"


def _timeline(explanation: Explanation, *, whole: bool) -> Iterator[str]:
    timeline = explanation.timeline
    sound = [each for each in timeline if _sound(each)]
    if sound and not whole:
        events = sum(len(each.events) + each.left_out for each in sound)
        yield (
            f"PCR {ranges(frozenset(each.pcr for each in sound))}:"
            f" {counted(events, 'event')}, every one approved"
        )
    told = {change.event for change in _told(explanation, None if whole else _MANY)}
    for each in timeline:
        if whole or not _sound(each):
            yield from _pcr(each, frozenset() if whole else told, whole=whole)


def _sound(timeline: PCRTimeline) -> bool:
    return (
        timeline.attested and timeline.counts.keys() <= {Status.APPROVED} and (not timeline.missing)
    )


def _pcr(timeline: PCRTimeline, told: Collection[int | None], *, whole: bool) -> Iterator[str]:
    yield f"PCR {timeline.pcr}, {timeline.holds}: {_counts(timeline)}"
    if timeline.why is not None:
        yield f"  {timeline.why}"
    shown = [
        event
        for event in timeline.events
        if whole or (timeline.attested and event.status is not Status.APPROVED)
    ]
    listed = (_event(event) for event in shown if event.number not in told)
    yield from _first(listed, None if whole else _MANY)
    if whole and timeline.left_out:
        yield f"       and {timeline.left_out} more"
    if whole or not told:
        yield from (f"       {'missing':<10}  {text}" for text in timeline.missing)


def _counts(timeline: PCRTimeline) -> str:
    if not timeline.counts:
        return "nothing measured"
    return ", ".join(
        f"{count} {_MARKS[status]}"
        for status in Status
        if (count := timeline.counts.get(status, 0))
    )


def _event(event: TimelineEvent) -> str:
    return (
        f"{event.number:>5}  {_MARKS[event.status]:<10}  {event.text},"
        f" digest {event.digest.hex()[:_SHOWN]}…"
    )


def _first(lines: Iterable[str], most: int | None) -> Iterator[str]:
    listed = list(lines)
    if most is None or len(listed) <= most:
        yield from listed
        return
    yield from listed[:most]
    yield f"and {len(listed) - most} more; --timeline shows all"
