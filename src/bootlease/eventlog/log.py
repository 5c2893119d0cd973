"""The values a parsed event log is made of.

Specifications: TCG PFP 1.06 §10.2 (event records), §10.4.5.1 (Spec ID event); ACPI 6.5
§5.2.35 with the Intel TDX Guest-Hypervisor Communication Interface 1.5 §4.3.3 (CCEL: the
same records, whose PCR index is a measurement register index).

Everything here is unverified: what a log says counts only once its replay equals quoted PCRs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from bootlease.frozen import quick_init
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class EventLogLimits:
    """What a log may cost before it is refused.

    Attributes:
        max_bytes: Length of the whole log. ACPI tables announce 64 KiB to 256 KiB; a Windows
            log with the headers of every early driver reaches a few MiB.
        max_events: Records in a log. Real boots stay below 1,000; a GRUB script that measures
            every command in a loop reaches tens of thousands.
        max_algorithms: Digest algorithms in the Spec ID event. No TPM has more banks than the
            16 of TPM2_NUM_PCR_BANKS in the TSS 2.0 headers.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_events: int = 100_000
    max_algorithms: int = 16


DEFAULT_LIMITS: Final = EventLogLimits()


class LogFormat(enum.Enum):
    """How a log's records are laid out and what their index means."""

    CRYPTO_AGILE = "agile"
    SHA1 = "sha1"
    CCEL = "ccel"


class Event(NamedTuple):
    """One record of a log.

    A tuple, because a log of a hundred events is built on every cold appraisal and a frozen
    dataclass costs eight times as much to make.

    Attributes:
        number: Position in the log; the Spec ID event of a crypto-agile log is number 0.
        pcr: PCR index (CCEL: measurement register index).
        type: Event type; unknown numbers are kept.
        bank_ids: TPM_ALG_IDs of the digests, shared by the events of a log.
        digest_values: The digests, in the order of ``bank_ids``. They are what a quote attests.
        unverified_data: The event's data. Nothing attests it until a digest over it has been
            recomputed; see :func:`~bootlease.eventlog.coverage.verified_data`.
    """

    number: int
    pcr: int
    type: int
    bank_ids: tuple[int, ...]
    digest_values: tuple[bytes, ...]
    unverified_data: bytes

    @property
    def digests(self) -> Mapping[int, bytes]:
        """The digests by TPM_ALG_ID."""
        return dict(zip(self.bank_ids, self.digest_values, strict=True))

    def digest(self, bank: int) -> bytes | None:
        """Return the digest of one bank, ``None`` if the event has none."""
        try:
            return self.digest_values[self.bank_ids.index(bank)]
        except ValueError:
            return None


@quick_init
@dataclass(frozen=True, slots=True)
class EventLog:
    """A well-formed log, its claims unverified.

    Attributes:
        format: Layout, and what an index means.
        digest_sizes: Digest length by TPM_ALG_ID as the Spec ID event states it, in its
            order; includes algorithms this program does not know.
        banks: The banks that every extending event has a digest for. A bank of
            ``digest_sizes`` that is missing here is idle: the firmware extends nothing in it.
        events: The records in order, the Spec ID event included.
        registers: The records that extend each PCR, in order: all that a quote says of order.
        startup_locality: Locality of TPM2_Startup as the log states it in time, else 0.
        padding: Bytes of fill after the last record.
    """

    format: LogFormat
    digest_sizes: Mapping[int, int]
    banks: tuple[int, ...]
    events: tuple[Event, ...]
    registers: Mapping[int, tuple[Event, ...]]
    startup_locality: int
    padding: int


def bank_label(algorithm: int) -> str:
    """Return a bank's name, for example ``sha256``, or ``alg_0x0099`` for an unknown one."""
    alg = KNOWN_ALGORITHMS.get(algorithm)
    return alg.label if alg is not None else f"alg_0x{algorithm:04x}"


KNOWN_ALGORITHMS: Final[Mapping[int, HashAlg]] = {int(alg): alg for alg in HashAlg}
"""The algorithms whose digest size is known, by TPM_ALG_ID."""
