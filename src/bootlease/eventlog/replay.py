"""Recomputing PCRs from the records of a log.

Specifications: TCG PFP 1.06 §3.3.3 and §10.4.5.3 (start value of PCR 0), §10.4.1 (EV_NO_ACTION
is never extended, EV_EFI_HCRTM_EVENT); TPM 2.0 Library part 1 §17.2 (extend), §34.2 (H-CRTM).

Replay proves nothing by itself: digests are attested once the recomputed PCRs equal those of
a verified quote, in the same bank. Event data is not attested even then.
Not handled: PCRs 17 to 22 after a dynamic launch, which start elsewhere than at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootlease.eventlog.eventtypes import EventType
from bootlease.eventlog.hashes import hash_constructor
from bootlease.eventlog.log import KNOWN_ALGORITHMS, LogFormat
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from bootlease.eventlog.log import EventLog
    from bootlease.model import PCRValues

_HCRTM_LOCALITY: Final = 4


@dataclass(frozen=True, slots=True)
class ReplayedLog:
    """A log and the PCRs that its digests lead to.

    Attributes:
        log: The log; its events keep ``digests``, which a matching quote attests, apart from
            ``unverified_data``, which it does not.
        pcrs: By bank and index, the value of every PCR that the log extends. A bank in which
            the log extends nothing maps to no PCRs.
        unreplayed: Banks that the log extends and this build has no hash function for.
    """

    log: EventLog
    pcrs: PCRValues
    unreplayed: tuple[int, ...]


def replay(log: EventLog, banks: Collection[int] | None = None) -> ReplayedLog:
    """Recompute PCRs from zero, or from the startup locality for PCR 0.

    Args:
        log: An unverified log.
        banks: The banks to replay, ``None`` for all. One that the log does not have is
            missing from the result.
    """
    pcrs: dict[HashAlg, Mapping[int, bytes]] = {}
    unreplayed: list[int] = []
    for bank in log.digest_sizes:
        if banks is not None and bank not in banks:
            continue
        alg = KNOWN_ALGORITHMS.get(bank)
        new_hash = None if alg is None else hash_constructor(alg)
        if alg is None or new_hash is None:
            unreplayed.append(bank)
        elif bank in log.banks:
            pcrs[alg] = _replay_bank(log, alg, new_hash)
        else:
            pcrs[alg] = {}
    return ReplayedLog(log=log, pcrs=pcrs, unreplayed=tuple(unreplayed))


def _replay_bank(log: EventLog, alg: HashAlg, new_hash: Callable[[bytes], Any]) -> dict[int, bytes]:
    column = log.banks.index(alg)
    zeros = bytes(alg.size)
    values: dict[int, bytes] = {}
    for pcr, events in log.registers.items():
        value = zeros if pcr else start_value(log, alg, pcr)
        for event in events:
            value = new_hash(value + event[4][column]).digest()
        values[pcr] = value
    return values


def start_value(log: EventLog, bank: HashAlg, pcr: int) -> bytes:
    """Return what a PCR held before the first event that the log extends it by."""
    return bytes(bank.size) if pcr else bytes([*bytes(bank.size - 1), pcr0_locality(log)])


def pcr0_locality(log: EventLog) -> int:
    """Return the last byte of PCR 0 before its first extend.

    An H-CRTM sequence runs before TPM2_Startup and resets PCR 0 to 4 (part 1 §34.2), whatever
    the startup locality. An H-CRTM record that is not the first of PCR 0 started nothing.
    """
    if log.format is LogFormat.CCEL:
        return 0
    events = log.registers.get(0)
    if events and events[0].type == EventType.EV_EFI_HCRTM_EVENT:
        return _HCRTM_LOCALITY
    return log.startup_locality
