"""A boot as it is explained: its log, what a quote says of it, and what policy demands.

Only the events of PCRs to which the log leads are looked into: the others are nobody's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bootlease.appraisal.bootlog import check_replay
from bootlease.appraisal.phases import check_phases
from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import ReplayedLog
from bootlease.model import HashAlg, PCRValues
from bootlease.policy import Policy
from bootlease.reference.bootfacts import FactsByBank


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot.

    Attributes:
        replayed: Its log.
        quoted: Values of a verified quote, boot phases taken off PCR 11.
        required: PCRs that policy demands of a boot, by bank.
        attested: Those of them that were quoted and that the log leads to.
        facts: What their events mean.
    """

    replayed: ReplayedLog
    quoted: PCRValues
    required: Mapping[HashAlg, Sequence[int]]
    attested: Mapping[HashAlg, frozenset[int]] = field(init=False)
    facts: FactsByBank = field(init=False, repr=False)

    def __post_init__(self) -> None:
        missed = {
            finding.pcr for finding in check_replay(self.replayed, self.quoted, self.required)
        }
        attested = {
            bank: frozenset(
                pcr for pcr in pcrs if pcr not in missed and pcr in self.quoted.get(bank, {})
            )
            for bank, pcrs in self.required.items()
            if bank in self.replayed.log.banks
        }
        object.__setattr__(self, "attested", attested)
        object.__setattr__(self, "facts", FactsByBank(self.replayed, attested))

    @classmethod
    def of(cls, replayed: ReplayedLog, quoted: PCRValues, policy: Policy) -> Boot:
        """Look at a boot as a policy does."""
        required = policy.boot_selection
        values, _ = check_phases(replayed, quoted, required, policy.boot.phases)
        return cls(replayed, values, required)

    @property
    def banks(self) -> tuple[HashAlg, ...]:
        """Banks of which something is attested, in the order in which policy demands them."""
        return tuple(self.attested)

    def view(self, bank: HashAlg) -> AttestedLog:
        """Return what one bank attests."""
        return AttestedLog.of(self.replayed, bank, self.attested[bank])
