"""Policy: what a node must prove, and what it may then be granted. Valid by construction.

Nothing here has an accepting default, and what widens trust beyond proof carries ``unsafe`` in
its name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bootlease import cbor
from bootlease.evidence.request import MAX_AUDIENCE
from bootlease.ima import IMA_PCR
from bootlease.model import PCR_COUNT, Effect, HashAlg
from bootlease.policy.authorization import Authorization
from bootlease.policy.boot import BootPolicy, IMAPolicy, Mode
from bootlease.policy.enrolment import EnrolmentPolicy
from bootlease.reference import is_reference_name
from bootlease.token import PolicyClaim

MAX_LIFE: Final = 900
"""Ceiling of a lease's life in seconds (design: 15 minutes)."""

MAX_CONTINUITY: Final = 300
"""Ceiling of the seconds for which relying parties take a continuity statement's word."""

MAX_DELEGATION_DEPTH: Final = 8
MAX_LEASES: Final = 256
MAX_LIST: Final = 4096
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
WEAK_BANKS: Final = frozenset({HashAlg.SHA1})
RESETTABLE_PCRS: Final = frozenset({16, 23})
POLICY_TYPE: Final = "bootlease/policy/1"


def _distinct(values: tuple[object, ...], what: str, *, empty: bool = False) -> None:
    if not values and not empty:
        raise ValueError(f"{what} must not be empty")
    if len(values) > MAX_LIST:
        raise ValueError(f"{what} has more than {MAX_LIST} entries")
    if len(set(values)) != len(values):
        raise ValueError(f"{what} lists something twice")


@dataclass(frozen=True, slots=True)
class QuotePolicy:
    """What must be quoted.

    Attributes:
        banks: PCR banks, each of which must be quoted and replay.
        pcrs: PCRs, in every bank.
        unsafe_clock: What a clock that the TPM calls unsafe does to a decision.
        selection: The same as PCRs by bank.
    """

    banks: tuple[HashAlg, ...]
    pcrs: tuple[int, ...]
    unsafe_clock: Effect
    selection: Mapping[HashAlg, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _distinct(self.banks, "quote.banks")
        _distinct(self.pcrs, "quote.pcrs")
        if weak := [bank.label for bank in self.banks if bank in WEAK_BANKS]:
            raise ValueError(f"quote.banks: bank {weak[0]} proves nothing, its hash is broken")
        for pcr in self.pcrs:
            if not 0 <= pcr < PCR_COUNT:
                raise ValueError(f"quote.pcrs: there is no PCR {pcr}")
            # D19: anybody on the node resets and extends these two at will.
            if pcr in RESETTABLE_PCRS:
                raise ValueError(f"quote.pcrs: PCR {pcr} can be reset by anybody on the node")
        # As in the digest: policies of one digest must judge alike, findings' order included.
        banks, pcrs = tuple(sorted(self.banks)), tuple(sorted(self.pcrs))
        object.__setattr__(self, "banks", banks)
        object.__setattr__(self, "selection", dict.fromkeys(banks, pcrs))


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """For how long and for whom leases are; for what is ``Authorization``'s.

    Attributes:
        life: Seconds a lease lives, counted from the challenge.
        continuity: Seconds for which a continuity statement counts: how late a relying party may
            hear that a lease has ended.
        audiences: Relying parties that leases may be for.
        unsafe_bearer_audiences: Those of them that may get bearer tokens, which whoever steals
            one can use.
        delegation_depth: Links that a chain of delegated leases may have; 0 for no delegation.
        max_leases: Leases that one evidence document may ask for.
    """

    life: int
    continuity: int
    audiences: frozenset[str]
    unsafe_bearer_audiences: frozenset[str]
    delegation_depth: int
    max_leases: int

    def __post_init__(self) -> None:
        if not 0 < self.life <= MAX_LIFE:
            raise ValueError(f"lease.life is 1 to {MAX_LIFE} seconds, not {self.life}")
        if not 0 < self.max_leases <= MAX_LEASES:
            raise ValueError(f"lease.max_leases is 1 to {MAX_LEASES}, not {self.max_leases}")
        if not 0 < self.continuity <= MAX_CONTINUITY:
            raise ValueError(
                f"lease.continuity is 1 to {MAX_CONTINUITY} seconds, not {self.continuity}"
            )
        if not 0 <= self.delegation_depth <= MAX_DELEGATION_DEPTH:
            raise ValueError(
                f"lease.delegation_depth is 0 to {MAX_DELEGATION_DEPTH}, not"
                f" {self.delegation_depth}"
            )
        if not 0 < len(self.audiences) <= MAX_LIST:
            raise ValueError(f"lease.audiences has 1 to {MAX_LIST} entries")
        for audience in self.audiences:
            if not 0 < len(audience) <= MAX_AUDIENCE or not audience.isprintable():
                raise ValueError(f"lease.audiences: {audience!r:.80} is no audience")
        for audience in sorted(self.unsafe_bearer_audiences - self.audiences):
            raise ValueError(
                f"lease.unsafe_bearer_audiences: {audience!r:.80} is not in lease.audiences"
            )


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy.

    Attributes:
        id: Its name.
        mode: What becomes of a decision by it.
        quote: What must be quoted.
        accept: Names of the reference sets that a boot may match.
        boot: What the events of a boot must mean.
        ima: What the files that the running system loaded must be.
        lease: For how long and for whom leases are.
        authorization: Which scope a node may have.
        enrolment: Who may enrol.
        boot_selection: The PCRs that the boot's own logs must explain: of those in ``quote`` all
            but PCR 10 where IMA is appraised, for it moves with every file that is opened.
        digest: SHA-256 of the canonical form: the same for files that differ in layout only.
    """

    id: str
    mode: Mode
    quote: QuotePolicy
    accept: tuple[str, ...]
    boot: BootPolicy
    ima: IMAPolicy
    lease: LeasePolicy
    authorization: Authorization
    enrolment: EnrolmentPolicy
    boot_selection: Mapping[HashAlg, tuple[int, ...]] = field(init=False, repr=False, compare=False)
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id {self.id!r:.80} is 1 to 64 letters, digits and . _ -")
        _distinct(self.accept, "references.accept")
        for name in self.accept:
            if not is_reference_name(name):
                raise ValueError(f"references.accept: {name!r:.80} is no reference name")
        self.boot.demand_pcrs(self.quote.pcrs)
        object.__setattr__(self, "boot_selection", self._boot_selection())
        object.__setattr__(self, "accept", tuple(sorted(self.accept)))
        object.__setattr__(self, "digest", hashlib.sha256(self.encode()).digest())

    def _boot_selection(self) -> Mapping[HashAlg, tuple[int, ...]]:
        if not self.ima.required:
            return self.quote.selection
        if IMA_PCR not in self.quote.pcrs:
            raise ValueError('ima: appraise = "required" needs PCR 10 in quote.pcrs')
        return {
            bank: tuple(pcr for pcr in pcrs if pcr != IMA_PCR)
            for bank, pcrs in self.quote.selection.items()
        }

    def __hash__(self) -> int:
        # The digest says everything, and a byte string keeps its hash.
        return hash(self.digest)

    def encode(self) -> bytes:
        """Return the canonical form: deterministic CBOR, unordered lists sorted."""
        quote, lease, enrolment = self.quote, self.lease, self.enrolment
        return cbor.encode(
            {
                "type": POLICY_TYPE,
                "id": self.id,
                "mode": self.mode.value,
                "banks": sorted(int(bank) for bank in quote.banks),
                "pcrs": sorted(quote.pcrs),
                "unsafe_clock": quote.unsafe_clock.value,
                "accept": sorted(self.accept),
                "boot": self.boot.wire(),
                "ima": self.ima.wire(),
                "life": lease.life,
                "continuity": lease.continuity,
                "audiences": sorted(lease.audiences),
                "unsafe_bearer_audiences": sorted(lease.unsafe_bearer_audiences),
                "delegation_depth": lease.delegation_depth,
                "max_leases": lease.max_leases,
                "cedar": self.authorization.cedar,
                **enrolment.wire(),
            }
        )


@dataclass(frozen=True, slots=True)
class PolicyEpoch:
    """A policy as it was activated.

    Attributes:
        policy: The policy.
        epoch: 1 for the first activation, one more for each further one.
        claim: What tokens say of it.
    """

    policy: Policy
    epoch: int
    claim: PolicyClaim = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise ValueError("epochs count from 1")
        claim = PolicyClaim(self.policy.id, self.policy.digest, self.epoch)
        object.__setattr__(self, "claim", claim)
