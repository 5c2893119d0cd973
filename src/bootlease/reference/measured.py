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
    EventType,
    ReplayedLog,
    contradicts_digest,
    describe,
)
from bootlease.model import HashAlg

_EV_NO_ACTION: Final = int(EventType.EV_NO_ACTION)
_FIRST_DYNAMIC_PCR: Final = 17
_LAST_DYNAMIC_PCR: Final = 22

Measured = tuple[tuple[int, bytes], Event]
"""Type and digest of an event, which must match, and the event."""


def measured_events(
    log: EventLog, bank: HashAlg, pcrs: Collection[int]
) -> Mapping[int, Sequence[Measured]]:
    """Return, for each of ``pcrs``, the events that extended it in ``bank``, in order."""
    by_pcr: dict[int, list[Measured]] = {pcr: [] for pcr in pcrs}
    if bank not in log.banks:
        return by_pcr
    column = log.banks.index(bank)
    for event in log.events:
        _, pcr, event_type, _, digests, _ = event
        if event_type != _EV_NO_ACTION and pcr in by_pcr:
            by_pcr[pcr].append(((event_type, digests[column]), event))
    return by_pcr


def expected_value(replayed: ReplayedLog, bank: HashAlg, pcr: int) -> bytes:
    """Return the value that the log leads to, which is the reset value where it extends nothing.

    Reset values: TCG PC Client Platform TPM Profile 1.05 §4.6.2 (ones for PCRs 17 to 22).
    """
    value = replayed.pcrs.get(bank, {}).get(pcr)
    if value is not None:
        return value
    if _FIRST_DYNAMIC_PCR <= pcr <= _LAST_DYNAMIC_PCR:
        return b"\xff" * bank.size
    locality = replayed.log.startup_locality if pcr == 0 else 0
    return bytes(bank.size - 1) + bytes([locality])


def describe_measured(event: Event, bank: HashAlg) -> str:
    """Return a phrase for an event of an untrusted log, marked where its text is not true."""
    text = describe(event)
    if contradicts_digest(event, bank):
        return f"{text} (the log's text for it is not what was measured)"
    return text
