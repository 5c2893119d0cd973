"""From a challenge to evidence: quote, logs and request, bound together.

Layout: docs/protocol.md, "Evidence" and "Binding". No state and no clock here: who calls decides
which lineage is continued and whether the log goes along.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.evidence import (
    Binding,
    Challenge,
    Evidence,
    LeaseRequest,
    confirmation_digest,
    log_digest,
    scope_digest,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.model import ClockInfo
from bootlease.ports import TPMDevice
from bootlease.tpm import parse_attest

EVENT_LOG: Final = "tcg"


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
        core = self.evidence.without_logs().encode() if self.has_log else data
        object.__setattr__(self, "digest", hashlib.sha256(core).digest())

    @property
    def has_log(self) -> bool:
        """The event log itself goes along, not only its digest."""
        return EVENT_LOG in self.evidence.logs

    def with_log(self) -> Attestation:
        """Return the same evidence, under the same quote, with its event log."""
        full = dataclasses.replace(self.evidence, logs={EVENT_LOG: self.log})
        return Attestation(full, self.log, self.clock)


def attest(
    device: TPMDevice,
    challenge: Challenge,
    leases: Sequence[LeaseRequest],
    *,
    previous: bytes | None,
    log: bytes,
    include_log: bool,
) -> Attestation:
    """Quote for ``challenge`` and put the evidence together.

    Args:
        device: The node's TPM.
        challenge: What the verifier asked.
        leases: What is asked for, and for which keys.
        previous: Head of the lineage to continue, or None to begin one.
        log: The event log of this boot.
        include_log: Send it whole; otherwise by digest, for a verifier that has seen it.

    Raises:
        TransportError: The TPM cannot be reached or refuses.
        MalformedError: The TPM gave something that is no quote.
    """
    binding = Binding(
        nonce=challenge.nonce,
        previous=previous,
        scope=scope_digest(leases),
        confirmation=confirmation_digest(leases),
        logs={EVENT_LOG: log_digest(log)},
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
        logs={EVENT_LOG: log} if include_log else {},
    )
    return Attestation(evidence, log, parse_attest(quoted.attest).clock_info)
