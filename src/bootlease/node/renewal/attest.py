"""From a challenge to evidence: quote, logs and request, bound together; then the IMA list.

Layout: docs/protocol.md, "Evidence" and "Binding". The IMA list is read once the quote is made: it
may run ahead of what was quoted, and must not be behind. No state and no clock here: who calls
decides which lineage is continued and whether the log goes along.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.evidence import (
    IMA_LIST,
    TCG_LOG,
    Binding,
    Challenge,
    Evidence,
    IMASegment,
    LeaseRequest,
    confirmation_digest,
    log_digest,
    scope_digest,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.model import ClockInfo
from bootlease.node.ima import IMASource
from bootlease.ports import TPMDevice
from bootlease.tpm import parse_attest

LOG_WANTED: Final = frozenset({"eventlog.unavailable"})
"""What is found where the event log itself is asked for; the challenge still stands."""
LIST_WANTED: Final = frozenset({"ima.list.wanted"})
"""What is found where the IMA list is asked for from its first entry; the challenge stands too."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """Evidence that is ready to be sent.

    Attributes:
        evidence: The document, as a value.
        log: The event log that it names by digest.
        clock: What the TPM said of its counters: which boot this is.
        data: The document's bytes.
        digest: The evidence digest: SHA-256 of the document with its logs left out.
    """

    evidence: Evidence
    log: bytes
    clock: ClockInfo
    data: bytes = dataclasses.field(init=False)
    digest: bytes = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        data = self.evidence.encode()
        object.__setattr__(self, "data", data)
        core = self.evidence.without_logs().encode() if self.evidence.logs else data
        object.__setattr__(self, "digest", hashlib.sha256(core).digest())

    @property
    def has_log(self) -> bool:
        """The event log itself goes along, not only its digest."""
        return TCG_LOG in self.evidence.logs

    def completed(self, wanted: Collection[str], ima: IMASource | None) -> Attestation | None:
        """Return the same evidence with what a verifier asks for; None if that is nothing more.

        Args:
            wanted: Ids of the findings that refuse.
            ima: The IMA list of this boot.

        Raises:
            TransportError: The list cannot be read.
        """
        if set(wanted) == LOG_WANTED and not self.has_log:
            return self.with_log()
        if set(wanted) == LIST_WANTED and ima is not None and not self.has_whole_list:
            return self.with_whole_list(ima)
        return None

    def with_log(self) -> Attestation:
        """Return the same evidence, under the same quote, with its event log."""
        full = dataclasses.replace(self.evidence, logs={**self.evidence.logs, TCG_LOG: self.log})
        return Attestation(full, self.log, self.clock)

    @property
    def has_whole_list(self) -> bool:
        """The IMA list goes along from its first entry, or none was asked for."""
        return self.evidence.ima is None or self.evidence.ima.first == 0

    def with_whole_list(self, source: IMASource) -> Attestation:
        """Return the same evidence, under the same quote, with the IMA list as it is now.

        Raises:
            TransportError: The list cannot be read.
        """
        return Attestation(with_list(self.evidence, source, 0), self.log, self.clock)


def attest(
    device: TPMDevice,
    challenge: Challenge,
    leases: Sequence[LeaseRequest],
    *,
    previous: bytes | None,
    log: bytes,
    include_log: bool,
    ima: IMASource | None = None,
) -> Attestation:
    """Quote for ``challenge`` and put the evidence together.

    Args:
        device: The node's TPM.
        challenge: What the verifier asked.
        leases: What is asked for, and for which keys.
        previous: Head of the lineage to continue, or None to begin one.
        log: The event log of this boot.
        include_log: Send it whole; otherwise by digest, for a verifier that has seen it.
        ima: The IMA list of this boot, for a challenge that asks for it.

    Raises:
        TransportError: The TPM cannot be reached or refuses, or the IMA list cannot be read.
        MalformedError: The TPM gave something that is no quote.
    """
    binding = Binding(
        nonce=challenge.nonce,
        previous=previous,
        scope=scope_digest(leases),
        confirmation=confirmation_digest(leases),
        logs={TCG_LOG: log_digest(log)},
    )
    encoded = binding.encode()
    quoted = device.quote(qualifying_data(encoded), challenge.pcrs)
    evidence = Evidence(
        binding=binding,
        encoded_binding=encoded,
        leases=tuple(leases),
        quote=quoted.attest,
        signature=quoted.signature,
        pcrs=quoted.pcrs,
        logs={TCG_LOG: log} if include_log else {},
    )
    if challenge.ima is not None and ima is not None:
        # Who begins a lineage is believed nothing of what an earlier one has seen.
        evidence = with_list(evidence, ima, 0 if previous is None else challenge.ima)
    return Attestation(evidence, log, parse_attest(quoted.attest).clock_info)


def with_list(evidence: Evidence, source: IMASource, first: int) -> Evidence:
    """Return evidence with the entries of an IMA list from ``first`` on; none if there is no list.

    Raises:
        TransportError: The list cannot be read.
    """
    entries = source.since(first)
    logs = {kind: log for kind, log in evidence.logs.items() if kind != IMA_LIST}
    if entries is None:
        return dataclasses.replace(evidence, logs=logs, ima=None)
    if entries:
        logs[IMA_LIST] = entries
    return dataclasses.replace(evidence, logs=logs, ima=IMASegment.of(first, entries))
