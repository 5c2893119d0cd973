"""The node's boot log as an appraisal takes it: replayed, tied to its digest, well formed.

Specification: TCG PFP 1.06 §10.4.1 (EV_SEPARATOR), §3.3.2 (one separator ends the firmware's
measurements in each of PCR 0 to 7).

Only attested digests decide here. What the other events *mean* is not judged: that is a step of
its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.bootstate.digests import NO_ERROR, is_separator, known_digests
from bootlease.errors import MalformedError
from bootlease.eventlog import Event, EventType, ReplayedLog, parse_event_log, replay
from bootlease.eventlog.replay import start_value
from bootlease.evidence import TCG_LOG, VerifiedEvidence
from bootlease.model import Finding, HashAlg, PCRValues
from bootlease.reference import Measured, expected_value, measured_events
from bootlease.reference.measured import DYNAMIC_PCRS

FIRMWARE_PCRS: Final = frozenset(range(8))
_SHOWN: Final = 16
_SEPARATOR: Final = int(EventType.EV_SEPARATOR)


@dataclass(frozen=True, slots=True)
class BootLog:
    """A boot log and the digest that the AK signed for it.

    Attributes:
        digest: SHA-256 of the log as presented.
        content: The replayed log, or why it does not parse.
    """

    digest: bytes
    content: ReplayedLog | MalformedError


def read_boot_log(data: bytes, banks: Collection[HashAlg] | None = None) -> BootLog:
    """Parse and replay a log; one that does not parse is kept as the reason.

    Args:
        data: A log as presented, or as stored from an earlier presentation.
        banks: Banks to replay, ``None`` for all; those that policy demands are enough.
    """
    return _read(data, hashlib.sha256(data).digest(), banks)


def boot_log_of(
    evidence: VerifiedEvidence, banks: Collection[HashAlg] | None = None
) -> BootLog | None:
    """Read the log that came with verified evidence, ``None`` if only its digest came.

    The digest was compared when the evidence was verified, so it is not computed again.

    Args:
        evidence: Verified evidence.
        banks: Banks to replay, ``None`` for all; those that policy demands are enough.
    """
    data = evidence.logs.get(TCG_LOG)
    return None if data is None else _read(data, evidence.log_digests[TCG_LOG], banks)


def _read(data: bytes, digest: bytes, banks: Collection[HashAlg] | None) -> BootLog:
    try:
        return BootLog(digest, replay(parse_event_log(data), banks))
    except MalformedError as exc:
        return BootLog(digest, exc)


def check_replay(
    replayed: ReplayedLog, quoted: PCRValues, required: Mapping[HashAlg, Sequence[int]]
) -> tuple[Finding, ...]:
    """Demand that the log leads exactly to every required PCR (attacks C1, A7, A23).

    Args:
        replayed: The log.
        quoted: Values of a verified quote.
        required: PCRs by bank; what was not quoted is another check's to refuse.
    """
    findings: list[Finding] = []
    for bank, pcrs in required.items():
        if bank not in replayed.pcrs or bank not in replayed.log.banks:
            findings.append(
                Finding(
                    "eventlog.bank.missing",
                    f"The event log has no digests of bank {bank.label}.",
                    expected=bank.label,
                    seen=", ".join(each.label for each in replayed.pcrs) or "none",
                )
            )
            continue
        values, reached = quoted.get(bank, {}), replayed.pcrs[bank]
        for pcr in pcrs:
            value, expected = values.get(pcr), reached.get(pcr)
            if expected is None:
                # D20: what a dynamic launch measured is in none of firmware's logs. The reference
                # set, which must have such a PCR too, then decides by its value alone.
                if pcr in DYNAMIC_PCRS:
                    continue
                expected = expected_value(replayed, bank, pcr)
            if value is not None and value != expected:
                findings.append(_unexplained(replayed, bank, pcr, value, expected))
    return tuple(findings)


def _unexplained(
    replayed: ReplayedLog, bank: HashAlg, pcr: int, value: bytes, expected: bytes
) -> Finding:
    events = measured_events(replayed.log, bank, (pcr,))[pcr]
    ahead = _events_ahead(replayed, bank, pcr, value, events)
    if not events:
        message = f"PCR {pcr} was extended by something that the event log does not contain."
    elif ahead:
        message = f"The event log has {ahead} events for PCR {pcr} that were never measured."
    else:
        message = (
            f"PCR {pcr} was extended by something that the event log does not contain, or the log "
            "was altered."
        )
    return Finding(
        f"eventlog.pcr{pcr}.replay-mismatch",
        message,
        pcr=pcr,
        expected=expected.hex(),
        seen=value.hex(),
    )


def _events_ahead(
    replayed: ReplayedLog, bank: HashAlg, pcr: int, value: bytes, events: Sequence[Measured]
) -> int:
    """Return how many of the last events must be left out to reach ``value``; 0 if that fails."""
    reached = start_value(replayed.log, bank, pcr)
    for done, ((_, digest), _) in enumerate(events):
        if reached == value:
            return len(events) - done
        reached = bank.digest(reached + digest)
    return 0


def check_separators(
    replayed: ReplayedLog, required: Mapping[HashAlg, Sequence[int]]
) -> tuple[Finding, ...]:
    """Demand one sound separator in each of PCR 0 to 7 that the log extends (attacks D3, D4).

    Without it, or with a second one, the operating system could append events that read as
    firmware's: every later reading of the log rests on this.
    """
    findings: list[Finding] = []
    for bank, pcrs in required.items():
        if bank not in replayed.log.banks:
            continue
        known = known_digests(bank)
        sound = known.no_error
        column = replayed.log.banks.index(bank)
        for pcr in pcrs:
            if pcr in FIRMWARE_PCRS and (events := replayed.log.registers.get(pcr)):
                found = [
                    event for event in events if event[2] == _SEPARATOR or event[4][column] == sound
                ]
                if len(found) != 1 or not _is_sound(found[0], column, sound):
                    found = [event for event in found if is_separator(event, column, known)]
                    findings += _separator_findings(pcr, found, column, sound)
    return tuple(dict.fromkeys(findings))


def _is_sound(event: Event, column: int, sound: bytes) -> bool:
    return event[2] == _SEPARATOR and event[4][column] == sound and event[5] == NO_ERROR


def _separator_findings(
    pcr: int, separators: Sequence[Event], column: int, sound: bytes
) -> Iterator[Finding]:
    for event in separators:
        digest = event.digest_values[column]
        if digest != sound:
            yield Finding(
                f"eventlog.pcr{pcr}.separator-invalid",
                f"event {event.number}, PCR {pcr}: the separator reports a firmware error, or is "
                "none",
                pcr=pcr,
                event=event.number,
                expected=sound.hex(),
                seen=digest.hex(),
            )
        elif event.unverified_data != NO_ERROR:
            yield Finding(
                f"eventlog.pcr{pcr}.separator-altered",
                f"event {event.number}, PCR {pcr}: the log's separator is not what was measured",
                pcr=pcr,
                event=event.number,
                expected=NO_ERROR.hex(),
                seen=event.unverified_data[:_SHOWN].hex(),
            )
        elif event.type != _SEPARATOR:
            yield Finding(
                f"eventlog.pcr{pcr}.separator-retyped",
                f"event {event.number}, PCR {pcr}: a separator is logged as something else",
                pcr=pcr,
                event=event.number,
            )
    count = len(separators)
    if count != 1:
        problem = "missing" if count == 0 else "repeated"
        yield Finding(
            f"eventlog.pcr{pcr}.separator-{problem}",
            f"PCR {pcr} has {count} separators; exactly one must end the firmware's measurements.",
            pcr=pcr,
            expected="1",
            seen=str(count),
        )
