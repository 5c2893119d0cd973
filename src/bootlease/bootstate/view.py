"""The part of a log that a quote attested, PCR by PCR.

Specification: TCG PFP 1.06 §10 (events), §3.3.4 (PCR usage).

This is the one door to events for whatever gives them a meaning: it shows only events of attested
PCRs, only in the bank that was quoted, and only in the order within one PCR, which is all that a
quote proves (attacks A3, A5, A7, D14). EV_NO_ACTION events extend nothing and are not shown.

The caller vouches that replay led to the quoted values; :mod:`bootlease.appraisal.bootlog` checks
it. PCRs of CCELs are measurement registers there and TCG PCRs here (see ``ccel``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from bootlease.bootstate.ccel import register_of
from bootlease.eventlog import (
    Event,
    EventType,
    LogFormat,
    ReplayedLog,
    VerifiedData,
    verified_data,
)
from bootlease.eventlog.hashes import hash_constructor
from bootlease.frozen import quick_init
from bootlease.model import PCR_COUNT, HashAlg

_EV_NO_ACTION: Final = int(EventType.EV_NO_ACTION)
_NONE: Final[tuple[Event, ...]] = ()


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class AttestedLog:
    """A replayed log, seen through one bank and the PCRs that a quote attested.

    Make one with :meth:`of`.

    Attributes:
        replayed: The log.
        bank: The quoted bank.
        column: Where that bank's digest stands in ``Event.digest_values``.
        attested: Attested PCRs; of a CCEL, measurement registers.
        registers: Extending events by attested PCR, or register, in order.
        is_ccel: Whether the log's indices are measurement registers.
    """

    replayed: ReplayedLog
    bank: HashAlg
    column: int
    attested: frozenset[int]
    registers: Mapping[int, tuple[Event, ...]]
    is_ccel: bool

    @classmethod
    def of(
        cls, replayed: ReplayedLog, bank: HashAlg, attested: Collection[int] | None = None
    ) -> AttestedLog:
        """Look at ``replayed`` through what was quoted.

        Args:
            replayed: A log whose replay led to the quoted values of ``attested``.
            bank: The bank that was quoted.
            attested: PCRs that were quoted and that the replay led to; ``None`` takes all, for
                people who read a log that nobody attested. Of a CCEL, measurement registers.

        Raises:
            ValueError: The log has no digests of this bank, or this build cannot compute them, so
                that no fact can come from it.
        """
        log = replayed.log
        if bank not in log.banks or hash_constructor(bank) is None:
            raise ValueError(f"the log has no digests of bank {bank.label} that can be checked")
        column = log.banks.index(bank)
        shown = frozenset(range(PCR_COUNT)) if attested is None else frozenset(attested)
        registers = {pcr: events for pcr, events in log.registers.items() if pcr in shown}
        return cls(replayed, bank, column, shown, registers, log.format is LogFormat.CCEL)

    def attests(self, pcr: int) -> bool:
        """Tell whether the events of a TCG PCR are attested."""
        return (register_of(pcr) if self.is_ccel else pcr) in self.attested

    def events(self, pcr: int) -> tuple[Event, ...]:
        """Return what extends a TCG PCR, in order; nothing where it is not attested.

        In a CCEL, several PCRs share a register: the events of the others are among them.
        """
        return self.registers.get(register_of(pcr) if self.is_ccel else pcr, _NONE)

    def digest(self, event: Event) -> bytes:
        """Return an event's digest in the quoted bank."""
        return event[4][self.column]

    def verified(self, event: Event) -> VerifiedData | None:
        """Return the part of an event's data that its digest proves, if any."""
        return verified_data(event, self.bank)
