"""The events of a replayed log as the PCRs saw them: in order, one bank, nothing unmeasured.

What an event's text says is data of an untrusted log: it is escaped wherever it is shown, and
said to be untrue where its digest shows so (attack D1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from bootlease.eventlog import (
    Event,
    EventLog,
    ReplayedLog,
    contradicts_digest,
    describe,
)
from bootlease.eventlog.replay import start_value
from bootlease.model import HashAlg

DYNAMIC_PCRS: Final = frozenset(range(17, 23))
"""PCRs of a dynamic launch (TCG PTP 1.05 §4.6.2), whose events are in no log of firmware's."""

Measured = tuple[tuple[int, bytes], Event]
"""Type and digest of an event, which must match, and the event."""


def measured_events(
    log: EventLog, bank: HashAlg, pcrs: Collection[int]
) -> Mapping[int, Sequence[Measured]]:
    """Return, for each of ``pcrs``, the events that extended it in ``bank``, in order."""
    if bank not in log.banks:
        return dict.fromkeys(pcrs, ())
    column = log.banks.index(bank)
    return {
        pcr: [((event[2], event[4][column]), event) for event in log.registers.get(pcr, ())]
        for pcr in pcrs
    }


def expected_value(replayed: ReplayedLog, bank: HashAlg, pcr: int) -> bytes:
    """Return the value that the log leads to, which is the reset value where it extends nothing.

    Reset values: TCG PC Client Platform TPM Profile 1.05 §4.6.2 (ones for PCRs 17 to 22).
    """
    value = replayed.pcrs.get(bank, {}).get(pcr)
    if value is not None:
        return value
    if pcr in DYNAMIC_PCRS:
        return b"\xff" * bank.size
    return start_value(replayed.log, bank, pcr)


def describe_measured(event: Event, bank: HashAlg) -> str:
    """Return a phrase for an event of an untrusted log, marked where its text is not true."""
    text = describe(event)
    if contradicts_digest(event, bank):
        return f"{text} (the log's text for it is not what was measured)"
    return text
