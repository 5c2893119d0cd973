"""Small attested logs, one measurement at a time, for tests of what a boot means.

A measurement names what was measured apart from what the log says of it, so that a test can have
the log lie. Nothing is quoted: the log is taken as attested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import EventRecord, encode_event_log, parse_event_log, replay
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement and what the log says of it.

    Attributes:
        pcr: PCR, or register of a CCEL.
        type: Event type.
        data: What the log holds.
        measured: What the digest is over; ``None`` for the data itself.
    """

    pcr: int
    type: int
    data: bytes
    measured: bytes | None = None


def attested_log(
    *measurements: Measurement,
    bank: HashAlg = HashAlg.SHA256,
    attested: Collection[int] | None = None,
    ccel: bool = False,
) -> AttestedLog:
    """Return a log of ``measurements`` as a quote over ``attested`` would show it.

    The first measurement is event number 1.

    Args:
        measurements: In the order of the log.
        bank: The only bank of the log.
        attested: PCRs that count as quoted, ``None`` for all.
        ccel: The log is that of a confidential virtual machine.
    """
    records = [
        EventRecord(each.pcr, each.type, {bank: bank.digest(_preimage(each))}, each.data)
        for each in measurements
    ]
    log = parse_event_log(encode_event_log(records, [bank]), ccel=ccel)
    return AttestedLog.of(replay(log), bank, attested)


def _preimage(measurement: Measurement) -> bytes:
    return measurement.data if measurement.measured is None else measurement.measured
